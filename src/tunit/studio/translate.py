"""The part Translate: a source in the style of references, of domains, or of a mix of them.

The page keeps what was chosen, and every request contains all that it needs, so users do not disturb each other.
"""

from importlib.util import find_spec
from typing import Any

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunit.errors import ConfigError
from tunit.pages.document import data_script
from tunit.printing import shown
from tunit.studio.frame import NO_MODEL, page
from tunit.studio.library import Library, png
from tunit.studio.names import domain_names
from tunit.studio.redrawn import Source, data_uri
from tunit.studio.requests import form_of, library_of, number_of, run_of, text_of, whole_of
from tunit.studio.styles import mix_of, stops_of
from tunit.studio.uploads import picture_of
from tunit.studio.workspace import Run
from tunit.translation.classification import classified, learns_domains

MOST_STRENGTH = 2.0
FEWEST_FRAMES, MOST_FRAMES, MOST_STOPS = 2, 120, 8
KINDS = {"webp": "image/webp", "gif": "image/gif", "mp4": "video/mp4"}
PICKED = 2_000  # at most this many pictures of the run are offered for choice


def show(request: Request) -> Response:
    """The page."""
    run, library = run_of(request), library_of(request)
    if not run.has_model:
        return page("Translate", "<h1>Translate</h1>", part="translate", run=run, notice=NO_MODEL)
    body = f"<h1>Translate</h1>{_BODY}{data_script('page-data', _page_data(library, run))}"
    return page(
        f"Translate with {run.name}",
        body,
        part="translate",
        run=run,
        script="translate.js",
        notice=library.undecided(run),
    )


def _page_data(library: Library, run: Run) -> dict[str, Any]:
    translator, names = library.translator(run), domain_names(run)
    number = len(library.pictures(run).names) if run.has_pictures else 0
    return {
        "run": run.key,
        "version": library.version(run),
        "size": translator.image_size,
        "pictures": number,
        "most": PICKED,
        "domains": [
            {"number": k, "name": names.get(k, "")} for k, size in enumerate(translator.domain_sizes) if size
        ],
        "video": find_spec("av") is not None,
    }


async def prepare(request: Request) -> Response:
    """A source as the networks see it, with its style code and its domain, for the page to keep."""
    run, library = run_of(request), library_of(request)
    source = await _source_of(request, library, run, await form_of(request))
    return JSONResponse(await run_in_threadpool(_prepared, source))


def _prepared(source: Source) -> dict[str, Any]:
    """What the page keeps of a source; the picture has no padding, and is made the same square again."""
    if isinstance(source.picture, int):
        pixels = source.library.pixels(source.run, source.picture)
        name = source.library.pictures(source.run).names[source.picture]
        about: dict[str, Any] = {"picture": data_uri(Image.fromarray(pixels)), "aspect": 1.0, "size": None}
    else:
        found = source.prepare(source.picture)
        pixels, name, picture = found.pixels, source.picture.name, found.shown
        size = found.square.shown
        # A stretched picture is a square, but is shown with the proportions that it had.
        width, height = size if source.translator.model.fit == "stretch" else picture.size
        about = {"picture": data_uri(picture), "aspect": width / height, "size": size}
    answer, told = classified(source.translator.guide(pixels)), learns_domains(source.translator.model)
    return about | {
        "name": shown(name)[1:-1],
        "code": [round(value, 6) for value in answer.styles[0].tolist()],
        "domain": int(answer.domains[0]) if told else None,
        "confidence": float(answer.confidences[0]) if told else None,
    }


async def draw(request: Request) -> Response:
    """The source in the style of a mix, as a PNG."""
    run, library = run_of(request), library_of(request)
    form = await form_of(request)
    source = await _source_of(request, library, run, form)
    strength, own_size = _strength_of(form), text_of(form, "own_size") == "1"

    def work() -> bytes:
        """Mix, redraw, encode."""
        mix = mix_of(library, run, text_of(form, "style"))
        return png(source.redrawn(mix[None], strength, own_size=own_size)[0])

    return Response(await run_in_threadpool(work), media_type="image/png")


async def grid(request: Request) -> Response:
    """The source in the average style of every domain."""
    run, library = run_of(request), library_of(request)
    form = await form_of(request)
    source, strength = await _source_of(request, library, run, form), _strength_of(form)

    def work() -> list[dict[str, Any]]:
        """Redraw and encode."""
        return [{"domain": k, "image": data_uri(image)} for k, image in source.everywhere(strength)]

    return JSONResponse({"results": await run_in_threadpool(work)})


async def walk(request: Request) -> Response:
    """The source moving from style to style, as an animation or a video."""
    run, library = run_of(request), library_of(request)
    form = await form_of(request)
    source = await _source_of(request, library, run, form)
    frames = whole_of(text_of(form, "frames", "48"), "the number of frames", FEWEST_FRAMES, MOST_FRAMES)
    kind = text_of(form, "kind", "webp")
    if kind not in KINDS:
        raise ConfigError(f"kind is {shown(kind)}: take one of {', '.join(KINDS)}")

    def work() -> bytes:
        """Redraw and encode."""
        return source.walk(stops_of(library, run, text_of(form, "stops"), MOST_STOPS), frames, f".{kind}")

    return Response(await run_in_threadpool(work), media_type=KINDS[kind])


async def archive(request: Request) -> Response:
    """The source in the style of the mix and of every domain, as a zip."""
    run, library = run_of(request), library_of(request)
    form = await form_of(request)
    source, strength = await _source_of(request, library, run, form), _strength_of(form)
    style = text_of(form, "style")

    def work() -> bytes:
        """Mix, redraw, pack."""
        return source.archive(mix_of(library, run, style) if style else None, strength)

    return Response(await run_in_threadpool(work), media_type="application/zip")


async def _source_of(request: Request, library: Library, run: Run, form: FormData) -> Source:
    """The source in a form: a file, `source`, or the number of one of the run's pictures, `row`."""
    await run_in_threadpool(library.translator, run)  # raises if there is no model
    picture = await picture_of(form, "source")
    if picture is not None:
        return Source(library, run, picture)
    row = text_of(form, "row")
    if not row:
        raise ConfigError("there is no source: give a picture")
    found = whole_of(row, "the number of the picture", 0, 2**40)
    await run_in_threadpool(library.pixels, run, found)  # raises if there is no such picture
    return Source(library, run, found)


def _strength_of(form: FormData) -> float:
    return number_of(text_of(form, "strength", "1"), "the strength", 0, MOST_STRENGTH)


_BODY = """
<p class="lead">Give a source and a style: the source is redrawn in that style, at once.</p>
<div class="panes">
<section class="pane" id="source-pane" aria-labelledby="source-title"><h2 id="source-title">Source</h2>
<label class="drop" id="source-drop"><input type="file" id="source-file" accept="image/*" class="hidden-input">
<img id="source-picture" alt="" hidden><span class="hint"><b>Choose a picture</b><br>or drop or paste one here</span>
</label><div class="tools"><button type="button" id="source-pick">From the run</button></div>
<p class="meta" id="source-about"></p></section>
<section class="pane" id="style-pane" aria-labelledby="style-title"><h2 id="style-title">Style</h2>
<div id="parts" class="parts"></div>
<label class="drop small" id="reference-drop"><input type="file" id="reference-file" accept="image/*" multiple
 class="hidden-input"><span class="hint"><b>Add a reference</b> or drop one here</span></label>
<div class="tools"><button type="button" id="reference-pick">From the run</button></div>
<form class="tools" id="domain-form"><label><span class="visually-hidden">domain to add</span>
<select id="domain-add"><option value="">Choose a domain</option></select></label><button>Add domain</button></form>
<label class="slider">Strength <output id="strength-shown">1.00</output>
<input type="range" id="strength" aria-label="strength" min="0" max="1.5" step="0.05" value="1"></label></section>
<section class="pane" id="result-pane" aria-labelledby="result-title"><h2 id="result-title">Result</h2>
<div class="compare" id="compare"><img id="before" alt="" hidden><img id="after" alt="" hidden>
<i id="edge" hidden></i><span class="hint" id="result-hint">It appears here.</span></div>
<label class="slider" id="compare-label" hidden>Source <input type="range" id="split" min="0" max="100" value="0"
 aria-label="how much of the source is shown"></label>
<div class="tools"><button type="button" id="download" class="primary" disabled>Download</button>
<label id="own-size-label" hidden><input type="checkbox" id="own-size"> in the source's own size</label></div>
<p class="meta" id="result-about" role="status"></p></section></div>
<section aria-labelledby="grid-title"><h2 id="grid-title">In every domain</h2>
<div class="tools"><button type="button" id="grid-draw" disabled>Draw them</button>
<button type="button" id="zip" disabled>Download all (zip)</button></div>
<div id="grid" class="gallery large"></div></section>
<section aria-labelledby="walk-title"><h2 id="walk-title">A walk from style to style</h2>
<div class="tools"><label>from <select id="walk-from"></select></label>
<label>to <select id="walk-to"></select></label>
<label>frames <select id="frames"><option>24</option><option selected>48</option><option>96</option></select></label>
<label>as <select id="kind"><option value="webp">WebP</option><option value="gif">GIF</option></select></label>
<button type="button" id="walk" disabled>Walk</button></div>
<div id="walk-shown" class="walk-shown"></div></section>
<dialog id="picker" aria-labelledby="picker-title"><h2 id="picker-title">Pictures of the run</h2>
<div id="picked" class="gallery"></div><button type="button" id="picker-more">Show more</button>
<div class="tools ends"><button type="button" id="picker-close" class="primary">Close</button></div></dialog>
"""

ROUTES = [
    Route("/runs/{run}/translate", show),
    Route("/runs/{run}/translate/prepare", prepare, methods=["POST"]),
    Route("/runs/{run}/translate/draw", draw, methods=["POST"]),
    Route("/runs/{run}/translate/grid", grid, methods=["POST"]),
    Route("/runs/{run}/translate/walk", walk, methods=["POST"]),
    Route("/runs/{run}/translate/zip", archive, methods=["POST"]),
]

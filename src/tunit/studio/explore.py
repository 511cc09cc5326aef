"""The part Explore: domains as galleries, the map of styles, and single pictures with their neighbours."""

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunit.clustering.outliers import DECIMALS, OFF_TOPIC
from tunit.errors import ConfigError
from tunit.pages.document import data_script
from tunit.printing import printable
from tunit.reporting.remarks import typical_rows
from tunit.studio.frame import address, page, why_not
from tunit.studio.library import Library
from tunit.studio.names import domain_names
from tunit.studio.output_thread import OutputThread
from tunit.studio.requests import library_of, run_of, whole_of
from tunit.studio.run_output import RunOutput
from tunit.studio.shown import example_rows
from tunit.studio.workspace import Run
from tunit.translation.classification import learns_domains

NEIGHBOURS = 12
TYPICAL = 6  # pictures on a domain's card


def show(request: Request) -> Response:
    """The page. Its content is loaded from `pictures`."""
    run, library = run_of(request), library_of(request)
    notice, body = why_not(run, "explore"), ""
    if not notice:
        data = {
            "run": run.key,
            "version": library.version(run),
            "translate": address("translate", run),
            "examples": example_rows(len(library.pictures(run).names)),
        }
        body = _BODY + data_script("page-data", data)
    return page(
        f"Explore {run.name}",
        f"<h1>Explore</h1>{body}",
        part="explore",
        run=run,
        script="explore.js" if body else "",
        notice=notice,
    )


def pictures(request: Request) -> Response:
    """E's output for the pictures; the progress (status 202) while it is being computed.

    `stage` in the query: also give what is known of some of the pictures, if it is newer than this stage.
    """
    run, library = run_of(request), library_of(request)
    stage = request.query_params.get("stage")
    known = None if stage is None else whole_of(stage, "the stage", 0, 10**6)
    thread = library.output(run)
    so_far, complete = thread.so_far, thread.known  # in this order, because another thread sets them
    if complete is not None:
        return JSONResponse(_found(run, library, thread, complete.output) | {"stage": None})
    if known is not None and so_far is not None and so_far.stage > known:
        return JSONResponse(_found(run, library, thread, so_far.output) | {"stage": so_far.stage})
    return JSONResponse({"done": thread.done, "total": thread.total}, 202)


def _found(run: Run, library: Library, thread: OutputThread, output: RunOutput) -> dict[str, Any]:
    """What the page shows. If the current model has another number of domains, these have no names or styles yet."""
    sizes = thread.domain_sizes
    translator = library.translator(run)
    is_current = len(translator.domain_sizes) == len(sizes)
    names = domain_names(run) if is_current else {}
    points = None if output.points is None else np.rint(output.points * 10_000).astype(int)
    return {
        "domains": [
            _domain(output, k, names, with_style=is_current and size > 0) for k, size in enumerate(sizes)
        ],
        "rows": output.rows.tolist(),
        "domain": output.domains.tolist(),
        "x": None if points is None else points[:, 0].tolist(),
        "y": None if points is None else points[:, 1].tolist(),
        "confidence": np.rint(output.confidences * 1000).astype(int).tolist(),
        "outlier": np.rint(output.outliers * 1000).astype(int).tolist(),
        "all": len(library.pictures(run).names),
        "undecided": library.undecided(run),
        # If not, the domains are labels, and there is no confidence.
        "told": learns_domains(translator.model),
    }


def _domain(output: RunOutput, k: int, names: dict[int, str], *, with_style: bool) -> dict[str, Any]:
    """One domain, for its card."""
    members = np.flatnonzero(output.domains == k)
    typical: list[int] = []
    if len(members):
        averages = output.styles[members].mean(0).expand(k + 1, -1)
        typical = typical_rows(output.domains, output.styles, averages, k, TYPICAL).tolist()
    return {
        "number": k,
        "name": names.get(k, ""),
        "size": len(members),
        "confidence": float(output.confidences[members].mean()) if len(members) else 0.0,
        "typical": typical,
        "style": with_style,
    }


def picture(request: Request) -> Response:
    """One picture: its name, E's output, and its neighbours by style. `row` is its number in the run."""
    run, library = run_of(request), library_of(request)
    thread = library.output(run)
    found = thread.known or thread.so_far
    output = None if found is None else found.output
    packed = library.pictures(run)
    row = whole_of(request.path_params["row"], "the number of the picture", 0, len(packed.names) - 1)
    place = None if output is None else output.place_of(row)
    if output is None or place is None:
        raise ConfigError("the model has not looked at this picture yet: wait a little")
    outlier = round(float(output.outliers[place]), DECIMALS)  # saved as float32
    label, told = packed.labels[row], learns_domains(library.translator(run).model)
    return JSONResponse(
        {
            "row": row,
            "name": printable(packed.names[row]),
            "label": printable(packed.classes[label]) if label >= 0 else "",
            "domain": int(output.domains[place]),
            "confidence": float(output.confidences[place]) if told else None,
            "outlier": outlier,
            "off_topic": outlier >= OFF_TOPIC,
            "neighbours": [
                {"row": int(output.rows[other]), "distance": apart}
                for other, apart in output.neighbours(place, NEIGHBOURS)
            ],
        }
    )


_BODY = """
<p class="lead" id="state" role="status">Looking at the pictures ...</p>
<progress id="progress" max="1" value="0" aria-label="pictures looked at"></progress>
<div id="explore" hidden>
<section aria-labelledby="domains-title"><h2 id="domains-title">Domains</h2>
<p class="meta">Choose one or several to see their pictures.</p>
<div id="domains" class="domains"></div></section>
<div class="split">
<section class="map-side" aria-labelledby="map-title"><h2 id="map-title">Map of styles</h2>
<p class="meta" id="map-later">The map follows as soon as enough pictures have been looked at. Everything else can be
 used already.</p>
<div id="map-parts" hidden><div class="tools" role="group" aria-label="the map">
<button type="button" id="lasso" aria-pressed="true">Lasso</button>
<button type="button" id="move" aria-pressed="false">Move</button>
<button type="button" id="closer" aria-label="zoom in">+</button>
<button type="button" id="farther" aria-label="zoom out">&minus;</button>
<button type="button" id="whole">Whole map</button></div>
<div class="map canvas-map"><canvas id="canvas" tabindex="0" role="application"
 aria-label="Map of styles. Arrow keys go from picture to picture, Enter opens one, L shows only the nearest
 pictures in the gallery, plus and minus zoom, Escape shows all."></canvas>
<div id="tip" hidden><img alt="" id="tip-picture"><span id="tip-text"></span></div></div>
<p id="reached" class="visually-hidden" role="status"></p>
<p class="fine">Pictures near each other have similar styles. Draw around some to see only these.</p></div></section>
<section class="gallery-side" aria-labelledby="gallery-title"><h2 id="gallery-title">Pictures</h2>
<div class="tools"><span id="count" role="status"></span>
<label>first <select id="order"><option value="confidence">the surest</option><option value="unsure">the least sure
</option><option value="outlier">the most off-topic</option><option value="name">as in the folder</option></select>
</label><button type="button" id="all" hidden>Show all</button></div>
<div id="gallery" class="gallery"></div>
<button type="button" id="more" hidden>Show more</button></section></div></div>
<dialog id="one" aria-labelledby="one-name"><div class="one">
<figure><img id="one-picture" alt=""></figure>
<div class="about"><h2 id="one-name"></h2><dl id="one-facts"></dl>
<div class="tools"><a class="button primary" id="as-source">Translate it</a>
<a class="button" id="as-reference">Take its style</a></div></div>
<div class="where" id="where-part"><h3>On the map</h3><canvas id="where" role="img"
 aria-label="its place on the map"></canvas></div>
<div class="near"><h3>Nearest in style</h3><div id="neighbours" class="gallery"></div></div></div>
<div class="tools ends"><button type="button" id="previous">&larr; Previous</button>
<button type="button" id="next">Next &rarr;</button>
<button type="button" id="close" class="primary">Close</button></div></dialog>
"""

ROUTES = [
    Route("/runs/{run}/explore", show),
    Route("/runs/{run}/explore/pictures", pictures),
    Route("/runs/{run}/explore/picture/{row}", picture),
]

"""The part Explore: domains as galleries, the map of styles, and single pictures with their neighbours."""

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunit.errors import ConfigError
from tunit.pages.document import data_script
from tunit.printing import printable
from tunit.reporting.remarks import typical_rows
from tunit.studio.frame import address, page, why_not
from tunit.studio.names import domain_names
from tunit.studio.requests import library_of, run_of, whole_of
from tunit.studio.seen import Seen
from tunit.studio.shown import example_rows

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
    """E's output for the pictures; the progress (status 202) while it is being computed."""
    run, library = run_of(request), library_of(request)
    look = library.look(run)
    seen = look.seen
    if seen is None:
        return JSONResponse({"done": look.done, "total": look.total}, 202)
    names, sizes = domain_names(run), library.translator(run).domain_sizes
    domains = [_domain(seen, k, names, with_style=size > 0) for k, size in enumerate(sizes)]
    return JSONResponse(
        {
            "domains": domains,
            "rows": seen.rows.tolist(),
            "domain": seen.domains.tolist(),
            "x": np.rint(seen.points[:, 0] * 10_000).astype(int).tolist(),
            "y": np.rint(seen.points[:, 1] * 10_000).astype(int).tolist(),
            "confidence": np.rint(seen.confidences * 1000).astype(int).tolist(),
            "outlier": np.rint(seen.outliers * 1000).astype(int).tolist(),
            "all": len(library.pictures(run).names),
        }
    )


def _domain(seen: Seen, k: int, names: dict[int, str], *, with_style: bool) -> dict[str, Any]:
    """One domain, for its card."""
    members = np.flatnonzero(seen.domains == k)
    typical: list[int] = []
    if len(members):
        averages = seen.styles[members].mean(0).expand(k + 1, -1)
        typical = typical_rows(seen.domains, seen.styles, averages, k, TYPICAL).tolist()
    return {
        "number": k,
        "name": names.get(k, ""),
        "size": len(members),
        "confidence": float(seen.confidences[members].mean()) if len(members) else 0.0,
        "typical": typical,
        "style": with_style,
    }


def picture(request: Request) -> Response:
    """One picture: its name, E's output, and its neighbours by style. `place` is its index in `pictures`."""
    run, library = run_of(request), library_of(request)
    look = library.look(run)
    if look.seen is None:
        raise ConfigError("the model is still working on the pictures: wait a little")
    place = whole_of(request.path_params["place"], "the number of the picture", 0, look.total - 1)
    row = int(look.seen.rows[place])
    packed = library.pictures(run)
    label = packed.labels[row]
    return JSONResponse(
        {
            "place": place,
            "row": row,
            "name": printable(packed.names[row]),
            "label": printable(packed.classes[label]) if label >= 0 else "",
            "domain": int(look.seen.domains[place]),
            "confidence": float(look.seen.confidences[place]),
            "outlier": float(look.seen.outliers[place]),
            "neighbours": [
                {"place": other, "distance": apart}
                for other, apart in look.seen.neighbours(place, NEIGHBOURS)
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
<div class="tools" role="group" aria-label="the map">
<button type="button" id="lasso" aria-pressed="true">Lasso</button>
<button type="button" id="move" aria-pressed="false">Move</button>
<button type="button" id="closer" aria-label="closer">+</button>
<button type="button" id="farther" aria-label="farther">&minus;</button>
<button type="button" id="whole">Whole map</button></div>
<div class="map canvas-map"><canvas id="canvas" tabindex="0" role="application"
 aria-label="Map of styles. Arrow keys go from picture to picture, Enter opens one, L keeps its surroundings in
 the gallery, plus and minus zoom, Escape shows all."></canvas>
<div id="tip" hidden><img alt="" id="tip-picture"><span id="tip-text"></span></div></div>
<p class="fine">Pictures near each other have similar styles. Draw around some to see only these.</p></section>
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
<div class="where"><h3>On the map</h3><canvas id="where" role="img" aria-label="its place on the map"></canvas></div>
<div class="near"><h3>Nearest in style</h3><div id="neighbours" class="gallery"></div></div></div>
<div class="tools ends"><button type="button" id="previous">&larr; Previous</button>
<button type="button" id="next">Next &rarr;</button>
<button type="button" id="close" class="primary">Close</button></div></dialog>
"""

ROUTES = [
    Route("/runs/{run}/explore", show),
    Route("/runs/{run}/explore/pictures", pictures),
    Route("/runs/{run}/explore/picture/{place}", picture),
]

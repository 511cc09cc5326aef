"""The pictures that pages show: those of a run, by their row in its pack, and sources in a domain's style."""

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunit.studio.frame import FOR_EVER
from tunit.studio.library import THUMBNAIL, webp
from tunit.studio.requests import library_of, run_of, whole_of

EXAMPLES = 4  # sources that are redrawn in each domain's average style
_WEBP = FOR_EVER | {"content-type": "image/webp"}


def picture(request: Request) -> Response:
    """A picture of a run, in the size of the networks' input."""
    return _picture(request, None)


def thumbnail(request: Request) -> Response:
    """A small version of a picture of a run."""
    return _picture(request, THUMBNAIL)


def _picture(request: Request, most: int | None) -> Response:
    row = whole_of(request.path_params["row"], "the number of the picture", 0, 2**40)
    pixels = library_of(request).pixels(run_of(request), row)
    return Response(webp(pixels, most), headers=_WEBP)


async def average(request: Request) -> Response:
    """The examples (see `example_rows`) in the average style of a domain, side by side."""
    return await run_in_threadpool(_average, request)


def _average(request: Request) -> Response:
    library, run = library_of(request), run_of(request)
    domain = whole_of(request.path_params["domain"], "the domain", 0, 10**6)
    translator = library.translator(run)
    style = translator.domain_style(domain)
    sources = [library.pixels(run, row) for row in example_rows(len(library.pictures(run).names))]
    drawn = translator.redraw(sources, style[None])
    strip = np.concatenate([np.asarray(images[0].convert("RGB")) for _, images in drawn], axis=1)
    return Response(webp(strip), headers=_WEBP)


def example_rows(number: int) -> list[int]:
    """Which of `number` pictures are redrawn in every domain's average style: the same for all domains."""
    middle = (np.arange(EXAMPLES) + 0.5) * number / EXAMPLES
    return sorted({int(row) for row in middle})


ROUTES = [
    Route("/runs/{run}/picture/{row}", picture),
    Route("/runs/{run}/thumbnail/{row}", thumbnail),
    Route("/runs/{run}/average/{domain}", average),
]

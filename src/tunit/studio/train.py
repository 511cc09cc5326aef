"""The part Train: its page, and the routes that the page's script calls."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunit.studio.frame import page


def show(request: Request) -> Response:
    """The page."""
    body = "<h1>Train</h1><p class='lead'>This page is empty yet.</p>"
    return page("Train", body, part="train", script="train.js")


ROUTES = [Route("/train", show)]

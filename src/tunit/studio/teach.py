"""The part Teach: its page, and the routes that the page's script calls."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunit.studio.frame import page
from tunit.studio.requests import run_of


def show(request: Request) -> Response:
    """The page."""
    run = run_of(request)
    body = "<h1>Teach</h1><p class='lead'>This page is empty yet.</p>"
    return page("Teach", body, part="teach", run=run, script="teach.js")


ROUTES = [Route("/runs/{run}/teach", show)]

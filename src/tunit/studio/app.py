"""The studio as a web application: the routes of all parts, behind the guard."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunit.errors import TunitError
from tunit.printing import escape
from tunit.studio import explore, shown, teach, train, translate
from tunit.studio.frame import address, page, static_answer
from tunit.studio.guard import HEADERS, Guard, Rules
from tunit.studio.labels import write_pending_tables
from tunit.studio.library import Library
from tunit.studio.refusals import on_any_error, on_http_error, on_known_error
from tunit.studio.requests import workspace_of
from tunit.studio.workspace import Run, Workspace

# Each part is a module with its ROUTES; `shown` serves pictures for several of them.
PARTS = (shown, explore, translate, teach, train)


def create_app(workspace: Workspace, rules: Rules | None = None) -> Starlette:
    """The application. rules: which requests are allowed; None allows only requests of this machine."""
    routes = [Route("/", front), Route("/static/{version}/{name}", static)]
    for part in PARTS:
        routes += part.ROUTES
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, rules or Rules(most_bytes=workspace.max_upload))],
        exception_handlers={
            TunitError: on_known_error,
            HTTPException: on_http_error,
            Exception: _on_any_error,
        },
        lifespan=_until_the_end,
    )
    app.state.workspace = workspace
    app.state.library = Library(workspace)
    return app


def _on_any_error(request: Request, error: Exception) -> Response:
    """As `on_any_error`. Starlette sends this answer past the guard, which would have added these headers."""
    answer = on_any_error(request, error)
    answer.headers.update(HEADERS | {"cache-control": "no-store"})
    return answer


@asynccontextmanager
async def _until_the_end(app: Starlette) -> AsyncIterator[None]:
    """While the studio is open. At its end, by Ctrl-C or SIGTERM, tables of labels are written that wait for that."""
    yield
    write_pending_tables()


def front(request: Request) -> Response:
    """The first page: all runs or, if there are none, how to begin."""
    workspace = workspace_of(request)
    runs = workspace.runs()
    if runs:
        lead = "Choose a run to look at, or train a new one."
        body = f'<ul class="runs">{"".join(map(_card, runs))}</ul>'
    else:
        lead = f"There is no run in {workspace.root} yet."
        body = '<p><a class="button" href="/train">Train a first one</a></p>'
    return page("Runs", f'<h1>Runs</h1><p class="lead">{escape(lead)}</p>{body}')


def _card(run: Run) -> str:
    state = "a trained model" if run.has_model else "no model yet: it must train for longer"
    return (
        f'<li><a class="card" href="{address("explore", run)}"><b>{escape(run.name)}</b>'
        f"<span>{state}</span></a></li>"
    )


def static(request: Request) -> Response:
    """A script or a style sheet."""
    answer = static_answer(request.path_params["name"])
    if answer is None:
        raise HTTPException(404)
    return answer

"""Error answers, in one sentence: as a page, or as JSON for the studio's own scripts."""

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tunit.errors import TunitError
from tunit.failures import sentence_of
from tunit.printing import in_sentence, printable
from tunit.studio.frame import page

LOG = logging.getLogger("tunit.studio")
_SENTENCES = {
    404: "there is nothing at this address: begin at the front page",
    405: "this address does not accept this kind of request: begin at the front page",
}
UNEXPECTED = "this failed with an unexpected error: the studio's log has the details"


def refusal(status: int, sentence: str, as_page: bool) -> Response:
    """One sentence, as a page or as {"error": sentence}."""
    sentence = in_sentence(sentence)
    if as_page:
        return page("Error", "", notice=sentence, status=status)
    return JSONResponse({"error": sentence}, status)


def wants_page(request: Request) -> bool:
    """Whether the request is from a browser for a page, and not from a script for data."""
    return "text/html" in request.headers.get("accept", "")


def on_known_error(request: Request, error: Exception) -> Response:
    """The answer to a TunitError, which the user can correct."""
    assert isinstance(error, TunitError)
    LOG.warning("%s %s: %s", request.method, printable(request.url.path), error)
    return refusal(400, str(error), wants_page(request))


def on_http_error(request: Request, error: Exception) -> Response:
    """The answer to an HTTPException, such as for an unknown address."""
    assert isinstance(error, HTTPException)
    sentence = _SENTENCES.get(error.status_code, error.detail)
    LOG.warning("%s %s: %d, %s", request.method, printable(request.url.path), error.status_code, sentence)
    return refusal(error.status_code, sentence, wants_page(request))


def on_any_error(request: Request, error: Exception) -> Response:
    """The answer to any other error, whose traceback goes to the log."""
    sentence = sentence_of(error) or UNEXPECTED
    LOG.error("%s %s", request.method, printable(request.url.path), exc_info=error)
    return refusal(500, sentence, wants_page(request))

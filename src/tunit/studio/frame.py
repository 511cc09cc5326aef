"""What all pages of the studio share: the frame with the navigation, and the files that a page loads."""

import hashlib
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from starlette.responses import HTMLResponse, Response

from tunit._version import __version__
from tunit.printing import escape
from tunit.studio.workspace import Run

# The parts of the studio: the last word of a page's address, and its title.
PARTS = {"explore": "Explore", "translate": "Translate", "teach": "Teach", "train": "Train"}
_KINDS = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
NO_MODEL = "This run has no model yet: it must train for longer. See its training under Train."
# Whether the studio that answers the current request can be reached from other machines; the guard sets it.
open_to_others = ContextVar("open_to_others", default=False)
_FOR_ONE = "Only this machine can open these pages, and nothing is sent to other servers."
_FOR_OTHERS = (
    "Everybody who knows this studio's token can open these pages from other machines. Nothing is sent to other "
    "servers."
)
FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}


@dataclass(frozen=True)
class StaticFile:
    """A script, or a style sheet."""

    content: bytes
    kind: str


@cache
def static_files() -> dict[str, StaticFile]:
    """All scripts and style sheets by name; the style of all HTML pages of tunit is one of them."""
    found = {"pages.css": StaticFile(files("tunit.pages").joinpath("style.css").read_bytes(), _KINDS[".css"])}
    for entry in files("tunit.studio").joinpath("static").iterdir():
        kind = _KINDS.get("." + entry.name.rpartition(".")[2])
        if kind:
            found[entry.name] = StaticFile(entry.read_bytes(), kind)
    return found


@cache
def static_version() -> str:
    """A word that changes if any static file changes, so that browsers may cache these files for ever."""
    digest = hashlib.blake2b(digest_size=6)
    for name, file in sorted(static_files().items()):
        digest.update(name.encode() + file.content)
    return digest.hexdigest()


def static_answer(name: str) -> Response | None:
    """A static file as an answer; None if there is none of this name."""
    file = static_files().get(name)
    if file is None:
        return None
    return Response(file.content, headers=FOR_EVER | {"content-type": file.kind})


def address(part: str, run: Run | None = None) -> str:
    """The address of a part's page. Train needs no run."""
    return f"/{part}" if run is None or part == "train" else f"/runs/{run.key}/{part}"


def why_not(run: Run, use: str) -> str:
    """Why a part of the studio cannot show a run that lacks a model or pictures, in one sentence; "" if it can.

    use: what the part does with the pictures, "explore" or "teach".
    """
    if not run.has_model:
        return NO_MODEL
    if not run.has_pictures:
        return f"This run holds a model but no pictures, so there is nothing to {use} here."
    return ""


def page(
    title: str,
    body: str,
    *,
    part: str = "",
    run: Run | None = None,
    script: str = "",
    notice: str = "",
    status: int = 200,
) -> HTMLResponse:
    """A page of the studio.

    body: HTML. part: which of PARTS it belongs to. run: the run that it shows. script: the name of its module in
    `static/`. notice: a sentence at the top, about something that went wrong.

    The browser ignores style attributes (see `guard.POLICY`): lengths are set by scripts, or as SVG.
    """
    base = f"/static/{static_version()}"
    privacy = _FOR_OTHERS if open_to_others.get() else _FOR_ONE
    scripts = f'<script type="module" src="{base}/{script}"></script>' if script else ""
    hidden = "" if notice else " hidden"
    return HTMLResponse(
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)} - tunit studio</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="{base}/icon.svg">'
        f'<link rel="stylesheet" href="{base}/pages.css"><link rel="stylesheet" href="{base}/studio.css">'
        f"{scripts}</head><body>"
        f'<a class="skip" href="#main">To the content</a>{_header(part, run)}'
        f'<main id="main" tabindex="-1"><p id="notice" class="notice" role="alert"{hidden}>{escape(notice)}</p>'
        f"{body}</main><footer>tunit {escape(__version__)}. {privacy}</footer></body></html>\n",
        status,
    )


def _header(part: str, run: Run | None) -> str:
    links = "".join(_part_link(name, title, part, run) for name, title in PARTS.items())
    shown = f'<a class="run" href="/" title="all runs">{escape(run.name)}</a>' if run else ""
    return (
        f'<header class="top"><a class="brand" href="/">tunit <b>studio</b></a>{shown}'
        f'<nav aria-label="parts of the studio">{links}</nav></header>'
    )


def _part_link(name: str, title: str, part: str, run: Run | None) -> str:
    if run is None and name != "train":
        return ""  # these parts need a run, and none is chosen yet
    current = ' aria-current="page"' if name == part else ""
    return f'<a href="{address(name, run)}"{current}>{title}</a>'

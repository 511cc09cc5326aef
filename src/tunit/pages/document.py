"""A page as one self-contained HTML file: the frame, sections, lists, tables and data for scripts."""

import json
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from tunit._version import __version__
from tunit.printing import escape, printable

SHOWN_NAMES = 60  # characters of a picture's name


def document(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """The whole file as text. It loads nothing from the network.

    body: HTML. style: CSS rules beyond those that all pages share. script: JavaScript, run after the body.
    """
    shared = files("tunit.pages").joinpath("style.css").read_text("utf-8")
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<style>{shared}{style}</style></head><body><main>{body}</main>"
        f"<footer>Made by tunit {escape(__version__)}. This file needs no network.</footer>"
        f"{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def section(identity: str, title: str, lead: str, body: str) -> str:
    """A section with a heading and a sentence before the body, which is HTML. Empty if the body is empty."""
    if not body:
        return ""
    return (
        f'<section id="{identity}"><h2>{escape(title)}</h2><p class="lead">{escape(lead)}</p>{body}</section>'
    )


def bullets(items: Iterable[str], kind: str = "") -> str:
    """A list of items, each HTML."""
    return f"<ul{_class(kind)}>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of text, whose first column names the rows. A table that is too wide for the page can be scrolled."""
    return table_of_cells(
        [f"<th scope='col'>{escape(cell)}</th>" for cell in head],
        ((escape(first), [f"<td>{escape(cell)}</td>" for cell in cells]) for first, *cells in rows),
    )


def table_of_cells(head: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]], kind: str = "") -> str:
    """A table of cells that are HTML.

    head: complete cells, `<th>...</th>`. rows: the name of a row, and its other cells, complete, `<td>...</td>`.
    """
    lines = "".join(f"<tr><th scope='row'>{first}</th>{''.join(cells)}</tr>" for first, cells in rows)
    return (
        f'<div class="scroll"><table{_class(kind)}><thead><tr>{"".join(head)}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def short_name(name: str) -> str:
    """A picture's name in printable characters; of a long one, the end."""
    name = printable(name)
    return name if len(name) <= SHOWN_NAMES else "..." + name[3 - SHOWN_NAMES :]


def data_script(identity: str, data: Any) -> str:
    """Values for the page's script, as JSON that is safe inside a script element."""
    # "</" in a file name would end the script element.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{identity}">{text}</script>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""

"""Files that could not be used as pictures, each with its reason, and a summary of them in one line."""

from collections.abc import Iterable
from dataclasses import dataclass

from tunit.printing import printable

_NAMES_SHOWN = 3
_DETAILS_SHOWN = 3  # if a reason has more different details, only those of the first few pictures are given
_LONGEST = 200  # characters of a name or a detail that are shown


@dataclass(frozen=True)
class LeftOut:
    """A file that seems to be a picture but cannot be used, and the reason."""

    name: str
    reason: str  # a few plain words, such as "truncated" or "too small"
    detail: str


def summarise_left_out(left_out: Iterable[LeftOut]) -> str:
    """One line, the most frequent reason first, such as "2 left out: 1 empty (a.jpg: 0 bytes), 1 ...".

    Pictures with the same reason and detail are counted together, and the first few are named.
    """
    by_reason: dict[str, list[LeftOut]] = {}
    for item in left_out:
        by_reason.setdefault(item.reason, []).append(item)
    if not by_reason:
        return "none left out"
    ordered = sorted(by_reason.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    parts = [part for reason, items in ordered for part in _parts(reason, items)]
    return f"{sum(map(len, by_reason.values())):,} left out: {', '.join(parts)}"


def _parts(reason: str, items: list[LeftOut]) -> list[str]:
    by_detail: dict[str, list[LeftOut]] = {}
    for item in items:
        by_detail.setdefault(item.detail, []).append(item)
    if len(by_detail) > _DETAILS_SHOWN:
        shown = "; ".join(_with_detail(item) for item in items[:_NAMES_SHOWN])
        return [f"{len(items):,} {reason} ({shown}{_more(items, '; ')})"]
    groups = sorted(by_detail.values(), key=lambda group: -len(group))
    return [f"{len(group):,} {reason} ({_examples(group)})" for group in groups]


def _examples(items: list[LeftOut]) -> str:
    if len(items) == 1:
        return _with_detail(items[0])
    names = ", ".join(_short(item.name) for item in items[:_NAMES_SHOWN])
    detail = _short(items[0].detail)
    return f"{detail}{': ' if detail else ''}{names}{_more(items, ' ')}"


def _with_detail(item: LeftOut) -> str:
    return f"{_short(item.name)}: {_short(item.detail)}"


def _more(items: list[LeftOut], before: str) -> str:
    more = len(items) - _NAMES_SHOWN
    return f"{before}and {more:,} more" if more > 0 else ""


def _short(text: str) -> str:
    shown = printable(text)
    half = _LONGEST // 2
    return shown if len(shown) <= _LONGEST else f"{shown[:half]}...{shown[-half:]}"

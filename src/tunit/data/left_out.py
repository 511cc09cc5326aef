"""What could not be used, and a few words about it."""

from collections.abc import Iterable
from dataclasses import dataclass

from tunit.printing import printable

_NAMES_SHOWN = 3


@dataclass(frozen=True)
class LeftOut:
    """A file that was taken for a picture but cannot be used, and why."""

    name: str
    reason: str  # a few plain words, such as "truncated" or "too small"
    detail: str


def summarise_left_out(left_out: Iterable[LeftOut]) -> str:
    """One line, the most frequent reason first, such as "2 left out: 1 empty (a.jpg), 1 unreadable (b.png)".

    A reason met once comes with its detail, a reason met often with its first few names.
    """
    by_reason: dict[str, list[LeftOut]] = {}
    for item in left_out:
        by_reason.setdefault(item.reason, []).append(item)
    if not by_reason:
        return "none left out"
    ordered = sorted(by_reason.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    parts = [f"{len(items):,} {reason} ({_examples(items)})" for reason, items in ordered]
    return f"{sum(map(len, by_reason.values())):,} left out: {', '.join(parts)}"


def _examples(items: list[LeftOut]) -> str:
    if len(items) == 1:
        return f"{printable(items[0].name)}: {printable(items[0].detail)}"
    names = [printable(item.name) for item in items[:_NAMES_SHOWN]]
    more = len(items) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")

"""Compare the chosen groups once more, pair by pair, and merge those that are not clearly two kinds.

There are two reasons for too many groups. Where two long clusters lie side by side, Ward's clustering can cut both
across before it separates them. And where the pictures of one kind differ by a continuous shade, training E for many
domains by mutual information cuts that kind in two; in E's codes the halves end as far apart as two kinds. Simple
cues such as colours and outlines are not trained, so in them a continuous shade stays one cluster.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from tunit.clustering.cues import Integers
from tunit.clustering.separation import Points, held_out_separation, largest_separation, separation

# Two groups are merged where their separation is below this share of the median separation, but never where it is
# above SURELY_APART. A few pictures are never far above chance, so a pair of fewer than ENOUGH pictures needs
# proportionally less.
SHARE_OF_USUAL, SURELY_APART, ENOUGH = 0.7, 2.2, 60
# A cue confirms two groups if it separates them clearly better than chance. Cues are used only on sets where they
# separate a quarter of all pairs of groups by at least 0.6 of what is possible; on other sets they tell nothing about
# kinds. A quarter is enough: where kinds were cut in two, many pairs are halves of one kind.
CONFIRMED, SHARE_KNOWN, KNOWN = 1.25, 0.25, 0.6

Rows = Integers  # (n,): the pictures of one group


def merge_unseparated(
    points: Points, groups: Integers, usual: float, needed: Callable[[int], float]
) -> Integers:
    """Merge groups (N,) that `points` (N, axes) do not separate, and renumber the rest from 0.

    usual: the median separation of groups on this set. needed: the separation that k groups need.
    """

    def enough(one: Rows, other: Rows, left: int) -> float:
        compared = 2 * min(len(one), len(other))
        return min(1.0, compared / ENOUGH) * min(SURELY_APART, max(needed(left), SHARE_OF_USUAL * usual))

    return merge_pairs(groups, lambda one, other: separation(points[one], points[other]), enough)


def merge_unconfirmed(cues: Sequence[Points], groups: Integers, seed: int) -> Integers:
    """Merge groups (N,) that none of the cues separates, and renumber the rest from 0.

    cues: (N, axes) each. If the cues separate too few pairs of groups, all groups stay.
    """

    def apart(one: Rows, other: Rows) -> float:
        return max(held_out_separation(cue[one], cue[other], seed) for cue in cues)

    rows = _rows_of(groups)
    found = _all_pairs(rows, apart)
    known = [value / largest_separation(len(rows[i]), len(rows[j])) for (i, j), value in found.items()]
    if not known or np.quantile(known, 1 - SHARE_KNOWN) < KNOWN:
        return groups
    return merge_pairs(groups, apart, lambda one, other, left: CONFIRMED, found)


def merge_pairs(
    groups: Integers,
    apart: Callable[[Rows, Rows], float],
    enough: Callable[[Rows, Rows, int], float],
    found: dict[tuple[int, int], float] | None = None,
) -> Integers:
    """Merge the pair with the least `apart` relative to `enough` until every pair has enough, and renumber from 0.

    groups: (N,). apart and enough are called with the pictures of both groups, enough also with the number of groups.
    found: `apart` of all pairs, where the caller has it already.
    """
    rows = dict(enumerate(_rows_of(groups)))
    found = _all_pairs(_rows_of(groups), apart) if found is None else found
    while found:
        share = {(i, j): value / enough(rows[i], rows[j], len(rows)) for (i, j), value in found.items()}
        i, j = min(share, key=lambda pair: share[pair])
        if share[i, j] >= 1:
            break
        rows[i] = np.concatenate([rows[i], rows.pop(j)])
        found = {pair: value for pair, value in found.items() if j not in pair}
        for one, other in found:
            if i in (one, other):
                found[one, other] = apart(rows[one], rows[other])
    merged = np.empty(len(groups), np.int64)
    for number, some in enumerate(rows.values()):
        merged[some] = number
    return merged


def _rows_of(groups: Integers) -> list[Rows]:
    return [np.flatnonzero(groups == i) for i in np.unique(groups)]


def _all_pairs(rows: list[Rows], apart: Callable[[Rows, Rows], float]) -> dict[tuple[int, int], float]:
    """`apart` of every two groups, by their numbers."""
    return {(i, j): apart(rows[i], rows[j]) for i, j in itertools.combinations(range(len(rows)), 2)}

"""Compare the chosen groups once more, pair by pair, and merge those that are not clearly two kinds.

There are two reasons for too many groups. First, if two long clusters lie side by side, Ward's clustering may cut
each of them into pieces before it separates one from the other. Second, the pictures of one kind may differ
continuously, as from light to dark. If E is trained for many domains by mutual information, it can cut such a kind in
two, and in E's codes the halves end as far apart as two kinds. Simple cues such as colours and outlines are not
trained, so in them such a kind stays one cluster.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from tunit.clustering.cues import Integers
from tunit.clustering.separation import Points, held_out_separation, largest_separation, separation

# Two groups are merged if their separation is below a limit. The limit is the larger one of SHARE_OF_USUAL times the
# median separation and the separation needed for this number of groups, but at most SURELY_APART. The separation of
# small groups is never high, so the limit is proportionally lower if the smaller group has fewer than ENOUGH / 2
# pictures.
SHARE_OF_USUAL, SURELY_APART, ENOUGH = 0.7, 2.2, 60
# A cue confirms that two groups are two kinds if their separation by the cue is at least CONFIRMED. (By chance a
# separation exceeds 1 in only 5 % of cases.) On some sets no cue tells the kinds apart; then cues are not used. They
# are used only if the best cue of a pair reaches KNOWN times the largest possible separation for at least a share
# SHARE_KNOWN of all pairs of groups. This share is low, because many pairs may be halves of one kind, which no cue
# should separate.
CONFIRMED, SHARE_KNOWN, KNOWN = 1.25, 0.25, 0.6

Rows = Integers  # (n,): the pictures of one group


def merge_unseparated(
    points: Points, groups: Integers, usual: float, needed: Callable[[int], float]
) -> Integers:
    """Merge groups (N,) that `points` (N, axes) do not separate, and renumber the rest from 0.

    usual: the median separation of groups on this set. needed: for a number of groups k, the separation that is
    evidence for k groups.
    """

    def enough(one: Rows, other: Rows, left: int) -> float:
        """The separation from which on two groups are not merged, while `left` groups are left."""
        compared = 2 * min(len(one), len(other))
        return min(1.0, compared / ENOUGH) * min(SURELY_APART, max(needed(left), SHARE_OF_USUAL * usual))

    return merge_pairs(groups, lambda one, other: separation(points[one], points[other]), enough)


def merge_unconfirmed(cues: Sequence[Points], groups: Integers, seed: int) -> Integers:
    """Merge groups (N,) that none of the cues separates, and renumber the rest from 0.

    cues: (N, axes) each. If the cues separate too few pairs of groups, all groups stay.
    """

    def apart(one: Rows, other: Rows) -> float:
        """The separation of two groups by the cue that separates them best."""
        return max(held_out_separation(cue[one], cue[other], seed) for cue in cues)

    rows = _rows_of(groups)
    found = _all_pairs(rows, apart)
    # Groups too small to be judged (infinite separation) do not tell whether the cues are of use.
    known = [
        value / largest_separation(len(rows[i]), len(rows[j]))
        for (i, j), value in found.items()
        if value < float("inf")
    ]
    if not known or np.quantile(known, 1 - SHARE_KNOWN) < KNOWN:
        return groups
    return merge_pairs(groups, apart, lambda one, other, left: CONFIRMED, found)


def merge_pairs(
    groups: Integers,
    apart: Callable[[Rows, Rows], float],
    enough: Callable[[Rows, Rows, int], float],
    found: dict[tuple[int, int], float] | None = None,
) -> Integers:
    """Merge groups (N,) pair by pair until `apart` is at least `enough` for every pair; renumber them from 0.

    The pair with the smallest ratio apart / enough is merged first. Both functions are called with the pictures of
    two groups, `enough` also with the number of groups. found: `apart` of all pairs, if the caller has it already.
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

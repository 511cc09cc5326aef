"""Compare the chosen groups once more, pair by pair, and merge those that are not clearly two kinds.

There are two reasons for too many groups. First, if two long clusters lie side by side, a clustering may cut each of
them into pieces before it separates one from the other. Second, the pictures of one kind may differ
continuously, as from light to dark. If E is trained for many domains by mutual information, it can cut such a kind in
two, and in E's codes the halves end as far apart as two kinds. Simple cues such as colours and outlines are not
trained, so in them such a kind stays one cluster.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix

from tunit.clustering.cues import Integers
from tunit.clustering.separation import (
    Points,
    held_out_separation,
    largest_separation,
    limit_for,
    separation,
)
from tunit.printing import listed

# Two groups are merged if their separation is below a limit. The limit is the larger one of SHARE_OF_USUAL times the
# median separation and the separation needed for this number of groups, but at most SURELY_APART. For small groups it
# is less (`limit_for`).
SHARE_OF_USUAL, SURELY_APART = 0.7, 2.2
# Groups are also apart if less than this share of their edges leads from one to the other. Between two halves of one
# cluster there are many more.
LINKED = 0.001
# A cue confirms that two groups are two kinds if their separation by the cue is at least CONFIRMED. (By chance a
# separation exceeds 1 in only 5 % of cases.) On some sets no cue tells the kinds apart; then cues are not used. They
# are used only if the best cue of a pair reaches KNOWN times the largest possible separation for at least a share
# SHARE_KNOWN of all pairs of groups. This share is low, because many pairs may be halves of one kind, which no cue
# should separate.
CONFIRMED, SHARE_KNOWN, KNOWN = 1.25, 0.25, 0.6
# Up to EVERY_PAIR groups, every pair is compared. Of more groups, whose pairs would take hours, only those pairs are
# compared that may be halves of one kind: each group with its NEAREST ones. Whether cues are of use is then told by
# as many random pairs as EVERY_PAIR groups have.
EVERY_PAIR, NEAREST = 50, 10

Pair = tuple[int, int]  # the numbers of two groups, in ascending order
Rows = Integers  # (n,): the pictures of one group


def merge_unseparated(
    points: Points, groups: Integers, usual: float, needed: Callable[[int], float], edges: csr_matrix
) -> Integers:
    """Merge groups (N,) that `points` (N, axes) do not separate, and renumber the rest from 0.

    usual: the median separation of groups on this set. needed: for a number of groups k, the separation that is
    evidence for k groups. edges: (N, N), the graph of nearest neighbours of `points`.
    """

    def apart(one: Rows, other: Rows) -> float:
        """The separation of two groups; infinite if the graph separates them."""
        if linked(edges, one, other) < LINKED:
            return float("inf")
        return separation(points[one], points[other])

    def enough(smaller: Integers, left: int) -> Points:
        """The separation from which on two groups are not merged, while `left` groups are left."""
        return limit_for(smaller, min(SURELY_APART, max(needed(left), SHARE_OF_USUAL * usual)))

    rows = _rows_of(groups)
    return merge_pairs(groups, apart, enough, _compared(_near_pairs([points], rows), rows, apart))


def linked(edges: csr_matrix, one: Rows, other: Rows) -> float:
    """How much two groups are connected in a graph (N, N).

    For each of the two groups: which share of its edges' ends belongs to edges that lead to the other group? The
    result is the larger of the two shares.
    """
    fewest = min(edges[one].sum(), edges[other].sum())
    return float(edges[one][:, other].sum() / fewest) if fewest else 0.0


def merge_unconfirmed(cues: Sequence[Points], groups: Integers, seed: int) -> Integers:
    """Merge groups (N,) that none of the cues separates, and renumber the rest from 0.

    cues: (N, axes) each. If the cues separate too few pairs of groups, all groups stay.
    """

    def apart(one: Rows, other: Rows) -> float:
        """The separation of two groups by the cue that separates them best."""
        return max(held_out_separation(cue[one], cue[other], seed) for cue in cues)

    rows = _rows_of(groups)
    found = _compared(_some_pairs(len(rows), seed), rows, apart)
    # Groups too small to be judged (infinite separation) do not tell whether the cues are of use.
    known = [
        value / largest_separation(len(rows[i]), len(rows[j]))
        for (i, j), value in found.items()
        if value < float("inf")
    ]
    if not known or np.quantile(known, 1 - SHARE_KNOWN) < KNOWN:
        return groups
    if len(rows) > EVERY_PAIR:
        found = _compared(_near_pairs(cues, rows), rows, apart)
    return merge_pairs(groups, apart, lambda smaller, left: np.full(len(smaller), CONFIRMED), found)


def none_separates(cues: Sequence[str]) -> str:
    """Why groups were merged, in words: "neither a nor b, c or d separate them". cues: the names of one or more."""
    if len(cues) == 1:
        return f"{cues[0]} do not separate them"
    first, *others = cues
    return f"neither {first} nor {listed(others, len(others), 'or')} separate them"


def merge_pairs(
    groups: Integers,
    apart: Callable[[Rows, Rows], float],
    enough: Callable[[Integers, int], Points],
    found: dict[Pair, float],
) -> Integers:
    """Merge groups (N,) pair by pair until `apart` is at least `enough` for every pair; renumber them from 0.

    The pair with the smallest ratio apart / enough is merged first. apart: called with the pictures of two groups.
    enough: called with the size of the smaller group of each of P pairs, and the number of groups; gives (P,). found:
    `apart` of the pairs that are compared, in ascending order. A merged group is compared with those that one of its
    parts was compared with.
    """
    rows = dict(enumerate(_rows_of(groups)))
    while found:
        pairs = list(found)
        smaller = np.array([min(len(rows[i]), len(rows[j])) for i, j in pairs])
        share = np.array(list(found.values())) / enough(smaller, len(rows))
        i, j = pairs[least := int(share.argmin())]
        if share[least] >= 1:
            break
        rows[i] = np.concatenate([rows[i], rows.pop(j)])
        others = {other for pair in pairs if i in pair or j in pair for other in pair} - {i, j}
        again = _compared([(min(i, other), max(i, other)) for other in others], rows, apart)
        kept = {pair: value for pair, value in found.items() if i not in pair and j not in pair}
        found = dict(sorted((kept | again).items()))
    merged = np.empty(len(groups), np.int64)
    for number, some in enumerate(rows.values()):
        merged[some] = number
    return merged


def _rows_of(groups: Integers) -> list[Rows]:
    return [np.flatnonzero(groups == i) for i in np.unique(groups)]


def _compared(
    pairs: Iterable[Pair], rows: Sequence[Rows] | Mapping[int, Rows], apart: Callable[[Rows, Rows], float]
) -> dict[Pair, float]:
    """`apart` of each of these pairs of groups."""
    return {(i, j): apart(rows[i], rows[j]) for i, j in pairs}


def _some_pairs(number: int, seed: int) -> list[Pair]:
    """Every pair of up to EVERY_PAIR groups; of more groups as many random pairs, all equally likely."""
    pairs = list(itertools.combinations(range(number), 2))
    most = EVERY_PAIR * (EVERY_PAIR - 1) // 2
    if len(pairs) <= most:
        return pairs
    return [pairs[i] for i in np.random.default_rng(seed).choice(len(pairs), most, replace=False)]


def _near_pairs(cues: Sequence[Points], rows: Sequence[Rows]) -> list[Pair]:
    """Every pair of up to EVERY_PAIR groups; of more groups, the pairs of each one with its NEAREST ones.

    Two groups are near if their means are near by every cue, compared with how much the pictures of a group differ.
    """
    if len(rows) <= EVERY_PAIR:
        return list(itertools.combinations(range(len(rows)), 2))
    apart = np.zeros((len(rows), len(rows)))
    for cue in cues:
        centres = np.stack([cue[some].mean(0) for some in rows])
        within = np.mean([cue[some].var(0).sum() for some in rows]) + 1e-12
        squares = np.stack([np.square(centres - centre).sum(1) for centre in centres])
        apart = np.maximum(apart, squares / within)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, :NEAREST]
    return sorted({(min(i, j), max(i, j)) for i, some in enumerate(nearest.tolist()) for j in some})

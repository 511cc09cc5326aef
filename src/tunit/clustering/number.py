"""How many domains a set of pictures has, and which picture is in which, from E's style codes alone.

The pictures are clustered into far too many groups, which are then merged pair by pair, the nearest first [1]. Two
groups that are merged are one kind if the pictures of both, seen along the direction that tells the groups apart best
[2], have a single mode [3], as the two halves of one heap have. So every split, from a single group on, speaks for
more domains or against them, by how far its dip is beyond what chance gives [4]. As no single measure is right on
every set, this evidence is averaged over clusterings of random parts of the pictures, and how well these agree and
the silhouette [5] have a vote beside it.

References:
    [1] Ward. Hierarchical grouping to optimize an objective function, JASA 1963. [2] Fisher. The use of multiple
    measurements in taxonomic problems, 1936. [3] Hartigan, Hartigan. The dip test of unimodality, 1985. [4] The dip
    as judge of merges and splits: Vardakas, Kalogeratos, Likas. UniForCE, 2024; Kalogeratos, Likas. Dip-means, NIPS
    2012. [5] Rousseeuw. Silhouettes, 1987.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score

from tunit.clustering.choice import Candidate, Choice
from tunit.clustering.cues import Integers, Vectors
from tunit.clustering.dip import critical_dip, dip
from tunit.clustering.partition import k_means

Points = NDArray[np.float64]

CELLS = 50  # groups before merging
CELL_RESTARTS = 2  # of the k-means that finds them
FEWEST = 5  # pictures of a cell, on average
VARIANCE, MOST_AXES = 0.95, 20  # of the reduced space
RUNS, SHARE = 5, 0.8  # clusterings, each of such a share of the pictures, beside that of all
COMPARED = 300  # most pictures of either group in a dip
# The spread within groups is drawn towards an equal one in all directions, the more the fewer pictures there are for
# each axis: else a direction is always found along which a few of them fall into two heaps.
LEAST_SHRINKAGE, PER_AXIS = 0.1, 5
# A split into k groups speaks for more domains where the dip of its two parts is so many times its critical value:
# the more groups there are the more, up to a limit. In many pictures small differences are beyond chance too, such as
# those between photographs of one shelf and the next.
AT_LEAST, PER_GROUP, AT_MOST = 1.0, 0.08, 2.5
GAIN, LOSS = 1.0, -0.5  # most that one split speaks for or against
SILHOUETTE_WEIGHT, STABILITY_WEIGHT = 0.5, 0.5  # beside the evidence of splits, of which a clear one weighs 1
SILHOUETTES_OF = 2_000  # pictures
CANDIDATES = 6  # that are told of


@dataclass(frozen=True)
class Level:
    """One state of merging: k groups, and what became of them."""

    groups: Integers  # (N,): from 0 to k - 1
    apart: float  # dip over its critical value of the two that are merged next; 0 for a single group


def choose_number(styles: Vectors, most: int, seed: int) -> tuple[Choice, Integers]:
    """The number of domains of N pictures, and the domain of each, (N,) from 0, the largest domain first.

    styles: (N, width), one code per picture. most: the largest number that may be chosen.
    """
    points = reduced(styles)
    rng = np.random.default_rng(seed)
    most = max(1, min(most, len(points) // FEWEST))
    whole = levels(points, most, seed)
    parts = [np.sort(rng.permutation(len(points))[: round(SHARE * len(points))]) for _ in range(RUNS)]
    runs = [levels(points[part], most, seed + 1 + i) for i, part in enumerate(parts)]
    ks = range(1, max(whole) + 1)
    evidence = np.mean([split_evidence(run, len(ks)) for run in (whole, *runs)], axis=0)
    votes = {
        k: {
            "splits": float(evidence[k - 1]),
            "silhouette": _silhouette(points, whole[k].groups, rng),
            "stability": _stability(
                whole[k].groups,
                [(part, run[k].groups) for part, run in zip(parts, runs, strict=True) if k in run],
            ),
        }
        for k in ks
    }
    total = _totals(votes)
    chosen = max(ks, key=lambda k: total[k])
    assignment = _by_size(refined(points, whole[chosen].groups))
    best = sorted(ks, key=lambda k: -total[k])[:CANDIDATES]
    candidates = tuple(
        Candidate(k, float(np.exp(total[k] - total[chosen])), {n: round(v, 4) for n, v in votes[k].items()})
        for k in best
    )
    return Choice(
        chosen, candidates, tuple(_reasons(chosen, whole, votes, assignment)), len(points)
    ), assignment


def reduced(styles: Vectors) -> Points:
    """The codes on the few axes that hold 95 % of their variance: (N, width) to (N, axes)."""
    codes = np.asarray(styles, np.float64)
    if len(codes) < 3 or not np.ptp(codes, axis=0).any():
        return np.zeros((len(codes), 1))
    fitted = PCA(min(MOST_AXES, *codes.shape), svd_solver="full").fit(codes)
    axes = int(np.searchsorted(np.cumsum(fitted.explained_variance_ratio_), VARIANCE)) + 1
    points: Points = fitted.transform(codes)[:, :axes]
    return points


def levels(points: Points, most: int, seed: int) -> dict[int, Level]:
    """By the number of groups, from `most` or fewer down to 1: Ward's merges of the cells of k-means."""
    groups = _cells(points, seed)
    found = {}
    while True:
        k = len(groups)
        first, second = _nearest(points, groups) if k > 1 else (0, 0)
        if k <= most:
            apart = separation(points[groups[first]], points[groups[second]]) if k > 1 else 0.0
            numbers = np.empty(len(points), np.int64)
            for i, rows in enumerate(groups):
                numbers[rows] = i
            found[k] = Level(numbers, apart)
        if k == 1:
            return found
        groups[first] = np.concatenate([groups[first], groups.pop(second)])


def separation(one: Points, other: Points) -> float:
    """The dip of two groups along Fisher's direction over its critical value: beyond 1, likely two heaps.

    Of the larger group as many are taken, evenly over its values, as the smaller one has, which would drown else.
    """
    within = sum((group - group.mean(0)).T @ (group - group.mean(0)) for group in (one, other)) / (
        len(one) + len(other)
    )
    axes = len(within)
    even = np.trace(within) / axes
    between = other.mean(0) - one.mean(0)
    if not between.any():
        return 0.0
    share = max(LEAST_SHRINKAGE, min(1.0, PER_AXIS * axes / (len(one) + len(other))))
    spread = (1 - share) * within + (share * even + 1e-12) * np.eye(axes)
    direction = np.linalg.solve(spread, between)
    both = [np.sort(group @ direction) for group in (one, other)]
    number = min(len(both[0]), len(both[1]), COMPARED)
    thinned = [some[np.linspace(0, len(some) - 1, number).round().astype(int)] for some in both]
    values = np.concatenate(thinned)
    return dip(values) / critical_dip(len(values))


def needed(k: int) -> float:
    """How far apart the parts of a split into k groups must be to speak for them."""
    return min(AT_LEAST + PER_GROUP * k, AT_MOST)


def split_evidence(run: dict[int, Level], most: int) -> Points:
    """What all splits down to k groups say for k together, for k = 1 to `most`; 0 for a single group."""
    each = [
        float(np.clip(run[k].apart - needed(k), LOSS, GAIN)) if k in run else LOSS for k in range(2, most + 1)
    ]
    return np.concatenate([[0.0], np.cumsum(each)])


def refined(points: Points, groups: Integers) -> Integers:
    """The groups after k-means has moved pictures between them, from their own centres."""
    number = int(groups.max()) + 1
    if number == 1:
        return groups
    centres = np.stack([points[groups == i].mean(0) for i in range(number)])
    moved: Integers = k_means(points, number, 0, centres=centres).labels_.astype(np.int64)
    return moved if len(np.unique(moved)) == number else groups


def _cells(points: Points, seed: int) -> list[Integers]:
    number = max(1, min(CELLS, len(points) // FEWEST, len(np.unique(points, axis=0))))
    labels = k_means(points, number, seed, CELL_RESTARTS).labels_
    return [np.flatnonzero(labels == i) for i in np.unique(labels)]


def _nearest(points: Points, groups: list[Integers]) -> tuple[int, int]:
    """The two groups whose merging adds the least to the squared distances within [1]; the first is the smaller."""
    centres = np.stack([points[rows].mean(0) for rows in groups])
    sizes = np.array([len(rows) for rows in groups], np.float64)
    cost = np.square(centres[:, None] - centres[None]).sum(2)
    cost *= sizes[:, None] * sizes[None] / (sizes[:, None] + sizes[None])
    np.fill_diagonal(cost, np.inf)
    first, second = sorted(divmod(int(cost.argmin()), len(groups)))
    return first, second


def _silhouette(points: Points, groups: Integers, rng: np.random.Generator) -> float:
    rows = rng.permutation(len(points))[:SILHOUETTES_OF]
    number = len(np.unique(groups[rows]))
    return float(silhouette_score(points[rows], groups[rows])) if 1 < number < len(rows) else 0.0


def _stability(groups: Integers, others: list[tuple[Integers, Integers]]) -> float:
    """How far clusterings of parts of the pictures agree with that of all: the mean adjusted Rand index."""
    agreements = [adjusted_rand_score(groups[part], found) for part, found in others]
    return float(np.mean(agreements)) if agreements else 0.0


def _totals(votes: dict[int, dict[str, float]]) -> dict[int, float]:
    """All votes for each number together; the silhouette counts relative to the best one."""
    best = max([vote["silhouette"] for k, vote in votes.items() if k > 1], default=1.0)
    totals = {}
    for k, vote in votes.items():
        silhouette = 1.0 if k == 1 else vote["silhouette"] / max(best, 1e-6)
        totals[k] = vote["splits"] + SILHOUETTE_WEIGHT * silhouette + STABILITY_WEIGHT * vote["stability"]
    return totals


def _by_size(groups: Integers) -> Integers:
    """The same groups, numbered from the largest on."""
    sizes = np.bincount(groups)
    numbers = np.empty(len(sizes), np.int64)
    numbers[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    renamed: Integers = numbers[groups]
    return renamed


def _reasons(
    chosen: int, whole: dict[int, Level], votes: dict[int, dict[str, float]], assignment: Integers
) -> list[str]:
    """Plain sentences, the weightiest first."""
    sizes = np.bincount(assignment)
    said = []
    for k in (chosen, chosen + 1):
        if k > 1 and k in whole:
            which = "even the two nearest" if k == chosen else "the two nearest"
            said.append(
                f"of {k} groups {which} are apart by {whole[k].apart:.1f} times what chance gives "
                f"({needed(k):.1f} speaks for them)"
            )
    if chosen == 1:
        said.append(
            "if there are several kinds, E does not tell them apart yet: let it train alone for longer, "
            "or give --domains"
        )
    silhouettes = {k: vote["silhouette"] for k, vote in votes.items() if k > 1}
    if silhouettes:
        best = max(silhouettes, key=lambda k: silhouettes[k])
        own = f", that of {chosen} {silhouettes[chosen]:.2f}" if chosen > 1 and chosen != best else ""
        said.append(f"the silhouette is best with {best} ({silhouettes[best]:.2f}{own})")
    if chosen > 1:
        agreement = votes[chosen]["stability"]
        said.append(f"clusterings of parts of the pictures agree to {agreement:.2f} (adjusted Rand index)")
        said.append(f"the largest domain has {sizes.max():,} pictures, the smallest {sizes.min():,}")
    return said

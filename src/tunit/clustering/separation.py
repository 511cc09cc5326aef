"""How clearly two groups of pictures are two clusters: the dip along the line that separates them best.

References:
    [1] Fisher. The use of multiple measurements in taxonomic problems, 1936. [2] Hartigan, Hartigan. The dip test of
    unimodality, 1985. [3] Stone. Cross-validatory choice and assessment of statistical predictions, 1974.
"""

import numpy as np
from numpy.typing import NDArray

from tunit.clustering.dip import critical_dip, dip

Points = NDArray[np.float64]

LARGEST_DIP = 0.25  # the dip of two clusters far apart
ENOUGH = 100  # of so many pictures per group on, a limit of the separation holds as it is: see `limit_for`
FEWEST_HELPED = 5  # for fewer, the limit is not lowered
COMPARED = 300  # a dip is computed from at most this many pictures of each group
# The covariance within groups is shrunk towards a multiple of the identity, more strongly where there are few
# pictures per axis. Without this, some direction would always separate a few pictures into two clusters by chance.
LEAST_SHRINKAGE, PER_AXIS = 0.1, 5
FOLDS, REPEATS = 5, 3  # of the cross-validation


def separation(one: Points, other: Points) -> float:
    """The dip [2] of two groups along Fisher's direction [1], divided by its critical value.

    Above 1, the groups are probably two clusters; 0 if both have the same mean. one, other: (n, axes) and (m, axes).
    """
    found = _fisher(one, other)
    return 0.0 if found is None else _dip_of(one @ found[0], other @ found[0])


def limit_for(pictures: int | NDArray[np.int64], limit: float) -> Points:
    """The separation to ask of two groups, if it is `limit` for groups of ENOUGH pictures.

    pictures: how many the smaller group has; one number or an array, whose shape the result has. For the same two
    distributions the dip does not depend on their number, but the critical dip falls with its square root. So for
    fewer pictures the part of the limit that is above 1, the separation by chance, is smaller by this root. Fewer
    than FEWEST_HELPED have the whole limit, or a few near copies would be a group of their own.
    """
    count = np.asarray(pictures)
    part: Points = np.where(count < FEWEST_HELPED, 1.0, np.sqrt(np.minimum(1.0, count / ENOUGH)))
    return 1 + (limit - 1) * part


def held_out_separation(one: Points, other: Points, seed: int) -> float:
    """As `separation`, but every picture is projected onto a direction computed without it [3].

    With few points in many dimensions, some direction always separates two groups, by chance. `separation` finds that
    direction and is then too large. Here a picture has no part in choosing its own direction, so this does not
    happen: if one cluster was cut in two by a property that these points do not show, the result is at most about 1.

    It is the mean over `REPEATS` random divisions into folds, and infinite (undecided) if a group is so small that a
    fold could have fewer than two of its pictures.
    """
    if min(len(one), len(other)) < 2 * FOLDS:
        return float("inf")
    rng = np.random.default_rng(seed)
    return float(np.mean([_dip_of(*_held_out_projections(one, other, rng)) for _ in range(REPEATS)]))


def largest_separation(one: int, other: int) -> float:
    """The separation of two groups of these sizes if they were infinitely far apart."""
    return LARGEST_DIP / critical_dip(2 * min(one, other, COMPARED))


def _held_out_projections(one: Points, other: Points, rng: np.random.Generator) -> tuple[Points, Points]:
    """Both groups on a line, (n,) and (m,): 0 is midway between the means, the unit is the spread within groups."""
    folds = [rng.permutation(len(group)) % FOLDS for group in (one, other)]
    values = [np.zeros(len(group)) for group in (one, other)]
    for fold in range(FOLDS):
        kept = [group[of != fold] for group, of in zip((one, other), folds, strict=True)]
        found = _fisher(*kept)
        if found is None:
            continue
        direction, spread = found
        middle = (kept[0].mean(0) + kept[1].mean(0)) / 2
        for group, of, value in zip((one, other), folds, values, strict=True):
            value[of == fold] = (group[of == fold] - middle) @ direction / spread
    return values[0], values[1]


def _fisher(one: Points, other: Points) -> tuple[Points, float] | None:
    """Fisher's direction, (axes,), and the standard deviation along it within groups; None for equal means."""
    between = other.mean(0) - one.mean(0)
    if not between.any():
        return None
    within = sum((group - group.mean(0)).T @ (group - group.mean(0)) for group in (one, other)) / (
        len(one) + len(other)
    )
    axes = len(within)
    share = max(LEAST_SHRINKAGE, min(1.0, PER_AXIS * axes / (len(one) + len(other))))
    covariance = (1 - share) * within + (share * np.trace(within) / axes + 1e-12) * np.eye(axes)
    direction = np.linalg.solve(covariance, between)
    return direction, float(np.sqrt(direction @ covariance @ direction))


def _dip_of(one: Points, other: Points) -> float:
    """The dip of two groups of numbers, over its critical value.

    Both groups get equally many values, at most COMPARED, evenly spread over their sorted values. Otherwise the
    smaller group would hardly influence the dip.
    """
    number = min(len(one), len(other), COMPARED)
    thinned = [
        np.sort(some)[np.linspace(0, len(some) - 1, number).round().astype(int)] for some in (one, other)
    ]
    values = np.concatenate(thinned)
    return dip(values) / critical_dip(len(values))

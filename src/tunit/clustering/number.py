"""Find how many domains a set of pictures has, and the domain of each picture, from E's style codes.

First, k-means makes far more groups than there are domains. These are then merged pair by pair, the nearest pair
first [1]. Before each merge, the pictures of both groups are projected onto the direction that separates the groups
best [2]. If the projections have a single mode [3], the two groups are halves of one cluster; if they have two modes,
the groups are two kinds. Read backwards, each merge splits a group in two, so it is evidence for or against one more
domain. The weight of the evidence is how far the dip exceeds the dip to expect by chance [4].

No single measure is right on every set. The evidence is therefore averaged over clusterings of random subsets of the
pictures, and two more votes are added: how well these clusterings agree, and the silhouette [5].

References:
    [1] Ward. Hierarchical grouping to optimize an objective function, JASA 1963. [2] Fisher. The use of multiple
    measurements in taxonomic problems, 1936. [3] Hartigan, Hartigan. The dip test of unimodality, 1985. [4] The dip
    as judge of merges and splits: Vardakas, Kalogeratos, Likas. UniForCE, 2024; Kalogeratos, Likas. Dip-means, NIPS
    2012. [5] Rousseeuw. Silhouettes, 1987.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score

from tunit.clustering.choice import Candidate, Choice
from tunit.clustering.cues import Integers, Vectors
from tunit.clustering.graph import GRAPH_NEIGHBOURS, edges_of, normalised_cut
from tunit.clustering.merging import merge_unconfirmed, merge_unseparated, none_separates
from tunit.clustering.neighbours import find_neighbours
from tunit.clustering.partition import agreed_groups, k_means, k_means_in_pieces
from tunit.clustering.separation import Points, limit_for
from tunit.clustering.ward import FEWEST, Level, levels

# Codes are reduced to principal components: as many as hold this share of the variance, but at most this many.
VARIANCE, MOST_AXES = 0.95, 20
RUNS, SHARE = 5, 0.8  # extra clusterings, and the share of the pictures in each
# A split into k groups counts as evidence for k domains if the dip of its two parts is at least `needed` times the
# critical dip, where `needed` = AT_LEAST + PER_GROUP * k, but no more than AT_MOST. It grows with k because in large
# sets even small differences, such as those between photographs of two shelves in one shop, are significant. For
# small parts less is needed (`limit_for`).
AT_LEAST, PER_GROUP, AT_MOST = 1.0, 0.08, 2.5
GAIN, LOSS = 1.0, -0.5  # limits of the evidence of one split, for and against
SILHOUETTE_WEIGHT, STABILITY_WEIGHT = 0.5, 0.5  # relative to a clear split, whose weight is 1
SILHOUETTES_OF = 2_000  # the silhouette is computed from at most this many pictures
# In the graph each picture has one neighbour for every PICTURES_PER_NEIGHBOUR pictures of the set (but at least
# GRAPH_NEIGHBOURS), so that some edges cross every cut through a kind.
PICTURES_PER_NEIGHBOUR = 100
CANDIDATES = 6  # how many numbers of domains are reported


def choose_number(
    styles: Vectors, most: int, seed: int, cues: Mapping[str, Vectors] | None = None
) -> tuple[Choice, Integers]:
    """The number of domains among N pictures, and the domain of each, (N,): 0 is the largest domain.

    styles: (N, width), one code per picture. most: the largest number that may be chosen; it is also limited by the
    number of pictures (`_most_among`), and to the number of different codes. cues: (N, any width) by name, simple
    descriptors of the pictures. Groups that no cue separates are merged, if cues separate enough others
    (merge_unconfirmed).
    """
    points = components_of_variance(styles)
    rng = np.random.default_rng(seed)
    tried = max(1, min(most, len(points) // FEWEST))
    whole = levels(points, tried, seed)
    parts = [np.sort(rng.permutation(len(points))[: round(SHARE * len(points))]) for _ in range(RUNS)]
    runs = [levels(points[part], tried, seed + 1 + i) for i, part in enumerate(parts)]
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
    near = min(max(GRAPH_NEIGHBOURS, len(points) // PICTURES_PER_NEIGHBOUR), len(points) - 1)
    edges = edges_of(find_neighbours([torch.from_numpy(points)], near))
    split = best_groups(points, whole[chosen].groups, edges, seed)
    usual = float(np.median([whole[k].apart for k in range(2, chosen + 1)])) if chosen > 1 else 0.0
    separated = merge_unseparated(points, split, usual, needed, edges)
    confirmed = separated
    if cues:
        confirmed = merge_unconfirmed([components_of_variance(cue) for cue in cues.values()], separated, seed)
    assignment = _by_size(confirmed)
    number = int(assignment.max()) + 1
    scores = {k: float(np.exp(total[k] - total[chosen])) for k in ks}
    best = [number, *sorted(set(ks) - {number}, key=lambda k: -total[k])][:CANDIDATES]
    candidates = tuple(Candidate(k, scores[k], {n: round(v, 4) for n, v in votes[k].items()}) for k in best)
    splits = {k: _mean_split([run[k] for run in (whole, *runs) if k in run], k) for k in ks if k > 1}
    limit = _ceiling(chosen, most, len(points))
    reasons = _reasons(limit, chosen, splits, votes, assignment, len(np.unique(separated)), list(cues or ()))
    return Choice(number, candidates, tuple(reasons), len(points)), assignment


def components_of_variance(styles: Vectors) -> Points:
    """The first principal components of the codes: as many as hold 95 % of the variance, but at most MOST_AXES.

    (N, width) to (N, axes).
    """
    codes = np.asarray(styles, np.float64)
    if len(codes) < 3 or not np.ptp(codes, axis=0).any():
        return np.zeros((len(codes), 1))
    fitted = PCA(min(MOST_AXES, *codes.shape), svd_solver="full").fit(codes)
    axes = int(np.searchsorted(np.cumsum(fitted.explained_variance_ratio_), VARIANCE)) + 1
    points: Points = fitted.transform(codes)[:, :axes]
    return points


def needed(k: int) -> float:
    """How far apart the two parts of a split into k groups must be to count as evidence for k, if they are large."""
    return min(AT_LEAST + PER_GROUP * k, AT_MOST)


def split_evidence(run: dict[int, Level], most: int) -> Points:
    """For each k from 1 to `most`, the sum of the evidence of all splits from one group to k groups."""
    each = [
        float(np.clip(run[k].apart - _needed_at(run[k], k), LOSS, GAIN)) if k in run else LOSS
        for k in range(2, most + 1)
    ]
    return np.concatenate([[0.0], np.cumsum(each)])


def _needed_at(level: Level, k: int) -> float:
    """`needed` for the two parts that this level of k groups separates."""
    return float(limit_for(level.smaller, needed(k)))


def _mean_split(of_runs: Sequence[Level], k: int) -> tuple[float, float]:
    """How far apart the two parts of a split into k groups are, and how far they must be; averaged over runs."""
    return float(np.mean([level.apart for level in of_runs])), float(
        np.mean([_needed_at(level, k) for level in of_runs])
    )


def best_groups(points: Points, groups: Integers, edges: csr_matrix, seed: int) -> Integers:
    """The groups (N,) of Ward's method, or as many others if these are better.

    Where pictures of one kind differ more than kinds do, Ward's groups cut across kinds. The others are joined from
    pieces by agreement (tunit.clustering.partition). The smaller cut is better. If both are equal, Ward's groups are
    taken, because Ward's method also uses the distances between groups. edges: (N, N), the nearest neighbours' graph.
    """
    number = int(groups.max()) + 1
    if number == 1:
        return groups
    wards = refined(points, groups)
    joined = agreed_groups(k_means_in_pieces(points, number, seed), number)
    return joined if normalised_cut(edges, joined) < normalised_cut(edges, wards) else wards


def refined(points: Points, groups: Integers) -> Integers:
    """Improve groups by k-means that starts from their centres; unchanged if a group would become empty."""
    number = int(groups.max()) + 1
    centres = np.stack([points[groups == i].mean(0) for i in range(number)])
    moved: Integers = k_means(points, number, 0, centres=centres).labels_.astype(np.int64)
    return moved if len(np.unique(moved)) == number else groups


def _silhouette(points: Points, groups: Integers, rng: np.random.Generator) -> float:
    rows = rng.permutation(len(points))[:SILHOUETTES_OF]
    number = len(np.unique(groups[rows]))
    return float(silhouette_score(points[rows], groups[rows])) if 1 < number < len(rows) else 0.0


def _stability(groups: Integers, others: list[tuple[Integers, Integers]]) -> float:
    """How well clusterings of parts agree with the one of all pictures: the mean adjusted Rand index."""
    agreements = [adjusted_rand_score(groups[part], found) for part, found in others]
    return float(np.mean(agreements)) if agreements else 0.0


def _totals(votes: dict[int, dict[str, float]]) -> dict[int, float]:
    """The weighted sum of votes for each number. Silhouettes are divided by the best one; a single group gets 1."""
    best = max([vote["silhouette"] for k, vote in votes.items() if k > 1], default=1.0)
    totals = {}
    for k, vote in votes.items():
        silhouette = 1.0 if k == 1 else vote["silhouette"] / max(best, 1e-6)
        totals[k] = vote["splits"] + SILHOUETTE_WEIGHT * silhouette + STABILITY_WEIGHT * vote["stability"]
    return totals


def _by_size(groups: Integers) -> Integers:
    """The same groups, renumbered by size: 0 is the largest."""
    sizes = np.bincount(groups)
    numbers = np.empty(len(sizes), np.int64)
    numbers[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    renamed: Integers = numbers[groups]
    return renamed


def _most_among(pictures: int) -> int:
    """How many groups can be found among so many pictures: as many as the clusterings of parts have.

    They all speak against a split that they cannot make. So more groups are hardly ever chosen, even if the
    clustering of all pictures has more.
    """
    return max(1, round(SHARE * pictures) // FEWEST)


def _ceiling(chosen: int, most: int, pictures: int) -> str:
    """Why no more groups than `chosen` could be found; empty if they could. most: the limit that was asked for."""
    if chosen < min(most, _most_among(pictures)):
        return ""
    said = f"{chosen} is the largest number that could be found"
    if chosen == most:
        return f"{said} (--most-domains is {most}): there may be more domains"
    if chosen > 1:
        return f"{said} (there are only {pictures:,} pictures): there may be more domains"
    fewest = next(number for number in itertools.count(2 * FEWEST) if _most_among(number) > 1)
    return f"{said} (two need at least {fewest} pictures, and there are {pictures}): add pictures, or give --domains"


def _reasons(
    limit: str,
    chosen: int,
    splits: dict[int, tuple[float, float]],
    votes: dict[int, dict[str, float]],
    assignment: Integers,
    separated: int,
    cues: Sequence[str],
) -> list[str]:
    """Plain sentences, the most important first.

    limit: why no larger number was possible; empty if one was. splits: `_mean_split` by number of groups. separated:
    how many groups the codes tell apart. cues: names.
    """
    sizes = np.bincount(assignment)
    said = [limit] if limit else []
    said += [
        f"the separation of the two nearest of {k} groups is {apart:.2f} times what chance gives, averaged over "
        f"{RUNS + 1} clusterings: this speaks {'for' if apart >= wanted else 'against'} {k} groups "
        f"(needed: {wanted:.2f})"
        for k in (chosen, chosen + 1)
        if k in splits
        for apart, wanted in [splits[k]]
    ]
    if chosen == 1 and not limit:
        said.append(
            "if there are several kinds, E cannot tell them apart yet: let it train alone for longer, "
            "or give --domains"
        )
    silhouettes = {k: vote["silhouette"] for k, vote in votes.items() if k > 1}
    if silhouettes:
        best = max(silhouettes, key=lambda k: silhouettes[k])
        own = f", that of {chosen} {silhouettes[chosen]:.2f}" if chosen > 1 and chosen != best else ""
        said.append(f"the silhouette is best with {best} ({silhouettes[best]:.2f}{own})")
    if separated < chosen:
        said.append(
            f"{chosen - separated} of the {chosen} groups: not clearly apart from another one, and merged with it"
        )
    if len(sizes) < separated:
        said.append(
            f"{separated - len(sizes)} of the {separated} groups: apart from another one in E's codes alone "
            f"({none_separates(cues)}), and merged with it"
        )
    if chosen > 1:
        agreement = votes[chosen]["stability"]
        said.append(f"clusterings of parts of the pictures agree by {agreement:.2f} (adjusted Rand index)")
    return said

"""Which measure separates pictures into groups best: style codes, simple cues, or both together.

On some sets colours separate the kinds and outlines do not; on others it is the other way round. The best measures
can be found without labels: if a measure separates the kinds, the graph that connects each picture with its nearest
neighbours has a few parts with few edges between them (tunit.clustering.graph), and clearly fewer than it would have
by chance (tunit.clustering.groups_by_chance).

References:
    [1] Halko, Martinsson, Tropp. Finding structure with randomness, SIAM Review 2011 (how the PCA is found).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from tunit.clustering.cues import CUES, Integers, Pictures, Vectors, each_by_chunks
from tunit.clustering.groups_by_chance import GroupsByChance, Separation
from tunit.data.finding.spread import stride

REDUCED = 64  # principal components that replace a wider cue
MOST_FITTED = 10_000  # the principal components are computed from at most this many pictures
MOST_COMPARED = 5_000  # measures are compared by graphs of at most this many pictures
# Two measures are about equally good if the ratio of one is at most a tenth larger than that of the other. LEAST_TIE
# covers rounding errors if the ratios are 0.
TIE, LEAST_TIE = 0.1, 1e-6
# Up to this ratio a measure separates groups clearly. If codes do, colours with a smaller ratio may only see fewer
# kinds: those that share their colours are one group.
CLEAR_GROUPS = 0.2
# Up to this ratio measures with colours are believed. Colours of backgrounds, together with outlines, have 0.16 to
# 0.34 where they tell no kinds apart; colours of fruit have 0.10 to 0.14, those of creatures less.
BELIEVED = 0.15


def reduced(vectors: Tensor, width: int = REDUCED) -> Tensor:
    """The first `width` principal components of vectors (N, any width), float32 on the CPU.

    Vectors with at most `width` numbers stay as they are. In our tests nearest neighbours by the components had the
    same class at least as often as by the whole vectors; for pixels, the search is 30 times as fast.
    """
    return reduction(vectors[:: stride(len(vectors), MOST_FITTED)], width)(vectors)


def reduction(vectors: Tensor, width: int = REDUCED) -> Callable[[Tensor], Tensor]:
    """What `reduced` does, fitted to vectors (N, any width): a function of other such vectors."""
    if vectors.shape[1] <= width or len(vectors) <= width:
        return lambda others: others.float().cpu()
    # Equal vectors have a variance of 0, and its shares are NaN; they are not used here.
    with np.errstate(invalid="ignore"):
        found = PCA(width, svd_solver="randomized", random_state=0).fit(vectors.float().cpu().numpy())  # [1]
    return lambda others: torch.from_numpy(found.transform(others.float().cpu().numpy()).astype(np.float32))


def reduced_cues(images: Pictures, rows: Integers | None = None) -> dict[str, Tensor]:
    """Every cue that needs no training by name, as `each_reduced` gives it."""
    return each_reduced(CUES, images, rows)


def each_reduced(
    cues: Mapping[str, Callable[[Pictures], Vectors]], images: Pictures, rows: Integers | None = None
) -> dict[str, Tensor]:
    """Cues by name, `reduced`: each (N, at most REDUCED) float32, of pictures (N, S, S, 3).

    cues: functions that give (n, any width). rows: indices of the pictures to use; None for all. Pictures are read
    once for all cues, because shards may be far. Of a large set, cues are held in full only for the pictures to which
    their principal components are fitted; these are read twice.
    """
    every = np.arange(len(images)) if rows is None else rows
    fitted = every[:: stride(len(every), MOST_FITTED)]
    in_full = each_by_chunks(cues, images, fitted)
    found, narrow = {}, {}
    for name in cues:
        vectors = torch.from_numpy(in_full.pop(name))
        narrow[name] = reduction(vectors)
        if len(fitted) == len(every):
            found[name] = narrow[name](vectors)
    if found:
        return found
    functions = {name: partial(_narrowed, cue, narrow[name]) for name, cue in cues.items()}
    return {
        name: torch.from_numpy(of_all) for name, of_all in each_by_chunks(functions, images, rows).items()
    }


def _narrowed(
    cue: Callable[[Pictures], Vectors], narrow: Callable[[Tensor], Tensor], images: Pictures
) -> Vectors:
    """A cue's principal components of a few pictures; narrow: a `reduction`."""
    components: Vectors = narrow(torch.from_numpy(cue(images))).numpy()
    return components


class MeasureComparison:
    """Vectors (N, any width) of the same pictures by name, and the ratios of those that were compared.

    groups: into how many groups they should separate the pictures; several numbers if it is not known.
    Of a large set only every n-th picture is compared, so that at most MOST_COMPARED remain.
    """

    def __init__(self, vectors: Mapping[str, Tensor], groups: Sequence[int]) -> None:
        number = len(next(iter(vectors.values())))
        step = stride(number, MOST_COMPARED)
        self._vectors = {name: of_all[::step] for name, of_all in vectors.items()}
        self._by_chance = GroupsByChance(-(-number // step), groups)
        self._separations: dict[str, Separation] = {}
        self.ratios: dict[str, float] = {}  # by names joined by "and"

    def ratio(self, names: Sequence[str]) -> float:
        """The ratio (`GroupsByChance`) of some measures together."""
        together = " and ".join(names)
        if together not in self.ratios:
            self.ratios[together] = self._by_chance.ratio(self._separation(names))
        return self.ratios[together]

    def least_ratio(self, names: Sequence[str]) -> float:
        """The ratio is at least as large. It is found in half of the time."""
        return self._by_chance.ratio_by_dimension(self._separation(names))

    def _separation(self, names: Sequence[str]) -> Separation:
        """The graph of some measures together, which is computed once."""
        together = " and ".join(names)
        if together not in self._separations:
            measures = [self._vectors[name] for name in names]
            self._separations[together] = self._by_chance.separation(measures)
        return self._separations[together]

    def smallest(self, candidates: Iterable[Sequence[str]]) -> list[str]:
        """The one of these measures, or of these groups of measures, with the smallest ratio.

        Ratios are only found until no other one can be smaller.
        """
        first, *others = sorted(candidates, key=self.least_ratio)
        for names in others:
            if self.least_ratio(names) >= self.ratio(first):
                break
            first = min(first, names, key=self.ratio)
        return list(first)

    def best(self, names: Iterable[str]) -> list[str]:
        """The one of these measures with the smallest ratio, or two if together they are clearly better."""
        names = list(names)
        one = self.smallest([name] for name in names)
        two = self.smallest(combinations(names, 2)) if len(names) > 1 else one
        return two if self.is_clearly_better(two, one) else one

    def is_clearly_better(self, names: Sequence[str], others: Sequence[str]) -> bool:
        """Whether the ratio of some measures together is smaller than that of others by more than a tenth."""
        return self.ratio(names) < (1 - TIE) * self.ratio(others) - LEAST_TIE


def choose_measures(
    codes: Tensor, cues: Mapping[str, Tensor], groups: Sequence[int]
) -> tuple[list[str], dict[str, float]]:
    """Choose what separates groups of pictures best: style codes, the best cue or two cues, or all of these.

    groups: how many groups; several numbers if it is not known.
    codes: (N, width), the style codes; cues: (N, any width) by name, at least one. Returns the names of the chosen
    measures, and the ratio (`GroupsByChance`) of everything that was compared, by names joined by "and".
    If codes and the cues are about equally good, all are chosen if together they are about as good, because each has
    information that the others lack; if not, codes, because they tell apart kinds that share the cue. If one is
    clearly better, all are chosen only if they are at least as good as that one, because the other may spoil it; if
    not, the better one. But codes that separate groups clearly (CLEAR_GROUPS) are preferred to colours, which several
    kinds may share. Where codes are chosen, so is another cue with which they are clearly better.
    If the choice has colours, and does not separate the pictures clearly (BELIEVED), codes alone are chosen: colours
    may be those of backgrounds, and such neighbours would spoil what E has learnt from views.
    Raises ValueError if a number of groups is less than 1.
    """
    if not groups or min(groups) < 1:
        raise ValueError(f"groups is {groups}: without groups to separate, all measures are equally good")
    compared = MeasureComparison({"codes": codes, **cues}, groups)
    chosen = _separating_best(compared, list(cues))
    believed = "colours" not in chosen or compared.ratio(chosen) <= BELIEVED
    return chosen if believed else ["codes"], compared.ratios


def _separating_best(compared: MeasureComparison, cues: Sequence[str]) -> list[str]:
    """What `choose_measures` chooses, if colours are believed. cues: their names."""
    best_cues = compared.best(cues)
    of_codes, of_cues = compared.ratio(["codes"]), compared.ratio(best_cues)
    best, worse = sorted((of_codes, of_cues))
    tie = max(TIE * best, LEAST_TIE)
    if compared.ratio(["codes", *best_cues]) <= best + (tie if worse <= best + tie else LEAST_TIE):
        return ["codes", *best_cues]
    enough = max(best + tie, CLEAR_GROUPS if "colours" in best_cues else 0.0)
    if of_codes > enough:
        return best_cues
    # The best cue has just been refused, unless it was one of two.
    others = [["codes", cue] for cue in cues if [cue] != best_cues]
    with_a_cue = compared.smallest(others or [["codes"]])
    return with_a_cue if compared.is_clearly_better(with_a_cue, ["codes"]) else ["codes"]

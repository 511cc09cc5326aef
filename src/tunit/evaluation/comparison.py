"""Compare the features of real and of generated pictures by every figure for which there are enough pictures."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from tunit.errors import DataError
from tunit.evaluation.density_coverage import NEAREST, neighbourhoods
from tunit.evaluation.distances import FEWEST_FOR_KID, frechet_distance_of, kernel_distance
from tunit.evaluation.intervals import NORMAL_WITHIN, Figure, mean_figure, resampled_figure
from tunit.printing import numbered

FID_REPEATS = 10  # how often the sets are resampled for the interval of FID
FEWEST = 2  # with fewer pictures on a side there is no covariance, and so no distance
FEWEST_NEAR = NEAREST + 1  # with fewer pictures, a picture has too few neighbours
FEW = 50  # with fewer pictures on a side, a figure is only a rough estimate


@dataclass
class Comparison:
    """The figures that could be measured, and a note for each that could not."""

    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def compare_sets(real: Tensor, fake: Tensor, *, seed: int = 0) -> Comparison:
    """FID, KID, density, coverage, precision and recall of two sets of features, (N, width) and (M, width).

    FID needs two pictures on each side, KID four; density, coverage and precision need six real ones, recall needs
    six generated ones. A note is added for each figure that cannot be computed. Raises DataError for fewer than two
    pictures on a side.
    """
    check_enough(len(real), len(fake))
    found = Comparison()
    found.figures["FID"] = _frechet_figure(real, fake, seed)
    _add_kernel_distance(found, real, fake, seed)
    _add_neighbour_figures(found, real, fake, seed, recall=True)
    few = min(len(real), len(fake))
    if few < FEW:
        found.notes.append(
            f"with only {few} pictures on a side, every figure is only a rough estimate: see its interval"
        )
    return found


def compare_group(real: Tensor, fake: Tensor, *, seed: int = 0) -> Comparison:
    """FID, density and coverage of one group's translations, (M, width), against its real pictures (N, width)."""
    found = Comparison()
    if min(len(real), len(fake)) < FEWEST:
        found.notes.append(
            f"{_numbers_of_both(len(real), len(fake))} are too few to compare (at least {FEWEST} of each)"
        )
        return found
    found.figures["FID"] = _frechet_figure(real, fake, seed)
    _add_neighbour_figures(found, real, fake, seed, recall=False)
    return found


def check_enough(real: int, fake: int) -> None:
    """Raises DataError if there are too few pictures for any distance."""
    for number, kind in ((real, "real"), (fake, "generated")):
        if number < FEWEST:
            raise DataError(f"{number} {kind} pictures are too few for any figure: give at least {FEWEST}")


def _frechet_figure(real: Tensor, fake: Tensor, seed: int) -> Figure:
    """FID with its interval. A Frechet distance is never negative."""
    return resampled_figure(frechet_distance_of, real, fake, repeats=FID_REPEATS, seed=seed, least=0)


def _add_kernel_distance(found: Comparison, real: Tensor, fake: Tensor, seed: int) -> None:
    """Add KID, or a note if there are too few pictures."""
    if min(len(real), len(fake)) < FEWEST_FOR_KID:
        found.notes.append(
            f"KID: this needs at least {FEWEST_FOR_KID} pictures on each side, and there are {len(real)} real and "
            f"{len(fake)} generated ones"
        )
        return
    kid = kernel_distance(real, fake, seed=seed)
    half = NORMAL_WITHIN * kid.error
    found.figures["KID"] = Figure(kid.mean, kid.mean - half, kid.mean + half, kid.subset_size)


def _add_neighbour_figures(found: Comparison, real: Tensor, fake: Tensor, seed: int, *, recall: bool) -> None:
    """Add density and coverage (with `recall`, precision and recall, too), each if the side on which it needs
    neighbours has enough pictures; otherwise a note.
    """
    if len(real) >= FEWEST_NEAR:
        near = neighbourhoods(real, fake, recall=recall and len(fake) >= FEWEST_NEAR)
        found.figures["density"] = mean_figure(near.density, seed)
        found.figures["coverage"] = mean_figure(near.coverage, seed)
        if recall:
            found.figures["precision"] = mean_figure(near.precision, seed)
        if near.recall is not None:
            found.figures["recall"] = mean_figure(near.recall, seed)
    else:
        names = "density, coverage and precision" if recall else "density and coverage"
        found.notes.append(
            f"{names}: these need at least {FEWEST_NEAR} real pictures, and there are {len(real)}"
        )
    if not recall:
        return
    if len(fake) < FEWEST_NEAR:
        found.notes.append(
            f"recall: this needs at least {FEWEST_NEAR} generated pictures, and there are {len(fake)}"
        )
    elif "recall" not in found.figures:  # recall is precision with real and generated exchanged
        inside = neighbourhoods(fake, real, recall=False).precision
        found.figures["recall"] = mean_figure(inside, seed)


def _numbers_of_both(real: int, fake: int) -> str:
    return f"{numbered(real, 'real picture')} and {numbered(fake, 'translation')}"


def mean_of(figures: list[Figure]) -> Figure:
    """The mean of independent figures, with an interval computed from theirs.

    If none of their intervals goes below 0, that of the mean does not either: then they are never negative.
    """
    # An interval that ends at 0 is cut off there, so only its upper half tells its width.
    halves = np.array([f.high - f.value if f.low == 0 else (f.high - f.low) / 2 for f in figures])
    value = float(np.mean([figure.value for figure in figures]))
    half = float(np.sqrt(np.square(halves).sum()) / len(figures))
    least = 0.0 if all(figure.low >= 0 for figure in figures) else -np.inf
    return Figure(value, max(value - half, least), value + half, sum(figure.number for figure in figures))

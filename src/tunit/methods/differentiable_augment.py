"""Differentiable augmentation of what D sees: a shift and a grey square, each with some probability.

Real pictures and translations are augmented in the same way, and G's gradients flow through the augmentation; so G
does not learn to make pictures that look augmented. Random numbers are drawn for the whole batch from the run's seed
and the step's counter, so that they do not depend on the number of micro-batches or processes.

References:
    [1] Zhao et al. Differentiable augmentation for data-efficient GAN training, NeurIPS 2020.
    [2] Karras et al. Training generative adversarial networks with limited data, NeurIPS 2020.
"""

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from tunit.config import Config
from tunit.data.batching.randomness import torch_generator
from tunit.machine import to_device
from tunit.methods.losses import without_autocast
from tunit.networks.precision import at_least_float32

LARGEST_SHIFT = 1 / 8  # share of the picture's side, as in [1]
CUT = 1 / 2  # side of the square that is made grey, as a share of the picture's side, as in [1]


class InputKind(IntEnum):
    """The kinds of pictures that D sees in a step. Each kind has its own random numbers."""

    REAL = 0
    FAKE = 1
    FAKE_AGAIN = 2  # the translations, when D judges them again for G's loss
    RECONSTRUCTION = 3


class Draw(IntEnum):
    """The random numbers, uniform in [0, 1), that are drawn for one picture."""

    SHIFTS = 0  # the picture is shifted if this number is below the probability
    CUTS = 1
    DOWN = 2  # from here on: the size or position of each change
    RIGHT = 3  # next to DOWN
    CUT_ROW = 4
    CUT_COLUMN = 5  # next to CUT_ROW


@dataclass(frozen=True)
class DifferentiableAugment:
    """The augmentation of one step: its random numbers, for each kind of pictures, each picture and each change."""

    draws: Tensor  # (len(InputKind), B, len(Draw))
    probability: Tensor  # ()

    def __call__(self, x: Tensor, kind: InputKind, rows: slice) -> Tensor:
        """The pictures x (b, 3, S, S) in [-1, 1] as D sees them. rows: where they are in the whole batch."""
        # Random numbers stay in float32, although translations may be in bfloat16. With its 8 bits, a u just below 1
        # would become 1, and translations would be augmented in another way than real pictures.
        exact = at_least_float32(x)
        u, p = self.draws[kind, rows].to(exact), self.probability.to(exact)
        with without_autocast(x):
            # Slices: a list of columns would be copied to a GPU, and the CPU would wait for it.
            x = shifted_over_grey(x, u[:, Draw.DOWN : Draw.RIGHT + 1], u[:, Draw.SHIFTS] < p)
            return cut_out(x, u[:, Draw.CUT_ROW : Draw.CUT_COLUMN + 1], u[:, Draw.CUTS] < p)


def augment_of(counter: int, batch: int, probability: Tensor, config: Config) -> DifferentiableAugment:
    """The augmentation of a step.

    counter: the step's (`counter_of_step`). batch: the number of pictures, of all processes together.
    """
    generator = torch_generator(config.run.seed, "what D sees", counter)
    draws = torch.rand(len(InputKind), batch, len(Draw), generator=generator, dtype=torch.float64)
    draws = to_device(draws.to(torch.float32), probability.device)
    return DifferentiableAugment(draws, probability)


def shifted_over_grey(x: Tensor, u: Tensor, chosen: Tensor) -> Tensor:
    """Shift chosen pictures by whole pixels, up to an eighth of the side in each direction; fill the rest with grey.

    x: (b, 3, S, S); u: (b, 2) in [0, 1); chosen: (b,) bool. The picture is multiplied by matrices of zeros and ones,
    from the left to move rows and from the right to move columns. This is exact, twice differentiable and, unlike
    indexing with its scattered gradients, deterministic on a GPU.
    """
    size = x.shape[2]
    most = int(size * LARGEST_SHIFT + 0.5)
    # A product just below a whole number may be rounded to it.
    steps = ((u * (2 * most + 1)).floor().clamp_max(2 * most) - most) * chosen[:, None]  # (b, 2)
    places = torch.arange(size, device=x.device)
    # For rows and for columns: source[..., i, j] is 1 if place i gets what was at place j. (b, 2, S, S)
    origin = places[None, None] - steps.long()[:, :, None]
    source = (origin[..., None] == places).to(x.dtype)
    down, right = source[:, 0, None], source[:, 1, None]
    return down @ x @ right.mT


def cut_out(x: Tensor, u: Tensor, chosen: Tensor) -> Tensor:
    """Turn a square of half the side grey in chosen pictures. Its centre lies anywhere in the picture.

    Arguments as for `shifted_over_grey`.
    """
    size = x.shape[2]
    half = int(size * CUT + 0.5) // 2
    centres = (u * size).floor().clamp_max(size - 1)  # (b, 2)
    places = torch.arange(size, device=x.device, dtype=u.dtype)
    inside = (places >= centres[..., None] - half) & (places < centres[..., None] + half)  # (b, 2, S)
    cut = inside[:, 0, :, None] & inside[:, 1, None, :] & chosen[:, None, None]
    return x.masked_fill(cut[:, None], 0.0)

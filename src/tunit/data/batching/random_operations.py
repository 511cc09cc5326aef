"""A stronger, optional augmentation: a few random operations of the same magnitude, as in RandAugment.

It changes x+ and, with `both_views`, also x while E trains alone. The paper uses it for Food-10; here the option
`--random-operations` turns it on, as do the layouts `food-10` and `food-101`.

Each picture of a batch gets its own operations. Operations are defined for 8-bit pictures, so pictures are rounded to
256 values before and after each operation. The results of colour operations are exactly those of Pillow.

References:
    [1] Cubuk et al. RandAugment: practical automated data augmentation with a reduced search space, 2020 (the 14
    operations, N and M).
    [2] Cubuk et al. AutoAugment, CVPR 2019 (the ranges that a magnitude of 10 reaches).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.data.batching.randomness import Share
from tunit.machine import constant, to_device

LARGEST = 10.0  # the largest magnitude
# The largest change by each operation, at a magnitude of 10 [2].
ROTATION = 30.0  # degrees
SHEAR = 0.3  # shift divided by height
TRANSLATION = 150 / 331  # share of the side
BITS_LOST = 4  # how many of the 8 bits become 0
ENHANCEMENT = 0.9  # factors from 1 - 0.9 to 1 + 0.9
VALUES = 256
SMOOTH = (1.0, 1, 1, 1, 5, 1, 1, 1, 1)  # the kernel of the blur for sharpness, before division by 13

# An operation takes pictures (n, 3, S, S) of whole values from 0 to 255 and an amount (n,) from -1 to 1, and returns
# such pictures. Colour operations without a direction ignore the sign of the amount.
Operation = Callable[[Tensor, Tensor], Tensor]


def random_operations(
    x: Tensor, number: int, magnitude: float, generator: torch.Generator, share: Share | None = None
) -> Tensor:
    """Apply `number` random operations to each picture, one after the other, all equally probable [1].

    x: (B, 3, S, S) in [-1, 1]; the result too. magnitude: 0 to 10. generator: on the CPU; it determines everything
    random, independently of the pictures. share: which pictures of their batch these are; None means all.
    """
    share = share or Share(len(x))
    image = whole((x + 1) * 127.5)
    operations = list(OPERATIONS.values())
    for _ in range(number):
        # Drawn on the CPU, which then knows the pictures of each operation without waiting for the device.
        kinds = share.of(torch.randint(len(operations), (share.batch,), generator=generator))
        signs = share.of(2 * torch.randint(2, (share.batch,), generator=generator) - 1)
        amounts = signs * (magnitude / LARGEST)
        for kind in sorted(set(kinds.tolist())):
            rows = (kinds == kind).nonzero().squeeze(1)
            on_device = to_device(rows, x.device)
            amount = to_device(amounts[rows].to(image.dtype), x.device)
            changed = operations[kind](image[on_device], amount)
            image = image.index_copy(0, on_device, changed)
    return image / 127.5 - 1


def whole(image: Tensor) -> Tensor:
    """Rounded to the values of an 8-bit picture, 0 to 255."""
    return image.round().clamp(0, VALUES - 1)


# ---- colour ----


def autocontrast(image: Tensor) -> Tensor:
    """Stretch each channel so that its values go from 0 to 255; a channel of a single value stays as it is."""
    precise = _precise(image)
    low, high = image.amin((2, 3)).to(precise), image.amax((2, 3)).to(precise)  # (n, 3)
    # Dividing a number by a tensor would multiply by the reciprocal, which rounds differently from Pillow.
    scale = torch.full_like(low, VALUES - 1) / (high - low).clamp_min(1)
    levels = torch.arange(VALUES, device=image.device, dtype=precise)
    table = (levels * scale[..., None] + -low[..., None] * scale[..., None]).trunc().clamp(0, VALUES - 1)
    return _looked_up(image, torch.where((high > low)[..., None], table, levels))


def equalise(image: Tensor) -> Tensor:
    """Equalise the histogram of each channel, as far as whole values allow."""
    n, channels = image.shape[:2]
    flat = image.reshape(n, channels, -1).long()
    counts = torch.zeros(n, channels, VALUES, device=image.device, dtype=torch.int64)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    levels = torch.arange(VALUES, device=image.device)
    last = counts.gather(2, flat.amax(2, keepdim=True))  # of the largest value
    step = (flat.shape[2] - last) // (VALUES - 1)  # (n, 3, 1)
    before = counts.cumsum(2) - counts
    table = ((step // 2 + before) // step.clamp_min(1)).clamp_max(VALUES - 1)
    return _looked_up(image, torch.where(step > 0, table, levels))


def solarise(image: Tensor, size: Tensor) -> Tensor:
    """Invert all values from a threshold on. The threshold is 256 at size 0 (no change), and 0 at size 1."""
    threshold = VALUES * (1 - _wide(size))
    return torch.where(image < threshold, image, VALUES - 1 - image)


def posterise(image: Tensor, size: Tensor) -> Tensor:
    """Set the lowest bits to 0: none at size 0, four at size 1."""
    lost = 2.0 ** (_wide(size) * BITS_LOST).round()
    return (image / lost).floor() * lost


def colour(image: Tensor, factor: Tensor) -> Tensor:
    """Change saturation: factor 0 gives the grey version, 1 the picture itself, more than 1 stronger colours."""
    return _blended(_grey(image), image, factor)


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Change contrast: factor 0 gives the mean grey, 1 the picture itself, more than 1 a stronger contrast."""
    mean = (_grey(image).to(_precise(image)).mean((1, 2, 3), keepdim=True) + 0.5).floor().to(image.dtype)
    return _blended(mean, image, factor)


def brightness(image: Tensor, factor: Tensor) -> Tensor:
    """Change brightness: factor 0 gives black, 1 the picture itself, more than 1 a brighter one."""
    return _blended(torch.zeros_like(image), image, factor)


def sharpness(image: Tensor, factor: Tensor) -> Tensor:
    """Change sharpness: factor 0 blurs, 1 gives the picture itself, more than 1 sharpens.

    Border pixels do not change.
    """
    kernel = constant(SMOOTH, image.dtype, image.device).view(1, 1, 3, 3)
    height, width = image.shape[2:]
    # Whole numbers, so that the sums are exact at any precision of convolutions.
    inner = F.conv2d(image.reshape(-1, 1, height, width), kernel) / sum(SMOOTH)
    inner = inner.view(*image.shape[:2], height - 2, width - 2)
    blurred = image.clone()
    blurred[:, :, 1:-1, 1:-1] = (inner + 0.5).floor().clamp(0, VALUES - 1)
    return _blended(blurred, image, factor)


def _grey(image: Tensor) -> Tensor:
    """ITU-R BT.601 luma in whole numbers, as Pillow computes it: (n, 1, S, S)."""
    weights = constant((19595, 38470, 7471), torch.int64, image.device)[:, None, None]
    total = (image.long() * weights).sum(1, keepdim=True) + 0x8000
    return (total >> 16).to(image.dtype)


def _blended(other: Tensor, image: Tensor, factor: Tensor) -> Tensor:
    """other + factor * (image - other), cut off to whole values."""
    return (other + _wide(factor) * (image - other)).trunc().clamp(0, VALUES - 1)


def _looked_up(image: Tensor, table: Tensor) -> Tensor:
    """Values replaced by those of a table (n, 3, 256)."""
    found = table.to(image.dtype).gather(2, image.flatten(2).long())
    return found.view_as(image)


def _precise(image: Tensor) -> torch.dtype:
    """float64; float32 on a device that has no float64, where a value may then round differently from Pillow."""
    return torch.float32 if image.device.type == "mps" else torch.float64


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


# ---- geometry ----


def moved(image: Tensor, matrix: list[list[Tensor]]) -> Tensor:
    """Resample by a (2, 3) matrix with entries (n,), from output to input coordinates in [-1, 1].

    Beyond the edge the picture is mirrored, as in the other transforms.
    """
    n = len(image)
    theta = torch.stack([torch.stack([entry.expand(n) for entry in row], 1) for row in matrix], 1)
    grid = F.affine_grid(theta.to(image.dtype), list(image.shape), align_corners=False)
    return whole(F.grid_sample(image, grid, padding_mode="reflection", align_corners=False))


def rotated(image: Tensor, degrees: Tensor) -> Tensor:
    """Turn pictures about their centres by `degrees` (n,), anticlockwise."""
    angle = degrees * (math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return moved(image, [[cos, -sin, zero], [sin, cos, zero]])


def sheared(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Shift each row by x (n,) times its height above the centre; in the same way, columns by y (n,)."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return moved(image, [[one, x, zero], [y, one, zero]])


def shifted(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Move pictures to the left by a share x (n,) of the side, and up by a share y (n,)."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return moved(image, [[one, zero, 2 * x], [zero, one, 2 * y]])


def _factor(amount: Tensor) -> Tensor:
    return 1 + ENHANCEMENT * amount


OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, amount: image,
    "autocontrast": lambda image, amount: autocontrast(image),
    "equalise": lambda image, amount: equalise(image),
    "rotate": lambda image, amount: rotated(image, ROTATION * amount),
    "solarise": lambda image, amount: solarise(image, amount.abs()),
    "colour": lambda image, amount: colour(image, _factor(amount)),
    "posterise": lambda image, amount: posterise(image, amount.abs()),
    "contrast": lambda image, amount: contrast(image, _factor(amount)),
    "brightness": lambda image, amount: brightness(image, _factor(amount)),
    "sharpness": lambda image, amount: sharpness(image, _factor(amount)),
    "shear x": lambda image, amount: sheared(image, SHEAR * amount, 0 * amount),
    "shear y": lambda image, amount: sheared(image, 0 * amount, SHEAR * amount),
    "translate x": lambda image, amount: shifted(image, TRANSLATION * amount, 0 * amount),
    "translate y": lambda image, amount: shifted(image, 0 * amount, TRANSLATION * amount),
}

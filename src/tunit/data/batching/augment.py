"""The two views of a batch, on the device: x+ is transformed at random; x is only flipped, except with `both_views`.

Rotation, shift, shear, crop and flip of a picture are one affine map, so that it is resampled only once. Then come
colour jitter and optionally, as the paper does for Food-10, randomly chosen operations, some of which resample the
picture again. Areas outside of the picture are filled by mirroring it, because black corners would distinguish views
from real pictures.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.config import AugmentConfig
from tunit.config.fields import check_chosen
from tunit.data.batching.random_operations import random_operations
from tunit.data.batching.randomness import Share
from tunit.machine import constant, to_device

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma


def to_float(images: Tensor) -> Tensor:
    """uint8 (B, S, S, 3) to float32 (B, 3, S, S) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def to_uint8(x: Tensor) -> Tensor:
    """The inverse of `to_float`, with rounding and clipping: float (B, 3, S, S) to uint8 (B, S, S, 3)."""
    scaled = x.detach().float().add(1).mul(127.5).round_().clamp_(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def two_views(
    x: Tensor,
    settings: AugmentConfig,
    generator: torch.Generator,
    *,
    partners: Tensor | None = None,
    both: bool = False,
    share: Share | None = None,
    side: int = 0,
) -> tuple[Tensor, Tensor]:
    """The first views of pictures x (B, 3, S, S), and their second views x+, both in [-1, 1], on x's device.

    generator: on the CPU; it determines everything random. partners: (B, 3, S, S), the pictures of which x+ are
    views; None for views of x itself. both: transform x at random like x+, instead of only flipping it. share: which
    pictures of the batch this process has; None means all. Random numbers are drawn for the whole batch, so that the
    views of a picture do not depend on the number of processes. side: what is transformed at random is at most this
    large (`random_view`); 0 means any size.
    """
    share = share or Share(len(x))
    mirror = share.of(torch.rand(share.batch, generator=generator) < settings.flip)
    plain = torch.where(to_device(mirror, x.device)[:, None, None, None], x.flip(3), x)
    moved = random_view(x if partners is None else partners, settings, generator, share, side)
    return random_view(x, settings, generator, share, side) if both else plain, moved


def random_view(
    x: Tensor,
    settings: AugmentConfig,
    generator: torch.Generator,
    share: Share | None = None,
    side: int = 0,
) -> Tensor:
    """x+ of pictures x (B, 3, S, S), both in [-1, 1]: moved, cropped and jittered at random.

    share: as above. side: a larger view is shrunk to it by averaging, as E does itself (`Guide`). Here it is done
    before the jitter of colours, which takes most of the time. 0: views stay (B, 3, S, S).
    """
    share = share or Share(len(x))
    theta = to_device(share.of(random_affine(share.batch, settings, generator)).contiguous(), x.device)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if 0 < side < x.shape[-1]:
        moved = F.avg_pool2d(moved, x.shape[-1] // side)
    moved = jitter(moved, settings, generator, share)
    if settings.random_operations:
        strength = settings.random_operations, settings.random_magnitude
        moved = random_operations(moved, *strength, generator, share)
    return moved


def random_affine(batch: int, settings: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(B, 2, 3) maps from output to input coordinates in [-1, 1]: affine, then resized crop, then flip.

    Raises ConfigError if the area of the crops has not been chosen yet.
    """
    check_chosen(settings, "crop_area")

    def uniform(low: float, high: float) -> Tensor:
        """(B,) random numbers from low to high."""
        return low + (high - low) * torch.rand(batch, generator=generator)

    def symmetric(limit: float) -> Tensor:
        """(B,) random numbers from -limit to limit."""
        return uniform(-limit, limit)

    angle, shear = symmetric(math.radians(settings.rotation)), symmetric(math.radians(settings.shear))
    shift = torch.stack([symmetric(2 * settings.translation), symmetric(2 * settings.translation)], 1)
    # Output to input coordinates: the inverses of shear, rotation and shift, in reverse order. (B, 2, 2)
    cos, sin, tan, one, zero = angle.cos(), angle.sin(), shear.tan(), torch.ones(batch), torch.zeros(batch)
    unrotate = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)
    unshear = torch.stack([torch.stack([one, -tan], 1), torch.stack([zero, one], 1)], 1)
    linear = unshear @ unrotate
    # The crop is a window of the moved picture: its size (w, h), and its centre so that it stays inside the picture.
    area = uniform(*settings.crop_area).clamp_max(1)
    low, high = settings.crop_aspect
    aspect = uniform(math.log(low), math.log(high)).exp()
    window = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1).clamp_max(1)  # (B, 2)
    centre = (1 - window) * torch.stack([symmetric(1), symmetric(1)], 1)
    mirror = torch.where(torch.rand(batch, generator=generator) < settings.flip, -1.0, 1.0)
    window = window * torch.stack([mirror, one], 1)
    matrix = linear * window[:, None, :]
    offset = (linear @ (centre - shift)[:, :, None]).squeeze(2)
    return torch.cat([matrix, offset[:, :, None]], dim=2)


def jitter(
    x: Tensor, settings: AugmentConfig, generator: torch.Generator, share: Share | None = None
) -> Tensor:
    """Colour jitter: factors differ per picture, the order of the changes is random for the batch.

    x: (B, 3, S, S) in [-1, 1]. Raises ConfigError if the strength has not been chosen yet.
    """
    share = share or Share(len(x))
    check_chosen(settings, "saturation", "hue")

    def factor(limit: float) -> Tensor:
        """(b, 1, 1, 1) random factors from 1 - limit to 1 + limit."""
        draw = 1 - limit + 2 * limit * torch.rand(share.batch, generator=generator)
        return to_device(share.of(draw), x.device)[:, None, None, None]

    factors = [factor(settings.brightness), factor(settings.contrast), factor(settings.saturation)]
    turn = share.of((2 * torch.rand(share.batch, generator=generator) - 1) * settings.hue)
    limits = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    image = (x + 1) / 2
    for kind in torch.randperm(4, generator=generator).tolist():
        if limits[kind] == 0:
            continue
        if kind == 0:
            image = (image * factors[0]).clamp(0, 1)
        elif kind == 1:
            image = _blend(image, _grey(image).mean(dim=(1, 2, 3), keepdim=True), factors[1])
        elif kind == 2:
            image = _blend(image, _grey(image), factors[2])
        else:
            image = turn_hue(image, to_device(turn, x.device))
    return (image * 2 - 1).clamp(-1, 1)


def _grey(image: Tensor) -> Tensor:
    """The luma of pictures (B, 3, S, S): (B, 1, S, S)."""
    weights = constant(GREY, image.dtype, image.device).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def _blend(image: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * image + (1 - factor) * other).clamp(0, 1)


def turn_hue(image: Tensor, turn: Tensor) -> Tensor:
    """Turn the HSV hue by `turn` (B,), in full circles. image: (B, 3, S, S) in [0, 1].

    Value v and chroma c stay the same, so the picture need not be converted to HSV and back. For a hue h in [0, 6),
    the channels are v - c * clip(min(k, 4 - k), 0, 1) with k = (n + h) mod 6 and n = 5, 3, 1 for red, green, blue.
    """
    value, low = image.amax(1, keepdim=True), image.amin(1, keepdim=True)
    chroma = value - low
    r, g, b = image.unbind(1)
    v, c = value.squeeze(1), chroma.squeeze(1).clamp_min(1e-12)
    hue = torch.where(v == r, (g - b) / c, torch.where(v == g, 2 + (b - r) / c, 4 + (r - g) / c))
    hue = hue + 6 * turn.to(image.dtype)[:, None, None]
    n = constant((5.0, 3.0, 1.0), image.dtype, image.device).view(1, 3, 1, 1)
    k = (n + hue[:, None]).remainder(6)
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)

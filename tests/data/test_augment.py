"""The two views, compared with kornia, colorsys, and matrices multiplied in numpy."""

import colorsys
import math
from collections.abc import Callable
from typing import Any

import kornia
import numpy as np
import pytest
import torch
from torch import Tensor

from tunit.config import AugmentConfig
from tunit.data.batching.augment import (
    jitter,
    random_affine,
    random_view,
    to_float,
    to_uint8,
    turn_hue,
    two_views,
)

NOTHING: dict[str, Any] = {
    "flip": 0.0,
    "rotation": 0.0,
    "translation": 0.0,
    "shear": 0.0,
    "crop_area": (1.0, 1.0),
    "crop_aspect": (1.0, 1.0),
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
}


def only(**settings: Any) -> AugmentConfig:
    """Settings that change nothing except what is named."""
    return AugmentConfig(**(NOTHING | settings))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(batch: int = 4, size: int = 32) -> Tensor:
    """Smooth pictures in [-1, 1], for which two resamplings in a row are close to one."""
    coarse = torch.rand(batch, 3, 6, 6, generator=seeded(9)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")


def square(theta: Tensor) -> np.ndarray:
    """(B, 2, 3) as (B, 3, 3) float64 matrices."""
    last = torch.tensor([0.0, 0.0, 1.0]).expand(len(theta), 1, 3)
    return torch.cat([theta, last], 1).double().numpy()


# ---- conversions ----


def test_all_256_values_come_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    images = torch.stack([values, values.flip(0), values.roll(7)], 1).view(4, 8, 8, 3)
    x = to_float(images)
    assert x.shape == (4, 3, 8, 8)
    assert x.dtype == torch.float32
    assert (x.min().item(), x.max().item()) == (-1, 1)
    assert torch.equal(to_uint8(x), images)
    assert x[1, 2, 3, 4].item() == pytest.approx(images[1, 3, 4, 2].item() / 255 * 2 - 1, abs=1e-6)


def test_to_uint8_rounds_and_clips() -> None:
    x = torch.tensor([-2.0, -1.0, 0.4999 / 127.5 - 1, 0.5001 / 127.5 - 1, 1.0, 3.0]).view(1, 1, 1, 6)
    assert to_uint8(x.expand(1, 3, 1, 6))[0, 0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_to_float_leaves_its_input_alone() -> None:
    images = torch.full((1, 4, 4, 3), 200, dtype=torch.uint8)
    to_float(images)
    assert (images == 200).all()


# ---- both views ----


def test_settings_of_zero_change_nothing() -> None:
    x = pictures()
    same, x_plus = two_views(x, only(), seeded())
    assert torch.equal(same, x)
    torch.testing.assert_close(x_plus, x, atol=1e-5, rtol=0)


def test_a_flip_probability_of_1_mirrors_both_views() -> None:
    x = pictures()
    mirrored, x_plus = two_views(x, only(flip=1.0), seeded())
    assert torch.equal(mirrored, torch.flip(x, dims=[3]))
    torch.testing.assert_close(x_plus, torch.flip(x, dims=[3]), atol=1e-5, rtol=0)


def test_the_views_flip_independently_with_their_probability() -> None:
    x = pictures(1, 8).expand(2000, 3, 8, 8)
    plain, plus = ((view - x).abs().amax((1, 2, 3)) > 1e-3 for view in two_views(x, only(flip=0.3), seeded()))
    # Standard deviations: sqrt(0.3 * 0.7 / 2000) = 0.010 and sqrt(0.09 * 0.91 / 2000) = 0.0064; allow five of each.
    assert plain.double().mean().item() == pytest.approx(0.3, abs=0.05)
    assert plus.double().mean().item() == pytest.approx(0.3, abs=0.05)
    assert (plain & plus).double().mean().item() == pytest.approx(0.09, abs=0.032)


def test_the_first_view_is_the_picture_or_its_mirror() -> None:
    x = pictures(8)
    view, _ = two_views(x, AugmentConfig(), seeded())
    for ours, picture in zip(view, x, strict=True):
        assert torch.equal(ours, picture) or torch.equal(ours, picture.flip(2))


def test_views_are_determined_by_the_generator() -> None:
    x = pictures()
    first, again, other = (two_views(x, AugmentConfig(), seeded(s)) for s in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


def test_every_picture_gets_its_own_transform() -> None:
    x = pictures(1).expand(6, 3, 32, 32)
    _, x_plus = two_views(x, AugmentConfig(), seeded())
    for i in range(6):
        assert all((x_plus[i] - x_plus[j]).abs().max() > 0.01 for j in range(i))


@pytest.mark.parametrize("seed", range(3))
def test_views_stay_within_the_range(seed: int) -> None:
    x = torch.rand(8, 3, 32, 32, generator=seeded(seed)).round() * 2 - 1  # only the extreme values -1 and 1
    strong = AugmentConfig(
        rotation=180, translation=0.5, shear=40, brightness=1, contrast=1, saturation=1, hue=0.5
    )
    for view in two_views(x, strong, seeded(seed)):
        assert view.shape == x.shape
        assert view.isfinite().all()
        assert view.min() >= -1
        assert view.max() <= 1


def test_what_lies_outside_the_picture_is_mirrored_not_black() -> None:
    """A picture of a single colour keeps it everywhere under any geometric transform."""
    x = torch.tensor([0.8, -0.3, 0.1]).view(1, 3, 1, 1).expand(16, 3, 32, 32)
    _, x_plus = two_views(x, only(rotation=180.0, translation=0.5, shear=30.0, flip=0.5), seeded())
    torch.testing.assert_close(x_plus, x.contiguous(), atol=1e-5, rtol=0)


# ---- geometry: one transform at a time ----


def test_rotations_stay_within_their_limit() -> None:
    theta = square(random_affine(500, only(rotation=20.0), seeded()))
    angles = np.degrees(np.arctan2(theta[:, 0, 1], theta[:, 0, 0]))
    assert np.abs(angles).max() <= 20
    assert angles.min() < -19
    assert angles.max() > 19
    for matrix, angle in zip(theta, np.radians(angles), strict=True):
        expected = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        np.testing.assert_allclose(matrix[:2, :2], expected, atol=1e-6)
    assert not theta[:, :2, 2].any()


def test_rotation_equals_kornia() -> None:
    x = pictures()
    _, x_plus = two_views(x, only(rotation=90.0), seeded())
    theta = random_affine_of(x, only(rotation=90.0))
    # kornia measures angles counter-clockwise and assumes that the y axis points down.
    angle = -torch.rad2deg(torch.atan2(theta[:, 0, 1], theta[:, 0, 0]))
    expected = kornia.geometry.transform.rotate(x, angle, mode="bilinear", align_corners=True)
    disc = torch.hypot(*torch.meshgrid(*[torch.arange(32) - 15.5] * 2, indexing="ij")) < 15
    torch.testing.assert_close(x_plus[:, :, disc], expected[:, :, disc], atol=1e-4, rtol=0)
    assert angle.abs().max() > 30  # otherwise the comparison proves nothing


def random_affine_of(x: Tensor, settings: AugmentConfig) -> Tensor:
    """The matrices that `two_views` draws from `seeded()`; the first draw decides whether x is flipped."""
    generator = seeded()
    torch.rand(len(x), generator=generator)
    return random_affine(len(x), settings, generator)


def test_shears_are_horizontal_and_within_their_limit() -> None:
    theta = square(random_affine(500, only(shear=10.0), seeded()))
    angles = np.degrees(np.arctan(-theta[:, 0, 1]))
    assert np.abs(angles).max() <= 10
    assert angles.min() < -9.5
    assert angles.max() > 9.5
    theta[:, 0, 1] = 0
    assert np.array_equal(theta, np.broadcast_to(np.eye(3), theta.shape))


def test_shear_equals_kornia() -> None:
    x = pictures()
    _, x_plus = two_views(x, only(shear=30.0), seeded())
    slope = random_affine_of(x, only(shear=30.0))[:, 0, 1]
    # In pixels about the centre: output (u, v) shows input (u + slope * v, v); kornia wants input to output.
    forward = torch.eye(3).repeat(4, 1, 1)
    forward[:, 0, 1] = -slope
    forward[:, 0, 2] = slope * 15.5
    expected = kornia.geometry.transform.warp_affine(x, forward[:, :2], (32, 32), align_corners=True)
    inner = (slice(None), slice(None), slice(10, 22), slice(4, 28))
    torch.testing.assert_close(x_plus[inner], expected[inner], atol=1e-4, rtol=0)
    assert slope.abs().min() > 0.01


def test_translation_limits_are_shares_of_the_side() -> None:
    theta = square(random_affine(500, only(translation=0.1), seeded()))
    shifts = -theta[:, :2, 2] / 2  # coordinates run from -1 to 1, so a side is 2 long
    assert np.abs(shifts).max() <= 0.1
    assert (shifts.min(0) < -0.095).all()
    assert (shifts.max(0) > 0.095).all()
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.2
    theta[:, :2, 2] = 0
    assert np.array_equal(theta, np.broadcast_to(np.eye(3), theta.shape))


def test_translation_equals_kornia() -> None:
    x = pictures()
    _, x_plus = two_views(x, only(translation=0.2), seeded())
    pixels = -random_affine_of(x, only(translation=0.2))[:, :, 2] * 16
    expected = kornia.geometry.transform.translate(x, pixels, align_corners=True)
    inner = (slice(None), slice(None), slice(7, 25), slice(7, 25))
    torch.testing.assert_close(x_plus[inner], expected[inner], atol=1e-4, rtol=0)
    assert pixels.abs().max() > 2


def test_translation_mirrors_at_the_edge() -> None:
    """Compared with numpy's symmetric padding, if the shift is a whole number of pixels."""
    x = pictures(1)
    theta = torch.tensor([[[1.0, 0.0, 2 * 5 / 32], [0.0, 1.0, -2 * 3 / 32]]])
    grid = torch.nn.functional.affine_grid(theta, [1, 3, 32, 32], align_corners=False)
    moved = torch.nn.functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    padded = np.pad(x[0].numpy(), ((0, 0), (8, 8), (8, 8)), mode="symmetric")
    np.testing.assert_allclose(moved[0].numpy(), padded[:, 5:37, 13:45], atol=1e-5)


@pytest.mark.parametrize(
    ("area", "aspect"), [((0.9, 1.1), (0.9, 1.1)), ((0.2, 0.8), (0.5, 2.0)), ((0.04, 1.0), (1.0, 1.0))]
)
def test_crop_windows_stay_within_the_picture(area: tuple[float, float], aspect: tuple[float, float]) -> None:
    theta = square(random_affine(500, only(crop_area=area, crop_aspect=aspect), seeded()))
    width, height, centre = theta[:, 0, 0], theta[:, 1, 1], theta[:, :2, 2]
    assert not theta[:, 0, 1].any()
    assert not theta[:, 1, 0].any()
    for side, middle in ((width, centre[:, 0]), (height, centre[:, 1])):
        assert (side > 0).all()
        assert (np.abs(middle) + side <= 1 + 1e-6).all()
    inside = (width < 1 - 1e-6) & (height < 1 - 1e-6)  # the window was not clipped on either side
    assert inside.sum() > 100
    shares, ratios = (width * height)[inside], (width / height)[inside]
    assert shares.min() >= area[0] - 1e-6
    assert shares.max() <= min(area[1], 1) + 1e-6
    assert ratios.min() >= aspect[0] - 1e-6
    assert ratios.max() <= aspect[1] + 1e-6
    if area[0] < 0.5:  # the windows lie everywhere
        assert (np.abs(centre) + np.stack([width, height], 1)).max() > 0.99
        assert centre.min() < -0.1 < 0.1 < centre.max()


def test_crop_equals_resizing_the_window() -> None:
    """The window is the central quarter; the result must equal bilinear interpolation of its pixels."""
    x = pictures()
    settings = only(crop_area=(0.25, 0.25))
    _, x_plus = two_views(x, settings, seeded())
    theta = random_affine_of(x, settings).double().numpy()
    for b in range(4):
        for row, column in ((0, 0), (3, 30), (16, 7), (31, 31)):
            u, v = ((2 * i + 1) / 32 - 1 for i in (column, row))
            px = ((0.5 * u + theta[b, 0, 2] + 1) * 32 - 1) / 2
            py = ((0.5 * v + theta[b, 1, 2] + 1) * 32 - 1) / 2
            if not (0 <= px <= 31 and 0 <= py <= 31):
                continue
            i, j = min(int(py), 30), min(int(px), 30)
            corners = x[b, :, i : i + 2, j : j + 2].double().numpy()
            expected = np.array([1 - (py - i), py - i]) @ corners @ np.array([1 - (px - j), px - j])
            np.testing.assert_allclose(x_plus[b, :, row, column].numpy(), expected, atol=1e-4)


def test_all_transforms_together_equal_their_composition() -> None:
    """Shear, rotation, shift, then crop and flip. With one seed, every subset of them draws the same numbers."""
    everything = {
        "shear": 30.0,
        "rotation": 60.0,
        "translation": 0.3,
        "crop_area": (0.3, 0.9),
        "crop_aspect": (0.5, 2.0),
        "flip": 0.5,
    }

    def drawn(*names: str) -> np.ndarray:
        return square(random_affine(16, only(**{n: everything[n] for n in names}), seeded()))

    shear, rotate, shift, flip = (
        np.linalg.inv(drawn(n)) for n in ("shear", "rotation", "translation", "flip")
    )
    crop = np.linalg.inv(drawn("crop_area", "crop_aspect"))
    forward = flip @ crop @ shift @ rotate @ shear  # maps a point of the picture
    np.testing.assert_allclose(drawn(*everything), np.linalg.inv(forward), atol=1e-5)
    assert set(np.sign(np.linalg.det(flip))) == {-1, 1}


# ---- colour ----


def recovered(
    settings: AugmentConfig, model: Callable[[np.ndarray, float], np.ndarray], limit: float
) -> list[float]:
    """For each of 24 random colour pictures, the factor for which `model` gives the jittered picture."""
    image = torch.rand(24, 3, 6, 6, generator=seeded(2))
    out = (jitter(image * 2 - 1, settings, seeded()).double().numpy() + 1) / 2
    factors = np.linspace(1 - limit, 1 + limit, 20_001)
    found = []
    for before, after in zip(image.double().numpy(), out, strict=True):
        # Compute the factors that explain one unclipped value, then keep those that explain the whole picture.
        flat = int(np.argmin(np.abs(after - 0.5)))
        zero, one = (np.clip(model(before, f), -9, 9).flat[flat] for f in (0.0, 1.0))
        factor = (after.flat[flat] - zero) / (one - zero)
        np.testing.assert_allclose(after, np.clip(model(before, factor), 0, 1), atol=2e-5)
        assert factors[0] - 1e-3 <= factor <= factors[-1] + 1e-3
        found.append(float(factor))
    return found


def luma(image: np.ndarray) -> np.ndarray:
    return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]


MODELS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "brightness": lambda image, f: image * f,
    "contrast": lambda image, f: luma(image).mean() + f * (image - luma(image).mean()),
    "saturation": lambda image, f: luma(image) + f * (image - luma(image)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_jitter_follows_its_formula_with_factors_in_its_range(kind: str) -> None:
    factors = recovered(only(**{kind: 0.4}), MODELS[kind], 0.4)
    assert min(factors) < 0.75
    assert max(factors) > 1.25


def test_saturation_0_is_grey_and_contrast_keeps_the_mean() -> None:
    x = torch.rand(4, 3, 8, 8, generator=seeded()) * 0.4 - 0.2  # a small change, so that nothing is clipped
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    for kind in ("saturation", "contrast"):
        out = jitter(x, only(**{kind: 0.9}), seeded())
        luma_before, luma_after = ((v * weights).sum(1) for v in (x, out))
        if kind == "saturation":
            torch.testing.assert_close(luma_after, luma_before, atol=1e-5, rtol=0)
        else:
            torch.testing.assert_close(luma_after.mean((1, 2)), luma_before.mean((1, 2)), atol=1e-5, rtol=0)
        assert (out - x).abs().max() > 0.02


def corners() -> Tensor:
    """Random colours, and colours with equal channels: greys, two equal channels, black and white."""
    random = torch.rand(3, 200, generator=seeded())
    levels = torch.cartesian_prod(*[torch.tensor([0.0, 0.4, 1.0])] * 3).T
    return torch.cat([random, levels], 1)  # (3, 227)


@pytest.mark.parametrize("turn", [0.0, 0.125, -0.125, 0.5, -0.5, 1 / 3, 0.9999])
def test_hue_equals_colorsys_for_each_pixel(turn: float) -> None:
    colours = corners()
    out = turn_hue(colours[None, :, None], torch.tensor([turn]))[0, :, 0]
    for before, after in zip(colours.T.tolist(), out.T.tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before)
        assert after == pytest.approx(colorsys.hsv_to_rgb((h + turn) % 1, s, v), abs=1e-5)


def test_hue_equals_kornia() -> None:
    image = torch.rand(3, 3, 8, 8, generator=seeded())
    turn = torch.tensor([0.1, -0.05, 0.4])
    expected = kornia.enhance.adjust_hue(image, 2 * math.pi * turn)
    torch.testing.assert_close(turn_hue(image, turn), expected, atol=1e-4, rtol=0)


def test_hue_of_each_picture_turns_within_its_limit() -> None:
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(300, 3, 2, 2)
    out = (jitter(red, only(hue=0.125), seeded()) + 1) / 2
    turns = np.array(
        [(colorsys.rgb_to_hsv(*colour)[0] + 0.5) % 1 - 0.5 for colour in out[:, :, 0, 0].tolist()]
    )
    assert np.abs(turns).max() <= 0.125 + 1e-6
    assert turns.min() < -0.115
    assert turns.max() > 0.115


def test_jitter_uses_every_order() -> None:
    """The order of the four changes matters where colours are clipped, and is drawn once for each batch.

    Only the two orders of brightness and contrast are tested here.
    """
    x = torch.full((1, 3, 4, 4), 0.9)
    x[:, :, :2] = -0.9
    settings = only(brightness=1.0, contrast=1.0)

    def literal(brightness_first: bool, seed: int) -> Tensor:
        # The factors come from two runs with one kind each: with one seed both draw the same numbers.
        probe = torch.tensor([[-0.5, -0.9]]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
        bright = ((jitter(probe, only(brightness=1.0), seeded(seed)) + 1) / 2)[0, 0, 0, 0] / 0.25
        out = (jitter(probe, only(contrast=1.0), seeded(seed)) + 1) / 2
        contrast = (out[0, 0, 0, 0] - out[0, 0, 0, 1]) / 0.2
        image = (x + 1) / 2
        for bright_now in (brightness_first, not brightness_first):
            if bright_now:
                image = (image * bright).clamp(0, 1)
            else:
                image = (contrast * image + (1 - contrast) * image.mean()).clamp(0, 1)
        return image * 2 - 1

    matched = set()
    for seed in range(12):
        out = jitter(x, settings, seeded(seed))
        fits = [(out - literal(first, seed)).abs().max() < 1e-4 for first in (True, False)]
        assert any(fits), seed
        if fits[0] != fits[1]:
            matched.add(fits[0].item())
    assert matched == {True, False}


# ---- partners and two random views ----


def test_only_the_second_view_comes_from_the_partner() -> None:
    x, partners = pictures(), pictures().flip(0)
    plain, moved = two_views(x, only(), seeded(), partners=partners)
    assert torch.equal(plain, x)
    assert torch.allclose(moved, partners, atol=1e-5)


def test_two_random_views_differ_and_the_second_is_unchanged() -> None:
    settings = only(crop_area=(0.3, 0.9), brightness=0.4)
    x = pictures()
    plain, moved = two_views(x, settings, seeded())
    first, second = two_views(x, settings, seeded(), both=True)
    assert torch.equal(second, moved)
    assert torch.equal(plain, x)
    assert not torch.allclose(first, x, atol=0.05)
    assert not torch.allclose(first, second, atol=0.05)


# ---- views that are shrunk, because E sees smaller pictures ----


def means_of_squares(x: Tensor, side: int) -> Tensor:
    """x shrunk to this side: each pixel is the mean of a square."""
    batch, colours, width = x.shape[:3]
    return x.view(batch, colours, side, width // side, side, width // side).mean(dim=(3, 5))


@pytest.mark.parametrize("side", [16, 8])
def test_a_shrunk_view_is_the_mean_of_squares_of_the_whole_one(side: int) -> None:
    # Without clipping, these changes of colours are linear, so they may also come after the mean.
    settings = AugmentConfig(brightness=0.1, contrast=0.1, saturation=0.3, hue=0)
    x = pictures() * 0.3
    whole = random_view(x, settings, seeded())
    assert torch.allclose(
        random_view(x, settings, seeded(), side=side), means_of_squares(whole, side), atol=1e-5
    )


@pytest.mark.parametrize("side", [0, 32, 64])
def test_a_view_that_is_not_larger_stays_as_it_is(side: int) -> None:
    x, settings = pictures(), AugmentConfig()
    assert torch.equal(random_view(x, settings, seeded(), side=side), random_view(x, settings, seeded()))


def test_only_random_views_are_shrunk() -> None:
    x, settings = pictures(), AugmentConfig()
    plain, moved = two_views(x, settings, seeded(), side=16)
    assert (plain.shape[-1], moved.shape[-1]) == (32, 16)
    first, second = two_views(x, settings, seeded(), both=True, side=16)
    assert (first.shape[-1], second.shape[-1]) == (16, 16)
    assert torch.equal(second, moved)

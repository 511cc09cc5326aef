"""Fitting, compared with a plain implementation of antialiased bilinear resampling and with known layouts."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tunit.data.packing.fit import FIT_MODES, fit_picture
from tunit.errors import ConfigError

Floats = NDArray[np.float64]


def weights(length: int, size: int) -> Floats:
    """(size, length): the triangle filter, wider if the picture is shrunk; each row sums to 1."""
    scale = length / size
    width = max(scale, 1.0)
    centres = (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / width
    triangle = np.clip(1 - distance, 0, None)
    return triangle / triangle.sum(axis=1, keepdims=True)


def resized(pixels: NDArray[np.uint8], height: int, width: int) -> Floats:
    rows = np.einsum("yh,hwc->ywc", weights(pixels.shape[0], height), pixels.astype(np.float64))
    return np.einsum("xw,ywc->yxc", weights(pixels.shape[1], width), rows)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def fitted(pixels: NDArray[np.uint8], size: int, mode: str) -> NDArray[np.uint8]:
    result = fit_picture(Image.fromarray(pixels), size, mode)
    assert result.shape == (size, size, 3)
    assert result.dtype == np.uint8
    assert result.flags.writeable
    return result


@pytest.mark.parametrize("mode", FIT_MODES)
def test_a_square_of_the_right_size_does_not_change(mode: str) -> None:
    pixels = noise(24, 24)
    assert np.array_equal(fitted(pixels, 24, mode), pixels)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (31, 17), (9, 8), (70, 20)])
def test_stretch_equals_antialiased_bilinear_resampling(height: int, width: int) -> None:
    pixels = noise(height, width)
    # Two roundings, one for each direction.
    assert np.abs(fitted(pixels, 16, "stretch") - resized(pixels, 16, 16)).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(60, 90), (40, 80), (30, 42), (20, 60)])
@pytest.mark.parametrize("turned", [False, True])
def test_crop_equals_resizing_the_shorter_side_and_cropping(height: int, width: int, turned: bool) -> None:
    pixels = noise(height, width)
    longer = 20 * width // height  # the margin is a whole number on both sides in all these cases
    expected = resized(pixels, 20, longer)[:, (longer - 20) // 2 :][:, :20]
    result = fitted(pixels.transpose(1, 0, 2).copy() if turned else pixels, 20, "crop")
    assert np.abs((result.transpose(1, 0, 2) if turned else result) - expected).max() <= 1


def test_crop_does_not_round_the_position_of_the_square() -> None:
    """Of 21 columns the central 20 start at 0.5, so the result is the mean of both roundings."""
    pixels = noise(20, 21)
    expected = (pixels[:, :20].astype(float) + pixels[:, 1:]) / 2
    assert np.abs(fitted(pixels, 20, "crop") - expected).max() <= 1


@pytest.mark.parametrize("turned", [False, True])
def test_pad_keeps_the_whole_picture_centred_on_the_background(turned: bool) -> None:
    pixels = noise(20, 40)
    image = Image.fromarray(pixels.transpose(1, 0, 2) if turned else pixels)
    result = fit_picture(image, 16, "pad", (1, 2, 3))
    result = result.transpose(1, 0, 2) if turned else result
    assert np.abs(result[4:12] - resized(pixels, 8, 16)).max() <= 1
    for border in (result[:4], result[12:]):
        assert np.array_equal(border, np.broadcast_to((1, 2, 3), (4, 16, 3)))


def test_pad_keeps_at_least_one_line_of_a_very_long_picture() -> None:
    result = fit_picture(Image.new("RGB", (1000, 2), "red"), 16, "pad", (0, 0, 0))
    assert (result == (255, 0, 0)).all(axis=2).any(axis=1).sum() == 1


def test_the_fast_method_for_large_pictures_is_close_to_the_plain_one() -> None:
    y, x = np.mgrid[0:1500, 0:2000]
    waves = [np.sin(x / 90), np.cos(y / 70), np.sin((x + y) / 110)]
    pixels = np.stack([np.round(127.5 * (1 + wave)) for wave in waves], axis=2).astype(np.uint8)
    assert np.abs(fitted(pixels, 64, "stretch") - resized(pixels, 64, 64)).mean() < 1


def test_unknown_modes_and_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="fit 'zoom' is unknown: use one of stretch, crop, pad"):
        fit_picture(Image.new("RGB", (4, 4)), 4, "zoom")
    with pytest.raises(ConfigError, match="size 0"):
        fit_picture(Image.new("RGB", (4, 4)), 0, "crop")

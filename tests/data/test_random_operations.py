"""The stronger policy: colour operations compared with Pillow's, geometry with known results, and the random
choice.
"""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from tunit.config import AugmentConfig
from tunit.data.batching import random_operations as module
from tunit.data.batching.augment import to_float, two_views
from tunit.data.batching.batches import Batches
from tunit.data.batching.random_operations import (
    OPERATIONS,
    autocontrast,
    brightness,
    colour,
    contrast,
    equalise,
    posterise,
    random_operations,
    rotated,
    sharpness,
    sheared,
    shifted,
    solarise,
)
from tunit.data.layouts import layout_config

pytestmark = pytest.mark.usefixtures("one_thread")
FACTORS = (0.1, 0.37, 1.0, 1.43, 1.9)
# The operations of RandAugment, section 3.
NAMES = "identity autocontrast equalise rotate solarise colour posterise contrast brightness sharpness"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def arrays() -> np.ndarray:
    """(5, 32, 32, 3): noise, low contrast, a ramp, a single colour, few values."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (32, 32, 3))
    ramp = np.stack([np.add.outer(np.arange(32) * k, np.arange(32) * 2) for k in (1, 3, 5)], 2)
    return np.stack(
        [noise, noise // 4 + 90, ramp, np.full((32, 32, 3), (200, 10, 90)), noise // 64 * 80]
    ).astype(np.uint8)


def tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float()


def each(function, images: np.ndarray) -> Tensor:
    """Each picture after Pillow's operation."""
    return tensor(np.stack([np.asarray(function(Image.fromarray(image))) for image in images]))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(autocontrast, ImageOps.autocontrast), (equalise, ImageOps.equalize)]
)
def test_histogram_operations_equal_pillow(ours, theirs):
    many = np.random.default_rng(1).integers(0, 256, (20, 16, 16, 3)).astype(np.uint8)
    spread = np.random.default_rng(2).integers(1, 255, (20, 1, 1, 3))
    low = (many.astype(int) * spread // 255).astype(np.uint8)
    for images in (arrays(), many, low):
        assert torch.equal(ours(tensor(images)), each(theirs, images))


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (colour, ImageEnhance.Color),
        (contrast, ImageEnhance.Contrast),
        (brightness, ImageEnhance.Brightness),
        (sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_equal_pillow(ours, theirs, factor):
    images = arrays()
    found = ours(tensor(images), torch.full((len(images),), factor))
    assert torch.equal(found, each(lambda image: theirs(image).enhance(factor), images))


@pytest.mark.parametrize("size", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_solarise_and_posterise_equal_pillow(size):
    images = arrays()
    sizes = torch.full((len(images),), size)
    threshold, bits = 256 - 256 * size, 8 - round(4 * size)
    expected = each(lambda image: ImageOps.solarize(image, threshold), images)
    assert torch.equal(solarise(tensor(images), sizes), expected)
    assert torch.equal(posterise(tensor(images), sizes), each(lambda i: ImageOps.posterize(i, bits), images))


def test_every_picture_has_its_own_amount():
    images = tensor(arrays())
    factors = torch.tensor(FACTORS)
    together = contrast(images, factors)
    for i in range(len(images)):
        assert torch.equal(together[i : i + 1], contrast(images[i : i + 1], factors[i : i + 1]))


def test_rotations_by_right_angles_and_shifts_by_whole_pixels_are_exact():
    images = tensor(arrays())
    n = len(images)
    assert torch.equal(rotated(images, torch.full((n,), 90.0)), torch.rot90(images, 1, (2, 3)))
    moved = shifted(images, torch.full((n,), 4 / 32), torch.full((n,), -8 / 32))
    assert torch.equal(moved[:, :, 8:, :28], images[:, :, :24, 4:])
    # Parts from outside the picture are mirrored at the edge.
    assert torch.equal(moved[:, :, 8:, 28:], images[:, :, :24, 28:].flip(3))


@pytest.mark.parametrize(("x", "y"), [(0.25, 0.0), (0.0, -0.3)])
def test_shear_of_a_linear_ramp_follows_the_formula(x, y):
    """Bilinear sampling of a plane is exact: the value is a * column + b * row at the sheared position."""
    n = 16
    rows, columns = np.meshgrid(np.arange(n) - 7.5, np.arange(n) - 7.5, indexing="ij")
    plane = torch.from_numpy(100 + 6 * columns + 5 * rows).float().expand(1, 3, n, n)
    found = sheared(plane, torch.tensor([x]), torch.tensor([y]))[0, 0, 5:11, 5:11].numpy()
    expected = 100 + 6 * (columns + x * rows) + 5 * (rows + y * columns)
    np.testing.assert_allclose(found, expected[5:11, 5:11], atol=0.501, rtol=0)  # only rounding differs
    assert np.abs(found - np.asarray(plane[0, 0, 5:11, 5:11])).max() > 3


def test_the_operations_are_those_of_randaugment_and_all_are_used():
    names = [*NAMES.split(), "shear x", "shear y", "translate x", "translate y"]
    assert list(OPERATIONS) == names
    counts = dict.fromkeys(names, 0)
    patched = {
        name: (lambda image, amount, name=name: counts.update({name: counts[name] + len(image)}) or image)
        for name in names
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "OPERATIONS", patched)
        random_operations(torch.zeros(1400, 3, 2, 2), 2, 9, seeded())
    assert sum(counts.values()) == 2800
    # Standard deviation sqrt(2800 / 14 * 13 / 14) = 13.6; allow five.
    assert all(abs(count - 200) < 68 for count in counts.values())


def test_amounts_have_their_magnitude_and_both_signs():
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "OPERATIONS", {"x": lambda image, amount: seen.append(amount) or image})
        random_operations(torch.zeros(50, 3, 2, 2), 1, 4, seeded())
    assert sorted(set(seen[0].tolist())) == [pytest.approx(-0.4), pytest.approx(0.4)]


def test_magnitude_0_changes_nothing_except_by_operations_without_magnitude():
    x = to_float(torch.from_numpy(arrays()))
    for name, operation in OPERATIONS.items():
        if name not in ("autocontrast", "equalise"):
            image = tensor(arrays())
            assert torch.equal(operation(image, torch.zeros(len(image))), image), name
    assert random_operations(x, 3, 9, seeded()).abs().max() <= 1


def test_results_are_valid_and_depend_on_the_generator_only():
    x = to_float(torch.from_numpy(arrays()))
    first, again, other = (random_operations(x, 2, 9, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    levels = (first + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    alone = [
        random_operations(x[i : i + 1].expand(len(x), -1, -1, -1), 2, 9, seeded(1))[i] for i in range(len(x))
    ]
    # pictures do not influence each other
    torch.testing.assert_close(torch.stack(alone), first, atol=1e-6, rtol=0)


def test_without_operations_nothing_changes_and_with_them_only_x_plus():
    x = to_float(torch.from_numpy(arrays()))
    generator = seeded(5)
    plain, plus = two_views(x, AugmentConfig(), generator)
    after = torch.rand(1, generator=generator)
    generator = seeded(5)
    with_them = two_views(x, AugmentConfig(random_operations=2), generator)
    assert torch.equal(with_them[0], plain)
    assert not torch.equal(with_them[1], plus)
    assert not torch.equal(
        torch.rand(1, generator=generator), after
    )  # the policy draws from the same generator


def test_batches_of_a_resumed_run_are_the_same():
    draws = []
    for _ in range(2):
        labels = np.full(5, -1)
        settings = AugmentConfig(random_operations=2)
        batches = Batches(arrays(), labels, settings, seed=3, device=torch.device("cpu"))
        draws.append(batches.draw(17, 4, {"all": 8}).x_plus)
    assert torch.equal(*draws)


def test_only_food_layouts_switch_the_policy_on():
    food = layout_config("paper", {"layout": "food-101"}).augment
    assert (food.random_operations, food.random_magnitude) == (2, 9)
    assert (food.rotation, food.translation, food.shear, food.brightness, food.hue) == (0, 0, 0, 0, 0)
    assert (food.flip, food.crop_area) == (0.5, (0.9, 1.1))
    assert layout_config("paper", {"layout": "afhq-cat"}).augment.random_operations == 0
    own = layout_config("paper", {"layout": "food-101", "random_operations": "0"}).augment
    assert own.random_operations == 0
    assert math.isclose(layout_config("paper", {}).augment.rotation, 20)

import colorsys
import itertools
import math

import numpy as np
import torch

from tunit.clustering import cues

# sRGB and its L*a*b* for white of D65, as published in many tables.
LAB = {
    (255, 255, 255): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (255, 255, 0): (97.14, -21.55, 94.48),
    (119, 119, 119): (50.03, 0.0, 0.0),
}


def test_lab_colours_are_the_published_ones():
    rgb = torch.tensor(list(LAB), dtype=torch.float64)[:, :, None, None] / 255
    found = cues.lab_of(rgb.float()).flatten(1)
    assert np.abs(found.numpy() - np.array(list(LAB.values()))).max() < 0.02


def test_a_pixel_is_shared_between_the_eight_nearest_colours():
    picture = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    rgb = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    expected = np.zeros((9, 19, 19))
    for lightness, a, b in cues.lab_of(rgb)[0].flatten(1).T.tolist():
        at = [lightness / 12.5, (a + 108) / 12, (b + 108) / 12]
        for i, j, k in itertools.product(*((math.floor(x), math.floor(x) + 1) for x in at)):
            expected[i, j, k] += (1 - abs(i - at[0])) * (1 - abs(j - at[1])) * (1 - abs(k - at[2])) / 16
    assert np.abs(cues.lab_shares(rgb).numpy() - expected.reshape(1, -1)).max() < 1e-5
    # nothing is lost with the bins that no colour reaches
    found = cues.colours(np.kron(picture, np.ones((8, 8, 1), np.uint8))[None])
    assert np.allclose((found**2).sum(1), 1, atol=1e-5)


def test_reds_of_slightly_different_hue_are_near_each_other():
    """Regression: a border between bins at the hue of red cut every red kind of pictures in two."""
    hues = np.array([-9, -3, 3, 9]) / 360
    rgb = [colorsys.hsv_to_rgb(hue % 1, 0.8, 0.9) for hue in hues.tolist()]
    images = np.round(255 * np.array(rgb))[:, None, None].repeat(32, 1).repeat(32, 2).astype(np.uint8)
    found = cues.colours(images)
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1)
    steps = [apart[0, 1], apart[1, 2], apart[2, 3]]
    assert max(steps) < 2 * min(steps)  # the step across the hue of red is no larger than others


def test_larger_pictures_are_shrunk():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    blocks = images.reshape(2, 32, 8, 32, 8, 3).mean((2, 4)) / 255
    expected = blocks.transpose(0, 3, 1, 2).reshape(2, -1)
    assert np.abs(cues.pixels(images) - expected).max() < 1e-6


def test_exposure_does_not_change_the_shape_cue():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 120, (1, 32, 32, 3))
    bright = 2 * picture + 10  # twice the contrast, and lighter
    dark, light = cues.shapes(np.concatenate([picture, bright]).astype(np.uint8))
    assert np.corrcoef(dark, light)[0, 1] > 0.999999
    x = picture[0].transpose(2, 0, 1).ravel() / 255
    assert np.abs(dark - (x - x.mean()) / (x.std() + 0.02)).max() < 1e-5


def test_chunks_give_the_same_cues_as_one_pass(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    monkeypatch.setattr(cues, "CHUNK", 3)
    assert list(cues.CUES) == ["colours", "shapes", "outlines", "textures"]
    for cue in cues.CUES.values():
        assert np.allclose(cues.by_chunks(cue, images), cue(images), atol=1e-6)


def literal_outlines(picture):
    """Dalal and Triggs's method, one pixel after another: (49 blocks, 2 x 2 cells, 9 bins)."""
    grey = picture.astype(float).mean(-1) / 255
    cells = np.zeros((8, 8, 9))
    for row in range(32):
        for column in range(32):
            down = grey[row + 1, column] - grey[row - 1, column] if 0 < row < 31 else 0.0
            right = grey[row, column + 1] - grey[row, column - 1] if 0 < column < 31 else 0.0
            position = math.atan2(down, right) % math.pi / math.pi * 9
            lower = math.floor(position)
            cell = cells[row // 4, column // 4]
            cell[lower % 9] += math.hypot(down, right) * (1 - position + lower)
            cell[(lower + 1) % 9] += math.hypot(down, right) * (position - lower)
    blocks = [cells[i : i + 2, j : j + 2] for i in range(7) for j in range(7)]
    return np.array([block / (np.linalg.norm(block) + 0.05) for block in blocks])


def test_outlines_are_histograms_of_oriented_gradients():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    images[1, :, :16] = 40  # a uniform grey has no outline
    for picture, found in zip(images, cues.outlines(images), strict=True):
        expected = literal_outlines(picture).reshape(49, 4, 9)
        # A block's numbers are ordered by cell, then bin, in this function. In ours they are by bin, cell, block.
        assert np.abs(found.reshape(9, 4, 49) - expected.transpose(2, 1, 0)).max() < 1e-4


def test_texture_counts_the_patterns_around_each_pixel():
    """One pixel after another, as Ojala describes: a bit is 1 if the neighbour is at least as light as the pixel."""
    # so that many neighbours are exactly as light as the pixel
    picture = np.random.default_rng(0).integers(0, 4, (32, 32, 3), dtype=np.uint8)
    grey = picture.astype(int).sum(-1)
    expected = []
    for radius in (1, 2):
        counts = {}
        for row in range(radius, 32 - radius):
            for column in range(radius, 32 - radius):
                ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
                bits = [grey[row + radius * y, column + radius * x] >= grey[row, column] for y, x in ring]
                uniform = sum(bits[i] != bits[i - 1] for i in range(8)) <= 2
                key = sum(bit << i for i, bit in enumerate(bits)) if uniform else "other"
                counts[key] = counts.get(key, 0) + 1
        expected += [n / (32 - 2 * radius) ** 2 for n in counts.values()]
    found = cues.textures(picture[None])[0] ** 2
    assert found.shape == (118,)
    assert np.allclose(sorted(found[found > 0]), sorted(expected), atol=1e-6)
    assert np.allclose([found[58], found[117]], [counts_of_rest(grey, 1), counts_of_rest(grey, 2)], atol=1e-6)


def counts_of_rest(grey, radius):
    """The share of pixels whose ring of bits changes more than twice."""
    ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    inner = slice(radius, 32 - radius)
    bits = np.stack([np.roll(grey, (-radius * y, -radius * x), (0, 1)) >= grey for y, x in ring])[
        :, inner, inner
    ]
    return ((bits != np.roll(bits, 1, 0)).sum(0) > 2).mean()

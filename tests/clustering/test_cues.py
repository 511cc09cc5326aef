import colorsys
import math

import numpy as np

from tunit.clustering import cues


def test_hue_saturation_value_bins_match_the_standard_library():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3000, 3), dtype=np.uint8)
    rgb[:300] = rgb[:300] // 64 * 85  # greys, pure colours, corners
    expected = []
    for red, green, blue in rgb.tolist():
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        tiny = 1e-9  # we compute bin edges with whole numbers; colorsys rounds
        parts = int(hue * 12 + tiny) % 12, min(int(saturation * 4 + tiny), 3), min(int(value * 4 + tiny), 3)
        expected.append((parts[0] * 4 + parts[1]) * 4 + parts[2])
    assert cues.hsv_bins(rgb).tolist() == expected


def test_cues_of_a_picture_with_two_colours():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[0, :, :3] = 255, 0, 0  # pure red: hue bin 0, saturation 3, value 3
    shares = cues.hsv_shares(image)
    assert shares.shape == (1, 192)
    assert shares[0, 15] == 0.75 and shares[0, 0] == 0.25  # red; black
    assert shares.sum() == 1


def test_larger_pictures_are_shrunk_for_pixels_and_sampled_for_colours():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    blocks = images.reshape(2, 32, 8, 32, 8, 3).mean((2, 4)) / 255
    expected = blocks.transpose(0, 3, 1, 2).reshape(2, -1)
    assert np.abs(cues.pixels(images) - expected).max() < 1e-6
    assert (cues.hsv_shares(images) == cues.hsv_shares(images[:, ::2, ::2])).all()


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

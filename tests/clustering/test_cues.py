import colorsys

import numpy as np

from tunit.clustering import cues


def test_bins_are_those_of_the_standard_library():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3000, 3), dtype=np.uint8)
    rgb[:300] = rgb[:300] // 64 * 85  # greys, pure colours, corners
    expected = []
    for red, green, blue in rgb.tolist():
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        tiny = 1e-9  # the edges are ours by whole numbers, theirs by rounding
        parts = int(hue * 12 + tiny) % 12, min(int(saturation * 4 + tiny), 3), min(int(value * 4 + tiny), 3)
        expected.append((parts[0] * 4 + parts[1]) * 4 + parts[2])
    assert cues.hsv_bins(rgb).tolist() == expected


def test_shares_of_a_picture_of_two_colours():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[0, :, :3] = 255, 0, 0  # pure red: hue bin 0, saturation 3, value 3
    shares = cues.hsv_shares(image)
    assert shares.shape == (1, 192)
    assert shares[0, 15] == 0.75 and shares[0, 0] == 0.25  # red; black
    assert shares.sum() == 1


def test_larger_pictures_are_averaged_for_pixels_and_thinned_for_colours():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    blocks = images.reshape(2, 32, 8, 32, 8, 3).mean((2, 4)) / 255
    expected = blocks.transpose(0, 3, 1, 2).reshape(2, -1)
    assert np.abs(cues.pixels(images) - expected).max() < 1e-6
    assert (cues.hsv_shares(images) == cues.hsv_shares(images[:, ::2, ::2])).all()


def test_shapes_do_not_see_exposure():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 120, (1, 32, 32, 3))
    bright = 2 * picture + 10  # twice the contrast, and lighter
    dark, light = cues.shapes(np.concatenate([picture, bright]).astype(np.uint8))
    assert np.corrcoef(dark, light)[0, 1] > 0.999999
    x = picture[0].transpose(2, 0, 1).ravel() / 255
    assert np.abs(dark - (x - x.mean()) / (x.std() + 0.02)).max() < 1e-5


def test_every_cue_in_chunks_is_that_of_all_at_once(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    monkeypatch.setattr(cues, "CHUNK", 3)
    found = cues.in_chunks(images)
    assert list(found) == ["colours", "shapes"]
    for name, cue in (("colours", cues.colours), ("shapes", cues.shapes)):
        assert np.allclose(found[name].numpy(), cue(images), atol=1e-6)

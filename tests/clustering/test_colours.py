"""Whether colours tell kinds of pictures apart, on pictures where the answer is known."""

import colorsys

import numpy as np
import pytest
import torch

from tunit.clustering.colours import IGNORE_COLOURS, JITTER_COLOURS, KEEP_COLOURS, settings_by_colours
from tunit.clustering.cues import CUES

EACH = 40


def pictures(kinds, paint, period):
    """EACH pictures of stripes of each kind. paint(kind, rng): RGB in [0, 1]; period(kind): px, of the stripes."""
    rng = np.random.default_rng(0)
    found = []
    for kind in np.repeat(np.arange(kinds), EACH):
        across = np.arange(32) / period(kind) + rng.uniform()
        light = np.tile(0.6 + 0.3 * np.sin(2 * np.pi * across), (32, 1))
        picture = light[..., None] * paint(kind, rng) + rng.normal(0, 0.03, (32, 32, 3))
        found.append((255 * picture.clip(0, 1)).astype(np.uint8))
    return np.stack(found)


def any_paint(kind, rng):
    """A hue without a gap between the kinds, of any saturation."""
    hue, saturation = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1)
    return 0.5 + 0.5 * saturation * np.cos(hue + 2 * np.pi / 3 * np.arange(3))


def paint_of_kind(kind, rng):
    return np.array([(1, 0.2, 0.2), (0.2, 1, 0.2), (0.2, 0.2, 1), (1, 1, 0.2)][kind]) * rng.uniform(0.7, 1)


def test_if_textures_separate_kinds_of_any_colour_the_colours_are_jittered():
    images = pictures(4, any_paint, lambda kind: (3, 5, 9, 16)[kind])
    assert settings_by_colours(images, [4]) == IGNORE_COLOURS


def test_if_colours_separate_kinds_they_are_kept():
    images = pictures(4, paint_of_kind, lambda kind: 7)
    assert settings_by_colours(images, [4]) == KEEP_COLOURS


def test_if_nothing_separates_kinds_colours_are_jittered_and_neighbours_come_late():
    images = np.random.default_rng(0).integers(0, 256, (120, 32, 32, 3), dtype=np.uint8)
    assert settings_by_colours(images, [5]) == JITTER_COLOURS
    assert settings_by_colours(images[:99], [5]) == KEEP_COLOURS  # of so few the ratio says little


def test_colours_of_backgrounds_are_jittered():
    """Small things of four colours, at any place in front of backgrounds of any colour."""
    rng = np.random.default_rng(0)
    images = np.stack([np.full((32, 32, 3), any_paint(0, rng)) for _ in range(240)])
    for i, (y, x) in enumerate(rng.integers(0, 26, (240, 2))):
        images[i, y : y + 6, x : x + 6] = paint_of_kind(i % 4, rng)
    images = (255 * images + rng.normal(0, 8, images.shape)).clip(0, 255).astype(np.uint8)
    assert settings_by_colours(images, [4]) == JITTER_COLOURS
    # The same things in front of a background of one colour per kind.
    for i in range(240):
        images[i, :3] = images[i, -3:] = images[i, :, :3] = images[i, :, -3:] = 255 * paint_of_kind(
            i % 4, rng
        )
    assert settings_by_colours(images, [4]) == KEEP_COLOURS


@pytest.mark.parametrize("number", [1, 2, 3, 20])
@pytest.mark.parametrize("groups", [1, 10])
def test_a_few_pictures_or_copies_of_one_change_nothing(number, groups):
    noise = np.random.default_rng(0).integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)
    for images in (noise, np.repeat(noise[:1], number, axis=0)):
        assert settings_by_colours(images, [groups]) == KEEP_COLOURS


def test_kinds_that_differ_by_hue_alone_keep_it():
    """Four hues within two bins of the histogram: standardised pixels ("shapes") separate them, colours do not."""
    rng = np.random.default_rng(0)
    rgb = [colorsys.hsv_to_rgb(hue, 0.8, 1) for hue in np.repeat([0.09, 0.115, 0.14, 0.162], EACH)]
    light = rng.uniform(100, 250, (len(rgb), 1, 1, 1)) + rng.normal(0, 5, (len(rgb), 32, 32, 1))
    images = (np.array(rgb)[:, None, None] * light).clip(0, 255).astype(np.uint8)
    assert settings_by_colours(images, [4]) == KEEP_COLOURS


def test_for_a_single_group_colours_are_kept():
    assert settings_by_colours(pictures(4, any_paint, lambda kind: (3, 5, 9, 16)[kind]), [1]) == KEEP_COLOURS


def test_of_a_large_set_some_pictures_are_looked_at(monkeypatch):
    looked = []
    monkeypatch.setattr("tunit.clustering.colours.MOST_COMPARED", 50)
    monkeypatch.setattr(
        "tunit.clustering.colours.reduced_cues",
        lambda images, rows: looked.append(images[rows]) or dict.fromkeys(CUES, torch.zeros(len(rows), 3)),
    )
    images = np.random.default_rng(0).integers(0, 256, (120, 32, 32, 3), dtype=np.uint8)
    assert settings_by_colours(images, [3]) == KEEP_COLOURS
    assert looked and all(np.array_equal(some, images[::3]) for some in looked)


def test_every_picture_that_is_looked_at_is_read_once(monkeypatch):
    """Shards may be in a store: there, each reading is a request."""
    read = []

    class Watched(np.ndarray):
        def __getitem__(self, rows):
            read.extend(np.atleast_1d(np.arange(len(self))[rows]))
            return np.asarray(super().__getitem__(rows))

    monkeypatch.setattr("tunit.clustering.colours.MOST_COMPARED", 80)
    images = pictures(4, any_paint, lambda kind: (3, 5, 9, 16)[kind])
    assert settings_by_colours(images.view(Watched), [4]) == IGNORE_COLOURS
    assert read == list(range(0, 160, 2))

"""The creatures' known content and style, checked by statistics, by geometry and by drawing again."""

import csv
import os
from collections import Counter
from dataclasses import astuple, fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from tunit.cli import main
from tunit.data.creatures.factors import RANGES
from tunit.data.creatures.picture_set import (
    SPECIES,
    Content,
    Creature,
    Style,
    draw,
    draw_all,
    exact_translation,
    read_creatures,
    sample_creatures,
    write_creatures,
)
from tunit.errors import DataError

CREATURES = sample_creatures(120, seed=7)
ONE_OF_EACH = [next(c for c in CREATURES if c.style.species == k) for k in range(6)]
CONTENT_RANGES = {
    "x": (-0.1, 0.1), "y": (-0.1, 0.1), "size": (0.78, 1), "tilt": (-18, 18), "turn": (-1, 1),
    "gaze_x": (-1, 1), "gaze_y": (-1, 1), "openness": (0.4, 1), "smile": (-0.7, 1), "mouth": (0, 1),
    "left_arm": (0, 1), "right_arm": (0, 1),
}  # fmt: skip


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    again = sample_creatures(120, seed=7)
    assert again == CREATURES
    assert sample_creatures(12, seed=8) != CREATURES[:12]
    for creature in CREATURES[:6]:
        first, second = draw(creature, 32), draw(creature, 32)
        assert first[0].tobytes() == second[0].tobytes()
        assert first[1].tobytes() == second[1].tobytes()


def test_a_shorter_list_is_the_beginning_of_a_longer_one():
    assert sample_creatures(17, seed=7) == CREATURES[:17]


def test_species_are_balanced_and_shuffled():
    species = [c.style.species for c in CREATURES]
    assert Counter(species) == dict.fromkeys(range(6), 20)
    assert len({tuple(species[i : i + 6]) for i in range(0, 120, 6)}) > 10


def test_six_species_with_six_names():
    assert len(set(SPECIES)) == 6


def test_factors_use_their_whole_range():
    table = np.array([astuple(c.content) for c in sample_creatures(600, seed=1)])
    assert [f.name for f in fields(Content)] == list(CONTENT_RANGES)
    for column, (low, high) in zip(table.T, CONTENT_RANGES.values(), strict=True):
        assert low <= column.min() < low + 0.1 * (high - low)
        assert high >= column.max() > high - 0.1 * (high - low)


def test_content_is_independent_of_species_and_style():
    creatures = sample_creatures(1800, seed=2)
    content = np.array([astuple(c.content) for c in creatures])
    style = np.array([astuple(c.style) for c in creatures])
    species = style[:, 0].astype(int)
    smallest = 1.0
    for column in content.T:
        thirds = np.searchsorted(np.quantile(column, (1 / 3, 2 / 3)), column)
        counts = np.zeros((6, 3))
        np.add.at(counts, (species, thirds), 1)
        smallest = min(smallest, stats.chi2_contingency(counts[:, counts.sum(0) > 0]).pvalue)
    assert smallest > 1e-4  # twelve tests; by chance they fail for one seed in 800
    between = np.corrcoef(content.T, style[:, 1:].T)[: content.shape[1], content.shape[1] :]
    assert np.abs(between).max() < 5 / np.sqrt(len(creatures))


@pytest.mark.parametrize("size", [32, 45, 64, 128])
def test_shapes_and_types(size):
    image, mask = draw(CREATURES[0], size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert mask.shape == (size, size) and mask.dtype == np.bool_


def test_the_mask_covers_what_differs_from_the_empty_background():
    for creature in CREATURES[:24]:
        c = creature.content
        image, mask = draw(creature, 64)
        empty, nothing = draw(replace(creature, content=replace(c, x=5.0)), 64)
        assert not nothing.any()
        change = np.abs(image.astype(int) - empty).max(2)
        above_shadow = np.arange(64) < (0.5 + c.y + 0.25 * c.size) * 64
        far = ~ndimage.binary_dilation(mask, np.ones((3, 3)))
        assert change[far & above_shadow[:, None]].max() == 0  # the background depends on the style only
        # A cream belly may have the colour of the cream background, but its outline has not.
        changed = ndimage.binary_fill_holes(change > 4)
        assert changed[mask].mean() > 0.98


def test_the_creature_has_its_size_and_place():
    for creature in CREATURES[:60]:
        c = replace(creature.content, tilt=0.0)
        rows, columns = np.nonzero(draw(replace(creature, content=c), 64)[1])
        assert (np.ptp(rows) + 1) / 64 == pytest.approx(c.size, rel=0.17)
        assert (rows.max() + 1) / 64 == pytest.approx(0.5 + c.y + c.size / 2, abs=0.04)
        assert np.median(columns) / 64 == pytest.approx(0.5 + c.x, abs=0.08)


def test_every_content_factor_shows_in_every_species():
    for creature in ONE_OF_EACH:
        plain = Content(0, 0, 0.8, 0, 0.6, 0.5, 0.5, 1.0, 0.5, 0.1, 0.3, 0.3)
        before = draw(Creature(plain, creature.style), 64)[0].astype(int)
        for name, (low, _) in CONTENT_RANGES.items():
            changed = replace(plain, **{name: low if name not in ("mouth", "left_arm", "right_arm") else 0.9})
            after = draw(Creature(changed, creature.style), 64)[0]
            # At least five pixels change by more than 40 of 255, so that a person sees it.
            assert (np.abs(after - before).max(2) > 40).sum() >= 5, (SPECIES[creature.style.species], name)


def test_the_pupil_follows_the_gaze_and_the_arms_their_pose():
    plain = Content(0, 0, 0.85, 0, 0.35, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.0)
    for creature in ONE_OF_EACH:
        ink = []
        for gaze in (-1.0, 1.0):
            image = draw(Creature(replace(plain, gaze_x=gaze), creature.style), 128)[0].astype(int)
            still = draw(Creature(replace(plain, gaze_x=-gaze), creature.style), 128)[0].astype(int)
            moved = (image.sum(2) < 200) & (still.sum(2) > 400)  # dark now, and white with the other gaze
            ink.append(np.nonzero(moved)[1].mean())
        assert ink[0] < ink[1] - 3
        for side, name in ((-1, "left_arm"), (1, "right_arm")):
            down = draw(Creature(plain, creature.style), 128)[0].astype(int)
            up = draw(Creature(replace(plain, **{name: 1.0}), creature.style), 128)[0]
            rows, columns = np.nonzero(np.abs(up - down).max(2) > 40)
            assert np.sign(columns.mean() - 64) == side
            # The shoulder is at row 90: a raised paw ends well above it, a hanging one below.
            assert rows.min() < 80 and rows.max() > 100


def test_an_individual_of_a_species_keeps_its_silhouette_and_changes_its_colours():
    for first in ONE_OF_EACH:
        second = next(c for c in reversed(CREATURES) if c.style.species == first.style.species)
        truth = exact_translation(first, second)
        before, outline = draw(first, 64)
        after, mask = draw(truth, 64)
        assert np.array_equal(mask, outline)
        assert np.abs(after.astype(int) - before)[mask].mean() > 3


def test_an_exact_translation_has_the_sources_content_and_the_references_style():
    source, reference = CREATURES[0], CREATURES[1]
    truth = exact_translation(source, reference)
    assert truth.content == source.content and truth.style == reference.style
    assert exact_translation(exact_translation(source, reference), source) == source
    image, mask = draw(truth, 64)
    assert np.array_equal(image, draw(Creature(source.content, reference.style), 64)[0])
    own = draw(source, 64)[1]
    assert (mask & own).sum() / (mask | own).sum() > 0.6  # it stands in the source's place


def test_twice_the_size_shrinks_to_the_same_picture():
    for creature in CREATURES[:24]:
        small, small_mask = draw(creature, 32)
        large, large_mask = draw(creature, 64)
        shrunk = large.reshape(32, 2, 32, 2, 3).mean((1, 3))
        assert np.abs(shrunk - small).mean() < 1.5
        assert np.abs(np.roll(shrunk, 1, 1) - small).mean() > 3  # so a shift by half a pixel would be noticed
        assert ((large_mask.reshape(32, 2, 32, 2).mean((1, 3)) > 0.5) != small_mask).mean() < 0.04


def test_species_are_told_apart_by_mean_colour_alone():
    images, masks = draw_all(CREATURES, 32, workers=1)
    means = np.array([image[mask].mean(0) for image, mask in zip(images, masks, strict=True)])
    species = np.array([c.style.species for c in CREATURES])
    centres = np.array([means[:60][species[:60] == k].mean(0) for k in range(6)])
    nearest = np.linalg.norm(means[60:, None] - centres, axis=2).argmin(1)
    assert (nearest == species[60:]).mean() > 0.95


def test_backgrounds_are_pale_and_nearly_grey():
    for creature in CREATURES[:30]:
        away = replace(creature, content=replace(creature.content, x=5.0))
        ground = draw(away, 32)[0].reshape(-1, 3).mean(0)
        assert ground.min() > 205
        assert np.ptp(ground) < 36


def test_several_processes_draw_the_same_pictures_in_the_same_order():
    inline = draw_all(CREATURES[:5], 32, workers=1)
    pooled = draw_all(CREATURES[:5], 32, workers=2)
    assert np.array_equal(inline[0], pooled[0]) and np.array_equal(inline[1], pooled[1])
    for i, creature in enumerate(CREATURES[:5]):
        assert np.array_equal(inline[0][i], draw(creature, 32)[0])


def test_zero_creatures_give_empty_arrays():
    images, masks = draw_all([], 32)
    assert images.shape == (0, 32, 32, 3) and masks.shape == (0, 32, 32)


def test_a_written_set_reads_back_to_identical_pixels(tmp_path):
    table = write_creatures(tmp_path / "new" / "set", number=8, size=40, seed=3)
    assert table == tmp_path / "new" / "set" / "factors.csv"
    creatures = read_creatures(table)
    assert creatures == sample_creatures(8, seed=3)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [f.name for f in (*fields(Content), *fields(Style))]
    assert list(rows[0]) == ["picture", "label", *names]
    assert rows[0]["picture"] == "pictures/00001.png" and rows[7]["picture"] == "pictures/00008.png"
    for row, creature in zip(rows, creatures, strict=True):
        with Image.open(table.parent / row["picture"]) as stored:
            assert stored.mode == "RGB"
            assert np.array_equal(np.asarray(stored), draw(creature, 40)[0])
        assert row["label"] == SPECIES[creature.style.species]


@pytest.mark.parametrize(("number", "size"), [(0, 32), (-1, 32), (3, 31), (3, 1025)])
def test_numbers_and_sizes_out_of_range_are_refused_and_nothing_is_written(tmp_path, number, size):
    with pytest.raises(DataError, match=str(number if number < 1 else size)):
        write_creatures(tmp_path / "set", number, size, seed=0)
    assert not (tmp_path / "set").exists()


def test_a_folder_that_is_not_empty_is_refused_and_not_changed(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        write_creatures(tmp_path, 3, 32, seed=0)
    with pytest.raises(DataError, match="not an empty folder"):
        write_creatures(tmp_path / "mine.txt", 3, 32, seed=0)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_draw_refuses_sizes_and_workers_out_of_range():
    with pytest.raises(DataError, match="31"):
        draw(CREATURES[0], 31)
    with pytest.raises(DataError, match="1025"):
        draw_all(CREATURES[:1], 1025)
    with pytest.raises(DataError, match="0 workers"):
        draw_all(CREATURES[:1], 32, workers=0)


def _spoil(table: Path, old: str, new: str) -> None:
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",tilt,", ",lean,", "it has no column 'tilt'"),
        ("00001.png,", "00001.png,unicorn-", "line 2 holds a value"),
        ("00002.png,", "00002.png\n", "its row 3 has 1 cells of"),
        (",0.", ",nan0.", "line 2 holds a value"),
        (",0.", ",1e999", "line 2 holds a value"),
        (",0.", ",1e9", "line 2 holds a value"),  # a number, but outside the range that is drawn
    ],
)
def test_a_changed_table_is_refused_with_the_line(tmp_path, old, new, message):
    table = write_creatures(tmp_path / "set", 3, 32, seed=5)
    _spoil(table, old, new)
    with pytest.raises(DataError, match=message):
        read_creatures(table)


def test_a_table_without_rows_or_that_is_not_a_file_is_refused(tmp_path):
    table = write_creatures(tmp_path / "set", 1, 32, seed=5)
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match="holds no creature"):
        read_creatures(table)
    os.mkfifo(tmp_path / "pipe")
    # a named pipe: reading must not wait for a writer
    with pytest.raises(DataError, match="it is not a file"):
        read_creatures(tmp_path / "pipe")


def test_every_factor_drawn_is_within_its_range():
    for creature in sample_creatures(600, seed=3):
        factors = {**vars(creature.content), **vars(creature.style)}
        assert factors.keys() - {"species"} == RANGES.keys()
        assert all(low <= factors[name] <= high for name, (low, high) in RANGES.items())


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_creatures(tmp_path / "factors.csv")


def test_a_folder_that_cannot_be_made_is_named_as_it_was_given(capsys):
    assert main(["creatures", "/proc/creatures"]) == 2
    assert "give another OUT" in capsys.readouterr().err

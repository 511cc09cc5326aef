"""`creatures`: a procedural picture set whose translations are known exactly.

The species are the domains, the individuals are styles, poses and expressions are content. Every picture is drawn
from its factors. So the true translation, with the content of one picture and the style of another, can be drawn as
well, and the error of a translation can be measured exactly.
"""

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tunit.data.creatures.drawing import paint
from tunit.data.creatures.factors import (
    RANGES,
    SPECIES,
    Content,
    Creature,
    Style,
    exact_translation,
    sample_creatures,
)
from tunit.data.creatures.species import LOOKS
from tunit.data.decoding.workers import usable_cores
from tunit.errors import DataError
from tunit.files.atomic import writable
from tunit.files.destination import check_folder, is_occupied, staged
from tunit.files.reading import LARGEST_TABLE, UnreadableError, read_table

__all__ = [
    "SPECIES",
    "Content",
    "Creature",
    "Style",
    "draw",
    "draw_all",
    "exact_translation",
    "read_creatures",
    "sample_creatures",
    "write_creatures",
]

Drawing = tuple[NDArray[np.uint8], NDArray[np.bool_]]

_CONTENT = tuple(f.name for f in fields(Content))
_STYLE = tuple(f.name for f in fields(Style))
_COLUMNS = ("picture", "label", *_CONTENT, *_STYLE)
TABLE = "factors.csv"
# Pixels of all pictures; if there are more (ten seconds of drawing), several processes draw.
_POOL_PAYS = 2000 * 64 * 64
_BATCH = 1024  # drawings that processes may prepare in advance; limits the memory


def _check_size(size: int) -> None:
    if not 32 <= size <= 1024:
        raise DataError(f"creatures cannot be drawn at {size} pixels: choose a size from 32 to 1024")


def draw(creature: Creature, size: int) -> Drawing:
    """The picture (size, size, 3) and the mask (size, size) of the creature's own pixels.

    The mask holds the pixels that the creature covers by more than half, without its shadow. The same
    creature gives the same bytes. Raises DataError unless 32 <= size <= 1024.
    """
    _check_size(size)
    return paint(creature, LOOKS[creature.style.species], size)


def _drawings(creatures: Sequence[Creature], size: int, workers: int | None) -> Iterator[Drawing]:
    """The drawings in order, by `workers` processes if these save time."""
    if workers is None:
        workers = usable_cores() if len(creatures) * size * size >= _POOL_PAYS else 1
    done = 0
    if workers > 1 and len(creatures) > 1:
        # New processes are started with "spawn": a fork of a process with torch's threads may hang.
        try:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                for start in range(0, len(creatures), _BATCH):
                    batch = creatures[start : start + _BATCH]
                    for drawing in pool.map(partial(draw, size=size), batch, chunksize=32):
                        yield drawing
                        done += 1
        except BrokenProcessPool:
            pass  # such as in a script without a __main__ guard; this process then draws the rest
    for creature in creatures[done:]:
        yield draw(creature, size)


def draw_all(creatures: Sequence[Creature], size: int, workers: int | None = None) -> Drawing:
    """All pictures (N, size, size, 3) and masks (N, size, size), in the order of `creatures`.

    workers: the number of processes; 1 draws in this process, None uses all cores if there is enough to draw. A
    script that uses several processes must have its own code under `if __name__ == "__main__":`.
    """
    _check_size(size)
    if workers is not None and workers < 1:
        raise DataError(f"creatures cannot be drawn by {workers} workers: choose at least 1")
    images = np.empty((len(creatures), size, size, 3), np.uint8)
    masks = np.empty((len(creatures), size, size), np.bool_)
    for i, drawing in enumerate(_drawings(creatures, size, workers)):
        images[i], masks[i] = drawing
    return images, masks


def write_creatures(folder: Path, number: int, size: int, seed: int) -> Path:
    """Write folder/pictures/00001.png ... and folder/factors.csv; returns the path of the table.

    factors.csv has one row per picture: its path relative to the folder, the name of its species, and every factor,
    so that `read_creatures` returns the same creatures. Everything is drawn in a hidden folder inside the folder and
    moved when it is complete. Raises DataError if the folder is not empty, or if size or number are out of range,
    RunError if it cannot be written.
    """
    _check_size(size)
    if number < 1:
        raise DataError(f"cannot write {number} creatures: choose at least 1")
    if folder.exists() and (not folder.is_dir() or is_occupied(folder)):
        raise DataError(f"{folder} is not an empty folder: choose another, or empty it first")
    check_folder(folder, "OUT")
    creatures = sample_creatures(number, seed)
    names = [f"pictures/{i:05d}.png" for i in range(1, number + 1)]
    with staged(folder) as stage, writable(folder, "free some space there, or choose another folder"):
        (stage / "pictures").mkdir()
        for name, (image, _) in zip(names, _drawings(creatures, size, None), strict=True):
            Image.fromarray(image).save(stage / name)
        _write_factors(stage / TABLE, names, creatures)
    return folder / TABLE


def _write_factors(table: Path, names: Sequence[str], creatures: Sequence[Creature]) -> None:
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for name, c in zip(names, creatures, strict=True):
            # repr gives the shortest digits that read back as the same float
            factors = (repr(value) for value in (*astuple(c.content), *astuple(c.style)))
            writer.writerow((name, SPECIES[c.style.species], *factors))


def read_creatures(table: Path) -> list[Creature]:
    """The creatures of a factors.csv, in its order and exactly as written: `draw` gives identical pixels.

    Raises DataError if the table is missing, lacks a column, is empty, or holds a value that cannot be a factor.
    """
    try:
        rows = read_table(table, _COLUMNS, LARGEST_TABLE)
    except UnreadableError as error:
        raise DataError(f"{table} cannot be read ({error}): give a factors.csv that tunit wrote") from None
    if not rows:
        raise DataError(f"{table} holds no creature: write it with `tunit creatures`")
    named = (dict(zip(_COLUMNS, row, strict=True)) for row in rows)
    return [_creature(row, f"{table}, line {number}") for number, row in enumerate(named, 2)]


def _creature(row: dict[str, str], where: str) -> Creature:
    try:
        factors = {name: float(row[name]) for name in RANGES}
        species = int(row["species"])
        wrong = [name for name, (low, high) in RANGES.items() if not low <= factors[name] <= high]
        if wrong or not 0 <= species < len(SPECIES) or row["label"] != SPECIES[species]:
            raise ValueError
    except ValueError:
        raise DataError(
            f"{where} holds a value that cannot be a factor: write it with `tunit creatures`"
        ) from None
    content = Content(**{name: factors[name] for name in _CONTENT})
    return Creature(content, Style(species=species, **{n: factors[n] for n in _STYLE if n != "species"}))

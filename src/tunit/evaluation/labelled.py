"""The pictures of an evaluation: held-back ones, and those that the run was trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tunit.data.decoding.bounds import MAX_PIXELS
from tunit.data.finding.class_folders import class_labels
from tunit.data.finding.find import LABEL_MODES, LabelMode, find_pictures
from tunit.data.finding.naming import LABEL_COLUMN
from tunit.data.finding.sharded_sets import open_shards
from tunit.data.finding.source_kind import kind_of
from tunit.data.layouts import LAYOUTS, Part
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.packed import PackedPictures, open_packed
from tunit.errors import ConfigError, DataError
from tunit.evaluation.result import Labelled
from tunit.methods.inference import evenly_spread
from tunit.methods.model_file import Model
from tunit.training.run_folder import RunFolder

AUTO_LABELS = "auto"


def pack_held(
    source: Path,
    folder: Path,
    settings: PackSettings,
    *,
    labels: str = AUTO_LABELS,
    label_column: str = LABEL_COLUMN,
) -> PackedPictures:
    """The pictures of `source` as squares, with labels if it has any.

    settings: how pictures become squares, and which part of a published set to take. labels: "none", "folders", "csv"
    or "auto", which takes the first of these that exists: the classes of the published set, the label column of a CSV
    table (also of one that was packed as shards), two or more folders of pictures. Raises DataError if a
    table lacks a label column other than "label".
    """
    if labels not in (AUTO_LABELS, *LABEL_MODES):
        raise ConfigError(f"labels is {labels!r}: take one of {', '.join((AUTO_LABELS, *LABEL_MODES))}")
    if labels != AUTO_LABELS:
        mode = labels
    elif settings.part is not None:
        mode = "folders" if LAYOUTS[settings.part.layout].has_classes else "none"
    else:
        mode = _mode_of(source, label_column, settings.picture_column)
    return pack_pictures(source, folder, replace(settings, labels=mode, label_column=label_column))


def check_there(source: Path, what: str) -> None:
    """Raises DataError if `source` does not exist. what: which argument it was, for the message."""
    if not source.exists():
        raise DataError(f"{source} does not exist: give {what} as a folder, archive or list of pictures")


def square_settings(
    size: int,
    fit: str,
    background: tuple[int, int, int],
    part: Part | None = None,
    max_pixels: int = MAX_PIXELS,
) -> PackSettings:
    """Settings to make squares of the size that a model needs; copies of a picture are kept.

    part: the part of a published set, if any. max_pixels: a picture that declares more is left out.
    """
    return PackSettings(
        size=size, fit=fit, background=background, keep_duplicates=True, part=part, max_pixels=max_pixels
    )


def _mode_of(source: Path, label_column: str, picture_column: str) -> LabelMode:
    kind = kind_of(source)
    if kind == "sharded set" and open_shards(source).settings.get("labels") == "csv":
        return "csv"
    if kind == "table":
        try:
            find_pictures(source, labels="csv", label_column=label_column, picture_column=picture_column)
        except DataError:
            if label_column != LABEL_COLUMN:  # somebody has named this column
                raise
            return "none"
        return "csv"
    found = find_pictures(source, labels="folders")
    return "folders" if len({picture.label for picture in found.pictures if picture.label}) > 1 else "none"


def labelled(pictures: PackedPictures) -> Labelled:
    """Packed pictures in the form that the evaluation needs."""
    return Labelled(pictures.images, pictures.labels, pictures.classes)


def training_pictures(run: Path, held_back: Labelled, model: Model) -> Labelled | None:
    """A run's training pictures, with classes numbered as in `held_back`. None if the run holds no pictures that can
    be read, or if they have another size than the model.

    The class of a picture without a label is the name of its folder, if `held_back` has such a class.
    """
    try:
        packed = open_packed(RunFolder(run).data)
    except DataError:
        return None
    if packed.images.shape[1] != model.image_size:
        return None
    folders = class_labels(packed.names)[0]
    labels = [
        packed.classes[k] if k >= 0 else folder or ""
        for k, folder in zip(packed.labels, folders, strict=True)
    ]
    return _numbered(held_back, packed.images, labels)


def with_classes_of(held_back: Labelled, pictures: Labelled) -> Labelled:
    """`pictures`, with classes numbered as in `held_back`, by their names. Classes that are not there become -1."""
    return _numbered(
        held_back, pictures.images, [pictures.names[k] if k >= 0 else "" for k in pictures.classes]
    )


def _numbered(held_back: Labelled, images: NDArray[np.uint8], names: list[str]) -> Labelled:
    number = {name: i for i, name in enumerate(held_back.names)}
    return replace(
        held_back, images=images, classes=np.array([number.get(name, -1) for name in names], np.int64)
    )


class ChosenRows:
    """Some of the pictures of a pack, used like an array of them. They are read when a part is asked for.

    A slice of shards, or an array of rows of a memory map, would read all chosen pictures into memory at once.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, images: NDArray[np.uint8], rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        self.shape: tuple[int, ...] = (len(rows), *images.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        return cast(NDArray[np.uint8], self._images[self._rows[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return np.asarray(self[:], dtype=dtype)


def evenly_chosen(pictures: Labelled, most: int) -> Labelled:
    """At most this many of the pictures, evenly spread. They are not read yet."""
    if len(pictures.images) <= most:
        return pictures
    rows = evenly_spread(len(pictures.images), most)
    images = cast(NDArray[np.uint8], ChosenRows(pictures.images, rows))
    return replace(pictures, images=images, classes=pictures.classes[rows])

"""`index.json`: everything about packed pictures except their pixels, which are in a file next to it or in shards."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunit.data.finding.left_out import LeftOut
from tunit.data.finding.naming import INDEX
from tunit.errors import DataError
from tunit.files.reading import MissingError, Record, UnreadableError, read_json

_FORMAT, _VERSION, _SHARDED = "tunit pictures", 1, 2
LARGEST_INDEX = 1 << 30  # bytes of index.json; about eight million pictures
LARGEST_SIDE = 1 << 16  # pixels
MOST_PLACES = 1 << 40


@dataclass(frozen=True)
class Shards:
    """Where the pixels of a sharded set are."""

    each: int  # pictures in a shard; the last may have fewer
    places: list[int]  # the position of each picture: position n is number n % each in shard n // each
    root: str = ""  # the folder or URL of the shards; empty if they are next to the index


@dataclass(frozen=True)
class Index:
    """Everything that a pack stores about its pictures, except the pixels."""

    size: int
    settings: Mapping[str, Any]  # as in JSON
    fingerprint: str
    names: list[str]
    labels: list[int]
    classes: list[str]
    hashes: list[str]
    left_out: list[LeftOut]
    notes: list[str] = field(default_factory=list)
    shards: Shards | None = None  # None if the pixels are in one file next to the index


def read_index(folder: Path) -> Index:
    """The index in a folder. Raises DataError."""
    path = folder / INDEX
    try:
        return index_of_json(read_json(path, LARGEST_INDEX), path)
    except MissingError:
        raise DataError(f"{folder} holds no {INDEX}: prepare the pictures first") from None
    except UnreadableError as error:
        raise DataError(f"{path} cannot be read ({error}): prepare the pictures again") from None


def index_of_json(values: Any, path: object) -> Index:
    """The index whose JSON was read from `path`. Raises DataError."""
    try:
        found = Record(values)
        versions = [(_FORMAT, _VERSION), (_FORMAT, _SHARDED)]
        if (found.values.get("format"), found.values.get("version")) not in versions:
            raise DataError(f"{path} is of another version: prepare the pictures again")
        classes, names = found.texts("classes"), found.texts("names")
        index = Index(
            size=found.whole("size", 1, LARGEST_SIDE),
            settings=found.record("settings").values,
            fingerprint=found.text("fingerprint"),
            names=names,
            labels=found.wholes("labels", -1, len(classes) - 1),
            classes=classes,
            hashes=found.texts("hashes"),
            left_out=_left_out_of(found),
            notes=found.texts("notes") if "notes" in found.values else [],
            shards=_shards_of(found),
        )
    except UnreadableError as error:
        raise DataError(f"{path} cannot be read ({error}): prepare the pictures again") from None
    of_each: list[list[Any]] = [index.labels, index.hashes, *([index.shards.places] if index.shards else [])]
    if not names or len(set(names)) != len(names) or {len(values) for values in of_each} != {len(names)}:
        raise DataError(f"{path} contradicts itself: prepare the pictures again")
    return index


def _left_out_of(found: Record) -> list[LeftOut]:
    items = found.values.get("left_out")
    if not isinstance(items, list):
        raise UnreadableError("it does not list what was left out")
    for item in items:
        if not isinstance(item, list) or len(item) != 3 or not all(isinstance(part, str) for part in item):
            raise UnreadableError("its list of what was left out is damaged")
    return [LeftOut(*item) for item in items]


def has_our_index(folder: Path) -> bool:
    """Whether the index in a folder was written by tunit."""
    try:
        return is_our_index(read_json(folder / INDEX, LARGEST_INDEX))
    except UnreadableError:
        return False


def is_our_index(values: Any) -> bool:
    """Whether the JSON of an index was written by tunit."""
    return isinstance(values, dict) and values.get("format") == _FORMAT


def write_index(path: Path, index: Index) -> None:
    """Write an index as JSON, piece by piece: the text of a million pictures would take 100 MB of memory.

    Raises OSError.
    """
    version = _VERSION if index.shards is None else _SHARDED
    content = {"format": _FORMAT, "version": version, **vars(index)}
    content["left_out"] = [[item.name, item.reason, item.detail] for item in index.left_out]
    del content["shards"]
    if index.shards is not None:
        content["shards"] = vars(index.shards)
    with path.open("w", encoding="ascii") as file:
        for piece in json.JSONEncoder().iterencode(content):
            file.write(piece)


def _shards_of(found: Record) -> Shards | None:
    if found.values["version"] != _SHARDED:
        return None
    shards = found.record("shards")
    places = shards.wholes("places", 0, MOST_PLACES)
    return Shards(shards.whole("each", 1), places, shards.text("root"))


def hash_of(pixels: NDArray[np.uint8]) -> str:
    """The hash of one picture's pixels, 32 hexadecimal digits."""
    return hash_of_bytes(np.ascontiguousarray(pixels).tobytes())


def hash_of_bytes(pixels: bytes) -> str:
    """As `hash_of`, of the bytes themselves."""
    return hashlib.blake2b(pixels, digest_size=16).hexdigest()

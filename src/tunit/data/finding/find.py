"""Find pictures in a folder, an archive, a database, shards, a list of paths, a table, or a single file.

Nothing is decoded here: every picture gets a unique name, perhaps a label, and a way to read its bytes. Files that
cannot be used are listed with the reason. All names are POSIX paths relative to the source, sorted by their
characters.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tunit.data.decoding.decode import READABLE
from tunit.data.finding.class_folders import class_labels
from tunit.data.finding.databases import list_database
from tunit.data.finding.folders import walk_archive, walk_folder
from tunit.data.finding.found import DiskFile, Found, Item, PictureSource
from tunit.data.finding.left_out import LeftOut, summarise_left_out
from tunit.data.finding.listed import walk_list
from tunit.data.finding.naming import INDEX, LABEL_COLUMN, PIXELS
from tunit.data.finding.sharded_sets import is_sharded_url, lacks_index, walk_shards
from tunit.data.finding.source_kind import fingerprint_of, kind_of, quick_fingerprint
from tunit.data.finding.stores import walk_store
from tunit.errors import DataError
from tunit.files.paths import path_or_url

LabelMode = Literal["none", "folders", "csv"]
LABEL_MODES = ("none", "folders", "csv")


def find_pictures(
    source: Path | str,
    *,
    labels: LabelMode = "none",
    label_column: str = LABEL_COLUMN,
    picture_column: str = "",
) -> Found:
    """Find the pictures of `source`: a folder, archive, database, list of paths, CSV table, one picture, or a data
    set packed as shards.

    labels: "none"; "folders", as `class_labels` reads them; or "csv", the column
        `label_column` of a table, where an empty cell is no label. Shards have the labels that were packed with them.
    picture_column: the column of a table with the pictures' paths, by name or by number from 1; "" finds it.

    Raises DataError if the source does not exist, is of an unknown kind, or holds no picture.
    """
    if labels not in LABEL_MODES:
        raise DataError(f"labels {labels!r} is unknown: use one of {', '.join(LABEL_MODES)}")
    source = path_or_url(source)
    if isinstance(source, str):
        kind = "sharded set" if is_sharded_url(source) else "store"
    else:
        kind = kind_of(source)
    if labels == "csv" and kind not in ("table", "sharded set"):
        raise DataError(f"{source} is a {kind} and has no label column: give a CSV file, or labels 'folders'")
    stamps: list[str] = [kind]
    pictures: list[PictureSource] = []
    left_out: list[LeftOut] = []
    notes: list[str] = []
    for item, stamp in _walk(source, kind, labels, label_column, picture_column, notes):
        stamps.append(stamp)
        if isinstance(item, LeftOut):
            left_out.append(item)
        else:
            pictures.append(item)
    if not pictures:
        raise DataError(_nothing_found(source, kind, left_out, notes))
    pictures.sort(key=lambda picture: picture.name)
    if labels == "folders" and all(picture.label is None for picture in pictures):
        classes, remarks = class_labels([picture.name for picture in pictures])
        notes += remarks
        pictures = [replace(picture, label=label) for picture, label in zip(pictures, classes, strict=True)]
    left_out.sort(key=lambda item: (item.name, item.reason))
    fingerprint = None if isinstance(source, str) else quick_fingerprint(source)
    return Found(pictures, left_out, fingerprint or fingerprint_of(stamps), tuple(notes))


def _walk(
    source: Path | str, kind: str, labels: str, label_column: str, picture_column: str, notes: list[str]
) -> Iterable[Item]:
    """Every picture or left-out file, each with its stamp; notes for the user are added to `notes`."""
    if kind == "sharded set":
        return walk_shards(source, labels, label_column)
    if isinstance(source, str):
        return walk_store(source, notes)
    if kind == "folder":
        return walk_folder(source, notes)
    if kind in ("zip", "tar"):
        return walk_archive(source, kind, notes)
    if kind == "database":
        return ((PictureSource(name, None, entry), "") for name, entry in list_database(source))
    if kind == "picture":
        return [(PictureSource(source.name, None, DiskFile(source)), "")]
    column = label_column if labels == "csv" else None
    return walk_list(source, notes, table=kind == "table", labels=column, pictures=picture_column)


def _nothing_found(source: Path | str, kind: str, left_out: list[LeftOut], notes: list[str]) -> str:
    if isinstance(source, Path) and all((source / name).is_file() for name in (INDEX, PIXELS)):
        return (
            f"the folder {source} is a pack of `tunit prepare`, which is for programs of your own: give the folder "
            "of the pictures themselves, or prepare them with --shards"
        )
    if isinstance(source, Path) and lacks_index(source):
        return f"{source} holds shards, but {INDEX} is missing or damaged: prepare the pictures again"
    is_listed = kind in ("list", "table")
    if is_listed and not left_out:
        return (
            f"the {kind} {source} names no picture: write paths of {READABLE} files into it, one in each line"
        )
    reasons = [*([summarise_left_out(left_out)] if left_out else []), *notes]
    why = f" ({'; '.join(reasons)})" if reasons else ""
    remedy = f"{'name' if is_listed else 'add'} {READABLE} files"
    return f"the {kind} {source} holds no picture that can be used{why}: {remedy}"

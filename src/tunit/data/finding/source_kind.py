"""The kind of a source of pictures, and the fingerprint that shows whether it has changed."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from tunit.data.finding.archives import archive_kind
from tunit.data.finding.databases import DATA, is_database
from tunit.data.finding.folders import looks_like_picture_file, stamp_of_entry
from tunit.data.finding.naming import ARCHIVE_SUFFIXES, PICTURE_SUFFIXES, suffix_of
from tunit.data.finding.sharded_sets import is_sharded
from tunit.data.finding.tables import TABLE_SUFFIXES, is_table
from tunit.errors import DataError, reason_of


def kind_of(source: Path) -> str:
    """The kind of `source`, by its suffix or its content: folder, database, sharded set, zip, tar, table, list or
    picture.
    """
    if os.path.isdir(source):  # noqa: PTH112 (Path.is_dir raises for a name that is too long)
        if is_database(source):
            return "database"
        return "sharded set" if is_sharded(source) else "folder"
    if not os.path.isfile(source):  # noqa: PTH113
        state = "is not a regular file" if os.path.lexists(source) else "does not exist"
        raise DataError(f"{source} {state}: give a folder, an archive, a list or a picture")
    suffix = suffix_of(source.name)
    if suffix in TABLE_SUFFIXES:
        return "table"
    if suffix in (".txt", ".lst", ".list"):
        return "table" if is_table(source) else "list"
    try:
        if looks_like_picture_file(source):
            return "picture"
        kind = archive_kind(source)
        if kind is None and suffix in ARCHIVE_SUFFIXES:
            raise DataError(f"{source} is damaged or of another kind: give a zip or tar archive, or a folder")
        if kind is None and suffix not in PICTURE_SUFFIXES:
            kind = "table" if is_table(source) else "list"
        return kind or "picture"
    except OSError as error:
        raise DataError(f"{source} cannot be read ({reason_of(error)}): check its permissions") from None


def quick_fingerprint(source: Path) -> str | None:
    """The fingerprint of an archive, a database or a picture, without opening it; None for other kinds."""
    kind = kind_of(source)
    if kind not in ("zip", "tar", "picture", "database"):
        return None
    file = source / DATA if kind == "database" else source
    return fingerprint_of([kind, stamp_of_entry(source.name, file.stat())])


def fingerprint_of(stamps: Iterable[str]) -> str:
    """The fingerprint from the stamps of files; their order does not matter."""
    digest = hashlib.blake2b(digest_size=16)
    for stamp in sorted(stamps):
        digest.update(stamp.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()

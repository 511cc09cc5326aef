"""Which folders hold tunit's own results, so that these do not become training pictures."""

import os
import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from tunit.data.finding.naming import (
    INDEX,
    MARKER,
    PICTURE_SUFFIXES,
    PIXELS,
    archive_stem,
    is_hidden,
    suffix_of,
)
from tunit.files.atomic import DEMO, RESULTS
from tunit.files.result_names import GALLERY, OVERVIEW, TABLE, THUMBNAIL, THUMBNAILS

# A folder that contains all files of one of these sets is tunit's alone: these are only written into a new or empty
# folder.
_ALONE = (
    {RESULTS},
    {DEMO},
    {"config.toml", "run.json"},
    {"summary.json", "creatures", "run"},  # a demo of a development version before 0.1.0, which left no mark
)
# These may be written into a folder of the user's pictures. With each of them: the pictures, archives and folders
# that tunit writes there.
_BESIDE = (
    ({MARKER}, re.compile(r"shard-\d{6,}\.tar")),
    ({PIXELS, INDEX}, re.compile(r"shard-\d{6,}\.tar")),
    ({"model.safetensors", "model.json"}, re.compile(f"{THUMBNAILS}/")),
    ({TABLE, OVERVIEW}, re.compile(f"{re.escape(OVERVIEW)}|{GALLERY.pattern}", re.ASCII)),
)


@dataclass(frozen=True)
class OwnResults:
    """What a folder holds of tunit: `whole`, everything; if not, the entries with these names."""

    whole: bool
    names: frozenset[str] = frozenset()


def holds_only_results(names: Set[str]) -> bool:
    """Whether a folder with entries of these names is tunit's alone."""
    return any(marks <= names for marks in _ALONE)


def own_results(entries: Sequence[os.DirEntry[str]]) -> OwnResults:
    """What of a folder's entries are results of tunit. Pictures beside them, and folders, are the user's."""
    there = {entry.name for entry in entries}
    if holds_only_results(there):
        return OwnResults(whole=True)
    forms = [form for marks, form in _BESIDE if marks <= there]
    if not forms:
        return OwnResults(whole=False)
    seen = [entry for entry in entries if _could_be_read(entry)]
    own = frozenset(entry.name for entry in seen if any(_is_of(form, entry) for form in forms))
    return OwnResults(whole=len(own) == len(seen), names=own)


def _could_be_read(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or has the name of a picture or an archive."""
    if is_hidden(entry.name):
        return False
    return suffix_of(entry.name) in PICTURE_SUFFIXES or bool(archive_stem(entry.name)) or _says(entry.is_dir)


def _is_of(form: re.Pattern[str], entry: os.DirEntry[str]) -> bool:
    if not _says(entry.is_dir):
        return form.fullmatch(entry.name) is not None
    if form.fullmatch(f"{entry.name}/") is None:
        return False
    try:
        return all(THUMBNAIL.fullmatch(path.name) for path in Path(entry.path).iterdir())
    except OSError:
        return False


def _says(question: Callable[[], bool]) -> bool:
    """The answer of the system; False if it has none."""
    try:
        return question()
    except OSError:
        return False

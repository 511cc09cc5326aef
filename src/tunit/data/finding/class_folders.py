"""Classes from the names of folders, at whatever level of the folders they are."""

import re
from collections.abc import Sequence

from tunit.data.finding.naming import archive_stem
from tunit.printing import listed

# Names of parts of a set, whose folders may contain the folders of classes.
_PARTS = re.compile(
    r"train(ing)?|val(id|idation)?|test(ing)?|dev|eval(uation)?|held[ _-]?(out|back)", re.IGNORECASE
)
# Names of folders inside a class's folder that are not names of classes.
_HOLDERS = re.compile(r"(images?|imgs?|pictures?|pics?|photos?|jpe?gs?|pngs?|data|files)", re.IGNORECASE)
_SHOWN = 4  # names in a note

Folders = tuple[str, ...]


def class_labels(names: Sequence[str]) -> tuple[list[str | None], list[str]]:
    """The class of every picture by its folders, and notes for the user on how they were read.

    The classes are the first level at which there are different folders: CLASS for CLASS/images/x.png and for
    data/CLASS/x.png. Levels that divide a set into parts (train and val, or archives) are skipped; but if there are
    no folders inside the archives, each archive is a class. A picture outside that level, such as one in the root,
    has no class. names: POSIX paths.
    """
    folders = [tuple(name.split("/")[:-1]) for name in names]
    labels, notes = _labels_of({folder for folder in folders if folder})
    return [labels.get(folder) for folder in folders], notes


def _labels_of(folders: set[Folders]) -> tuple[dict[Folders, str | None], list[str]]:
    # For each folder: its levels without those that divide the set into parts.
    kept = {folder: folder for folder in folders}
    rest = dict(kept)  # the levels that were not looked at yet
    while True:
        heads = {part[0] for part in rest.values() if part}
        if not heads:
            return _one_class(kept), []
        dividing = _dividing(heads)
        deeper = {folder for folder, part in rest.items() if len(part) > 1 and part[0] in dividing}
        if dividing == heads and not deeper:
            if not any(map(archive_stem, heads)):
                return {}, [
                    f"{listed(sorted(heads), _SHOWN)} are parts of a set, not classes: no picture has a label"
                ]
            dividing = set()
        if deeper:
            for folder in (folder for folder, part in rest.items() if part and part[0] in dividing):
                level = len(kept[folder]) - len(rest[folder])
                kept[folder] = kept[folder][:level] + kept[folder][level + 1 :]
                rest[folder] = rest[folder][1:]
        elif len(heads) == 1:
            rest = {folder: part[1:] for folder, part in rest.items()}
        else:
            return {folder: _label(part[0]) for folder, part in rest.items() if part}, _notes(rest)


def _dividing(heads: set[str]) -> set[str]:
    """The names of a level that divides the set: archives, or several parts such as train and val."""
    parts = {head for head in heads if _PARTS.fullmatch(head)}
    archives = {head for head in heads if archive_stem(head)}
    return archives | (parts if len(parts) > 1 else set())


def _one_class(kept: dict[Folders, Folders]) -> dict[Folders, str | None]:
    """If no level differs, all pictures are of one class, named by the innermost folder that contains them all."""
    every = [folder for folder in kept.values() if folder]
    around = list(every[0]) if every else []
    for folder in every:
        while tuple(around) != folder[: len(around)]:
            around.pop()
    while len(around) > 1 and _HOLDERS.fullmatch(around[-1]):
        around.pop()
    return {folder: _label(around[-1]) for folder, part in kept.items() if part} if around else {}


def _label(folder: str) -> str:
    return archive_stem(folder) or folder


def _notes(rest: dict[Folders, Folders]) -> list[str]:
    """Say which folders are the classes if folders inside them might be meant instead."""
    inner = {part[1] for part in rest.values() if len(part) > 1}
    inner = {name for name in inner if not _HOLDERS.fullmatch(name)}
    if len(inner) < 2:
        return []
    classes = listed(sorted({part[0] for part in rest.values() if part}), _SHOWN)
    return [
        f"classes are the folders {classes}; those inside them ({listed(sorted(inner), _SHOWN)}) are ignored: "
        "for other classes give a table with labels"
    ]

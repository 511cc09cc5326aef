"""What a layout is, and what the readers of layouts share."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunit.data.finding.archives import archive_kind, read_member
from tunit.data.finding.found import Found, PictureSource
from tunit.data.finding.left_out import LeftOut
from tunit.data.finding.source_kind import quick_fingerprint
from tunit.errors import DataError

_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Part:
    """Which pictures of a published set are wanted."""

    layout: str  # a name in LAYOUTS
    split: str = "train"  # "train" or "validation"
    classes: tuple[str, ...] = ()  # if the layout does not fix them
    # How many pictures at the end of each class, or of the set, are for validation; 0 if the set has lists of them.
    held_out: int = 0

    @property
    def is_validation(self) -> bool:
        """Whether the held-back pictures are wanted."""
        return self.split == "validation"


class NotLaidOutError(Exception):
    """A source does not have the folders and files of a layout; the message, if any, says what was found instead."""


# Selects the pictures of one part from everything in a source; their classes, if any, become labels. Raises
# NotLaidOutError.
Read = Callable[[Found, Path, Part], Found]


@dataclass(frozen=True)
class Layout:
    """A published data set: its folders and files, and the settings with which the paper trains on it."""

    read: Read
    expects: str  # what FOLDER should hold, in the words of an error message
    defaults: Mapping[str, Any]  # settings of the config by name; the user's settings override them
    has_classes: bool
    held_out: int = 0  # pictures held back at the end; 0 if the publisher made the split
    open_classes: int = 0  # how many classes the user has to name; 0 if the set has fixed ones


def anchor(found: Found, inner: str) -> str | None:
    """The folder, as a prefix of names, that holds the folders `inner` (such as "train/cat/"); None if there is none.

    Publishers' archives, and folders into which they were unpacked, have one or two more folders around the set.
    """
    places = {picture.name[:at] for picture in found.pictures if (at := _find(picture.name, inner)) >= 0}
    return min(places, key=lambda place: (place.count("/"), place), default=None)


def _find(name: str, inner: str) -> int:
    return f"/{name}".find(f"/{inner}")


def below(found: Found, prefix: str, inner: str = "") -> Found:
    """The pictures in `prefix` + `inner`, named relative to `prefix`; entries about the archive itself are kept."""
    pictures = [
        replace(picture, name=picture.name.removeprefix(prefix))
        for picture in found.pictures
        if picture.name.startswith(prefix + inner)
    ]
    left_out = [
        replace(item, name=item.name.removeprefix(prefix))
        for item in found.left_out
        if item.name.startswith(prefix + inner) or "/" not in item.name
    ]
    return Found(pictures, left_out, found.fingerprint)


def split_held_out(pictures: Iterable[PictureSource], part: Part, what: str) -> list[PictureSource]:
    """For validation, the last `part.held_out` pictures by name; for training, all others.

    Raises DataError if none would be left for training.
    """
    ordered = sorted(pictures, key=lambda picture: picture.name)
    if len(ordered) <= part.held_out:
        raise DataError(
            f"{what} holds {len(ordered)} pictures, too few to hold back the last {part.held_out}: "
            "give the whole set, or lower held_out"
        )
    return ordered[-part.held_out :] if part.is_validation else ordered[: -part.held_out]


def read_text_of_set(source: Path, name: str) -> str:
    """A text file of the set, in its folder or its archive. Raises NotLaidOutError if it is missing."""
    if source.is_dir():
        try:
            data = (source / name).read_bytes()
        except OSError:
            raise NotLaidOutError(f"no readable {name}") from None
    else:
        kind = archive_kind(source)
        member = None if kind is None else read_member(source, kind, name)
        if member is None:
            raise NotLaidOutError(f"no readable {name}")
        data = member
    return data.decode("utf-8-sig", "surrogateescape")


def stamped(found: Found, source: Path, text: str) -> Found:
    """`found`, with a fingerprint that also changes if the text of a list changes.

    (The fingerprint of an archive does so already.)
    """
    if quick_fingerprint(source):
        return found
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{found.fingerprint}\n{text}".encode("utf-8", "surrogatepass"))
    return replace(found, fingerprint=digest.hexdigest())


def contents(found: Found) -> str:
    """The first names at the top of a source, for an error message."""
    names = sorted({name[: name.find("/") + 1] or name for name in (p.name for p in found.pictures)})
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def missing(name: str, listed_in: str) -> LeftOut:
    """A missing picture that a list of the publisher names."""
    return LeftOut(name, "missing", f"named in {listed_in}, no such file")

"""The files of results: names in one folder that do not collide, checks before the first is written, and writing."""

import io
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from PIL import Image, features

from tunit.data.decoding.decode import PictureError
from tunit.data.finding.naming import PICTURE_SUFFIXES, suffix_of, tidy
from tunit.data.finding.stores import address_of
from tunit.errors import DataError, reason_of
from tunit.files.atomic import RESULTS, replacing
from tunit.files.destination import LONGEST_NAME, OF_A_RUN, check_apart, check_folder
from tunit.printing import printable

if TYPE_CHECKING:
    from tunit.data.finding.found import PictureSource

FORMATS = ("png", "jpg", "webp", "keep")
_LOSSY: dict[str, Any] = {"quality": 95}
_WRITERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", _LOSSY),
    ".bmp": ("BMP", {}),
    **({".avif": ("AVIF", {"quality": 90, "subsampling": "4:4:4"})} if features.check("avif") else {}),
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), ("JPEG", {**_LOSSY, "subsampling": 0})),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF", {"compression": "tiff_lzw"})),
}
UNWRITABLE = "unwritable"


def plan_names(names: Sequence[str], kind: str) -> list[str]:
    """A name for the result of each picture; all differ, even on disks that ignore upper and lower case, or whether
    an accent is a character of its own.

    names: POSIX, relative. Sub-folders and stems stay; if names would collide, later ones get a number: a~2.png. Of a
    folder or file whose name would be too long for a disk, the end of the name, or of the stem, is cut off.
    kind: "png", "jpg", "webp", or "keep" for the picture's own format (PNG if that cannot be written).
    """
    wanted = [_shortened(_with_suffix(tidy(name), kind)) for name in names]
    # A name cannot be a folder for one picture and the file of another.
    taken = {_folded(str(folder)) for name in wanted for folder in PurePosixPath(name).parents}
    planned, numbers = [], dict[str, int]()
    for name in wanted:
        free = _free_name(name, taken, numbers)
        taken.add(_folded(free))
        planned.append(free)
    return planned


def check_names(
    folder: Path,
    names: Iterable[str],
    *,
    overwrite: bool,
    keep: Iterable[Path] = (),
    ours: Container[str] = (),
    flag: str = "--out",
) -> None:
    """Make sure that `names` can be written into `folder`, before any work.

    keep: files that are never overwritten, such as the sources. ours: names of files that a stopped job has written.
    flag: the option that names the folder, for the errors. Raises DataError if another file exists already (unless
    `overwrite`), must be kept, or would lie outside of the folder; RunError if the folder cannot be written, or is a
    run of which one of the files would be a part.
    """
    check_folder(folder, flag)
    names = list(names)
    for part in sorted({PurePosixPath(name).parts[0] for name in names} & OF_A_RUN):
        check_apart(folder / part, flag)
    root = os.path.realpath(folder)
    for parent in {str(PurePosixPath(name).parent) for name in names}:
        if not Path(os.path.realpath(folder / parent)).is_relative_to(root):
            raise DataError(f"{folder / parent} is a link out of {folder}: remove it or give another folder")
    there = [name for name in names if os.path.lexists(folder / name)]
    refuse_existing(str(folder), [] if overwrite else [name for name in there if name not in ours], flag)
    kept = {os.path.realpath(path) for path in keep} if there else set()
    for name in there:
        if (folder / name).is_dir():
            raise DataError(f"{printable(str(folder / name))} is a folder: give another {flag}")
        if os.path.realpath(folder / name) in kept:
            raise DataError(f"{printable(str(folder / name))} is itself a source: give another {flag}")


def check_names_in_store(
    place: str, there: Iterable[str], *, overwrite: bool, keep: "Iterable[PictureSource]" = ()
) -> None:
    """As `check_names`, for the files of these names that exist already in a store. place: the URL of the folder."""
    there = sorted(there)
    refuse_existing(place, [] if overwrite else there)
    kept, address = {getattr(picture.content, "url", None) for picture in keep}, address_of(place)
    for name in there:
        if f"{address}/{name}" in kept:
            raise DataError(f"{printable(place)}/{printable(name)} is itself a source: give another --out")


def refuse_existing(place: str, names: Sequence[str], flag: str = "--out") -> None:
    """Raises DataError if there are any `names`: files that exist already in a place. flag: as in `check_names`."""
    if names:
        more = f" and {len(names) - 1:,} more exist" if len(names) > 1 else " exists"
        first = printable(f"{place}/{names[0]}")
        raise DataError(f"{first}{more} already: give another {flag}, or --overwrite what is there")


@contextmanager
def marked(folder: Path) -> Iterator[None]:
    """Mark a new or empty folder as a folder of results, before the block writes into it.

    If a training later searches the folder above it, the marked folder is skipped, even if the block was killed. A
    folder that holds other files may hold the user's pictures, and is not marked. If the block writes nothing, the
    mark is removed, and so are folders that were made for it.
    """
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    new = not folder.is_dir() or not any(folder.iterdir())
    with suppress(OSError):  # if the folder cannot be written, the block will raise the error
        if new:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RESULTS).touch()
    try:
        yield
    finally:
        with suppress(OSError):
            if new and [path.name for path in folder.iterdir()] == [RESULTS]:
                (folder / RESULTS).unlink()
                for made in missing:
                    made.rmdir()


def write_picture(folder: Path, name: str, image: Image.Image) -> None:
    """Write one result atomically, in the format of its suffix. Raises as `encoded` and `write_result` do."""
    write_result(folder / name, encoded(name, image))


def encoded(name: str, image: Image.Image) -> bytes:
    """The bytes of a result, in the format of its name's suffix. Raises PictureError if the format cannot hold it."""
    kind, options = _WRITERS[suffix_of(name)]
    if image.mode in ("RGBA", "LA") and not holds_transparency(name):
        image = image.convert(image.mode[:-1])  # the colours are already those on the background colour
    data = io.BytesIO()
    try:
        image.save(data, kind, **options)
    except (OSError, ValueError) as error:
        raise PictureError(UNWRITABLE, f"{image.width} x {image.height} as {kind}: {error}") from None
    return data.getvalue()


def holds_transparency(name: str) -> bool:
    """Whether the format of a result with this name supports transparency."""
    return _WRITERS[suffix_of(name)][0] in ("PNG", "WEBP", "AVIF", "TIFF")


def write_result(path: Path, data: bytes) -> None:
    """Write a file atomically, with its folders. Raises DataError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Do not flush each file to the disk: for thousands of results this would take longer than making them.
        with replacing(path, durable=False) as partial:
            partial.write_bytes(data)
    except OSError as error:
        name = printable(str(path))
        raise DataError(f"{name} cannot be written ({reason_of(error)}): give another --out") from None


def _with_suffix(name: str, kind: str) -> str:
    suffix = suffix_of(name)
    stem = name[: -len(suffix)] if suffix in PICTURE_SUFFIXES else name
    if kind != "keep":
        return f"{stem}.{kind}"
    return name if suffix in _WRITERS else f"{stem}.png"


def _shortened(name: str, end: str = "") -> str:
    """A relative path with `end` after it, in which no part is longer than a disk accepts. end: if it is "", the
    suffix of the name is kept.
    """
    if not end:
        name, end = os.path.splitext(name)  # noqa: PTH122 (the folder stays in the stem)
    *folders, stem = name.split("/")
    return "/".join([*map(_cut, folders), _cut(stem, _bytes_of(end)) + end])


def _cut(part: str, used: int = 0) -> str:
    """A part of a path, cut to LONGEST_NAME bytes. used: how many of these something else takes."""
    part = part[: LONGEST_NAME - used]
    while _bytes_of(part) > LONGEST_NAME - used:
        part = part[:-1]
    return part


def _bytes_of(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _free_name(name: str, taken: set[str], numbers: dict[str, int]) -> str:
    """`name`, with a number if it is taken. numbers: the next number to try for each name, so that it is not counted
    from 2 again for every picture of that name.
    """
    wanted, free = _folded(name), name
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 (the folder stays in the stem)
    number = numbers.get(wanted, 2)
    while _folded(free) in taken:
        free = _shortened(stem, f"~{number}{suffix}")
        number += 1
    numbers[wanted] = number
    return free


def _folded(name: str) -> str:
    """The same text for names that are one file on some disk."""
    return normalize("NFC", normalize("NFC", name).casefold())

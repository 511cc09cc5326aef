"""AnimalFaces (Liu et al., "Few-shot unsupervised image-to-image translation", 2019): heads of animals of 149
classes, cut out of ImageNet's training pictures by a file of coordinates.

AnimalFaces-10 are ten of the classes, given by their index in the order of WordNet ids. The last 50 pictures of each
class, by name, are for validation.
"""

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from tunit.data.finding.cropped import Cropped
from tunit.data.finding.found import Found, PictureSource
from tunit.data.finding.left_out import LeftOut
from tunit.data.finding.naming import is_outside
from tunit.data.layouts.layout import Layout, NotLaidOutError, Part, missing, split_held_out, stamped
from tunit.errors import DataError
from tunit.files.reading import UnreadableError, read_text

COORDINATES = "animalface_coordinates.txt"  # lines of: image x1 y1 x2 y2
CLASSES = 149
TEN = (11, 43, 56, 74, 89, 128, 130, 138, 140, 141)
_HELD_OUT = 50  # of each class
LARGEST_TABLE = 1 << 28  # bytes of the file of coordinates; the published one has 6 MB


def _read(found: Found, source: Path, part: Part, *, chosen: tuple[int, ...]) -> Found:
    coordinates = _coordinates_beside(source)
    classes = _class_folders(found)
    left_out: list[LeftOut] = found.left_out
    if coordinates is not None:
        text = _text_of(coordinates)
        found = stamped(found, source, text)
        classes, lost = _cut_out(classes, coordinates, text)
        left_out = left_out + lost
    names = sorted(classes)
    if len(names) == CLASSES:
        names = [names[index] for index in chosen]
    elif len(names) != len(chosen):  # exactly the ten class folders of AnimalFaces-10 are accepted, too
        named = "" if coordinates is None else f" that {coordinates.name} names"
        raise NotLaidOutError(f"{len(names)} class folders{named}")
    pictures = [
        replace(picture, label=name)
        for name in names
        for picture in split_held_out(classes[name], part, f"class {name} of {source}")
    ]
    left_out = [item for item in left_out if _concerns(item.name, set(names), set(classes))]
    return Found(pictures, left_out, found.fingerprint)


def _concerns(name: str, chosen: set[str], classes: set[str]) -> bool:
    """Whether a file that is left out could have been one of the chosen classes' pictures, or have held some."""
    parts = set(PurePosixPath(name).parts)
    if parts & chosen or "/" not in name or is_outside(name):
        return True
    return name.endswith("/") and not parts & classes  # a folder that could not be listed


def _class_folders(found: Found) -> dict[str, list[PictureSource]]:
    """The pictures of each class folder, named class/file. Class folders are in the folder with most sub-folders."""
    folders: dict[PurePosixPath, list[PictureSource]] = {}
    for picture in found.pictures:
        folders.setdefault(PurePosixPath(picture.name).parent, []).append(picture)
    folders.pop(PurePosixPath(), None)
    homes = Counter(folder.parent for folder in sorted(folders))
    if not homes:
        return {}
    home = homes.most_common(1)[0][0]
    return {
        folder.name: [
            replace(picture, name=f"{folder.name}/{PurePosixPath(picture.name).name}") for picture in pictures
        ]
        for folder, pictures in folders.items()
        if folder.parent == home
    }


def _coordinates_beside(source: Path) -> Path | None:
    """The file of coordinates, in the folder of pictures or beside it; None for an archive, which must hold crops."""
    places = (source, source.absolute().parent) if source.is_dir() else ()
    return next((file for place in places if (file := place / COORDINATES).is_file()), None)


def _text_of(path: Path) -> str:
    try:
        return read_text(path, LARGEST_TABLE, "surrogateescape")
    except UnreadableError as error:
        raise DataError(f"{path} cannot be read ({error}): check it and its permissions") from None


def _cut_out(
    classes: dict[str, list[PictureSource]], path: Path, text: str
) -> tuple[dict[str, list[PictureSource]], list[LeftOut]]:
    """The crops of each class, and the lines whose picture is missing.

    A crop gets the file name that the publisher's tool would give it. So the order of names, and with it the split,
    is the same as for crops made by that tool. A picture may have several crops.
    """
    whole = {picture.name: picture for pictures in classes.values() for picture in pictures}
    crops: dict[str, PictureSource] = {}
    left_out = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        image, box = _parse(line, f"line {number} of {path}")
        name = "_".join((image, *map(str, box))) + ".jpg"
        if image in whole:
            crops[name] = PictureSource(name, None, Cropped(whole[image].content, box))
        else:
            left_out.append(missing(name, path.name))
    cut: dict[str, list[PictureSource]] = {}
    for name, crop in crops.items():
        cut.setdefault(name.partition("/")[0], []).append(crop)
    return cut, left_out


def _parse(line: str, where: str) -> tuple[str, tuple[int, int, int, int]]:
    image, *numbers = line.split()
    try:
        left, top, right, bottom = map(int, numbers)
    except ValueError:
        raise DataError(f"{where} is {line[:60]!r}: expected a picture and four whole numbers") from None
    return image, (left, top, right, bottom)


def _layout(chosen: tuple[int, ...]) -> Layout:
    return Layout(
        read=partial(_read, chosen=chosen),
        expects=f"{CLASSES} class folders of crops, or ImageNet's class folders with {COORDINATES}",
        # One pseudo domain for each class; the augmentations are the config's own defaults.
        defaults={"image_size": 128, "domains": len(chosen)},
        has_classes=True,
        held_out=_HELD_OUT,
    )


ANIMAL_FACES_10 = _layout(TEN)
ANIMAL_FACES_149 = _layout(tuple(range(CLASSES)))

"""All layouts by name, and the pictures of a part of one."""

from dataclasses import replace
from pathlib import Path

from tunit.data.finding.find import find_pictures
from tunit.data.finding.found import Found
from tunit.data.finding.left_out import summarise_left_out
from tunit.data.layouts.afhq import AFHQ_CAT, AFHQ_DOG, AFHQ_WILD
from tunit.data.layouts.animal_faces import ANIMAL_FACES_10, ANIMAL_FACES_149
from tunit.data.layouts.food import FOOD_10, FOOD_101
from tunit.data.layouts.layout import Layout, NotLaidOutError, Part, contents
from tunit.data.layouts.ordered import FFHQ, LSUN_CAR
from tunit.data.layouts.two_domains import TWO_DOMAINS
from tunit.errors import DataError

# The names are the choices of the setting `layout`, in the same order.
LAYOUTS: dict[str, Layout] = {
    "animal-faces-10": ANIMAL_FACES_10,
    "animal-faces-149": ANIMAL_FACES_149,
    "food-10": FOOD_10,
    "food-101": FOOD_101,
    "afhq-cat": AFHQ_CAT,
    "afhq-dog": AFHQ_DOG,
    "afhq-wild": AFHQ_WILD,
    "ffhq": FFHQ,
    "lsun-car": LSUN_CAR,
    "two-domains": TWO_DOMAINS,
}


def find_layout(source: Path, part: Part, *, labels: bool) -> Found:
    """The pictures of a part of a published set, by name; with `labels`, their classes are their labels.

    source: a folder or an archive; for LSUN Car also a database. part: from `make_part`.

    Raises DataError if the source does not have the layout of the published set, or holds no picture of the part.
    """
    layout = LAYOUTS[part.layout]
    if labels and not layout.has_classes:
        raise DataError(f"{part.layout} has no classes to take as labels: leave labels at none")
    try:
        found = find_pictures(source)
    except DataError as error:
        raise DataError(f"{error} ({part.layout} expects {layout.expects})") from None
    try:
        chosen = layout.read(found, source, part)
    except NotLaidOutError as error:
        here = str(error) or contents(found)
        raise DataError(
            f"{source} is not laid out as {part.layout} {part.split}: expected {layout.expects}, found {here}"
        ) from None
    if not chosen.pictures:
        why = f" ({summarise_left_out(chosen.left_out)})" if chosen.left_out else ""
        raise DataError(f"{source} holds no picture of {part.layout} {part.split}{why}: add the missing ones")
    pictures = sorted(chosen.pictures, key=lambda picture: picture.name)
    if not labels:
        pictures = [replace(picture, label=None) for picture in pictures]
    left_out = sorted(chosen.left_out, key=lambda item: (item.name, item.reason))
    return Found(pictures, left_out, chosen.fingerprint, found.notes)

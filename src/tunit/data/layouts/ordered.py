"""Sets without classes, whose last pictures by name are for validation: FFHQ (Karras et al., 2019) and LSUN Car (Yu
et al., 2015).
"""

import re
from collections import Counter
from pathlib import Path

from tunit.data.finding.found import Found
from tunit.data.layouts.layout import Layout, NotLaidOutError, Part, below, split_held_out

_DEFAULTS = {"image_size": 128, "domains": 10}
# The name of a face is a number, such as FOLDER/images1024x1024/00000.png. There may be a folder for each thousand
# faces, whose name is a number, too: FOLDER/images1024x1024/00000/00000.png
_FACE = re.compile(r"(?P<home>(?:[^/]+/)*?)(?:\d{5}/)?\d{5}\.\w+")
_HOMES = ("images1024x1024/", "thumbnails128x128/")


def _read_ffhq(found: Found, source: Path, part: Part) -> Found:
    faces = {p.name: match["home"] for p in found.pictures if (match := _FACE.fullmatch(p.name))}
    homes = Counter(faces.values())
    if not homes:
        raise NotLaidOutError
    # The full pictures if they exist; otherwise thumbnails; otherwise others, such as the uncropped photographs.
    known = [home for end in _HOMES for home in sorted(homes) if home.endswith(end)]
    home = known[0] if known else homes.most_common(1)[0][0]
    inside = below(found, home)
    pictures = [p for p in inside.pictures if faces.get(home + p.name) == home]
    return Found(split_held_out(pictures, part, str(source)), inside.left_out, found.fingerprint)


def _read_lsun(found: Found, source: Path, part: Part) -> Found:
    return Found(split_held_out(found.pictures, part, str(source)), found.left_out, found.fingerprint)


FFHQ = Layout(
    read=_read_ffhq,
    expects="images1024x1024/ or thumbnails128x128/ with faces such as 00000/00000.png or 00000.png",
    defaults=_DEFAULTS,
    has_classes=False,
    held_out=7_000,
)
LSUN_CAR = Layout(
    read=_read_lsun,
    expects="the database's data.mdb, or pictures",
    defaults=_DEFAULTS,
    has_classes=False,
    held_out=10_000,
)

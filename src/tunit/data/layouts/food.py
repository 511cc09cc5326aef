"""Food-101 (Bossard et al., "Food-101: mining discriminative components with random forests", 2014): 101 dishes,
750 training and 250 test pictures each, as a folder or as its archive food-101.tar.gz.
"""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from tunit.config import suggestion
from tunit.data.finding.found import Found
from tunit.data.layouts.layout import (
    Layout,
    NotLaidOutError,
    Part,
    anchor,
    below,
    missing,
    read_text_of_set,
    stamped,
)
from tunit.errors import DataError

# For food, the paper flips and crops the second view as usual, and then applies randomly chosen operations instead of
# the affine transform and the colour jitter. This augmentation is stronger: the authors report an mFID on Food-10 of
# 69.5 without it and of 52.2 with it. They do not give the number and magnitude of operations; the values here are
# those of RandAugment (Cubuk et al. 2020) for ResNet-50 on ImageNet.
SECOND_VIEW = {
    "rotation": 0.0,
    "translation": 0.0,
    "shear": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "random_operations": 2,
    "random_magnitude": 9.0,
}


def _read(found: Found, source: Path, part: Part) -> Found:
    prefix = anchor(found, "images/")
    if prefix is None:
        raise NotLaidOutError
    table = f"meta/{'test' if part.is_validation else 'train'}.txt"
    text = read_text_of_set(source, prefix + table)
    found = below(stamped(found, source, text), prefix, "images/")
    by_line = {str(PurePosixPath(p.name).with_suffix("")).removeprefix("images/"): p for p in found.pictures}
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    _check_classes(part, {line.partition("/")[0] for line in lines}, source)
    pictures, left_out = [], list(found.left_out)
    for line in dict.fromkeys(lines):
        label = line.partition("/")[0]
        if part.classes and label not in part.classes:
            continue
        if line in by_line:
            pictures.append(replace(by_line[line], label=label))
        else:
            left_out.append(missing(f"images/{line}.jpg", table))
    return Found(pictures, left_out, found.fingerprint)


def _check_classes(part: Part, known: set[str], source: Path) -> None:
    for name in part.classes:
        if name not in known:
            raise DataError(f"{source} has no class {name!r}{suggestion(name, known) or ': correct classes'}")


def _layout(domains: int, open_classes: int = 0) -> Layout:
    return Layout(
        read=_read,
        expects="images/CLASS/ and the lists meta/train.txt and meta/test.txt",
        defaults={"image_size": 128, "domains": domains} | SECOND_VIEW,
        has_classes=True,
        open_classes=open_classes,
    )


FOOD_10 = _layout(10, open_classes=10)
FOOD_101 = _layout(101)

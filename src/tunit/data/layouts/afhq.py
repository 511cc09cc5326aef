"""AFHQ (Choi et al., "StarGAN v2", 2020): cats, dogs and wild animals, each a separate set without labels.

The held-back pictures are in the folder val in the first edition, in test in the second.
"""

from functools import partial
from pathlib import Path

from tunit.data.finding.found import Found
from tunit.data.layouts.layout import Layout, NotLaidOutError, Part, anchor, below


def _read(found: Found, source: Path, part: Part, *, group: str) -> Found:
    for split in ("val", "test") if part.is_validation else ("train",):
        prefix = anchor(found, f"{split}/{group}/")
        if prefix is not None:
            return below(found, prefix, f"{split}/{group}/")
    raise NotLaidOutError


def _layout(group: str) -> Layout:
    return Layout(
        read=partial(_read, group=group),
        expects=f"train/{group}/, and val/{group}/ or test/{group}/",
        defaults={"image_size": 128, "domains": 10},  # the paper trains at 256 as well
        has_classes=False,
    )


AFHQ_CAT, AFHQ_DOG, AFHQ_WILD = map(_layout, ("cat", "dog", "wild"))

"""Two domains side by side, such as summer and winter or photographs and ukiyo-e: train/DOMAIN/ and test/DOMAIN/,
or trainA/, trainB/, testA/, testB/ as CycleGAN's sets (Zhu et al., 2017) are published.
"""

import re
from dataclasses import replace
from pathlib import Path

from tunit.data.finding.found import Found, PictureSource
from tunit.data.finding.left_out import LeftOut
from tunit.data.layouts.layout import Layout, NotLaidOutError, Part

_PICTURE = re.compile(
    r"(?P<home>(?:[^/]+/)*?)(?P<split>train|test|val)(?:/(?P<domain>[^/]+)|(?P<letter>[A-Z]))/(?P<file>.+)"
)


def _read(found: Found, source: Path, part: Part) -> Found:
    matches = [(p, m) for p in found.pictures if (m := _PICTURE.fullmatch(p.name))]
    for split in ("test", "val") if part.is_validation else ("train",):
        homes = {m["home"] for _, m in matches if m["split"] == split}
        if not homes:
            continue
        home = min(homes, key=lambda place: (place.count("/"), place))
        pictures = [_named(p, m) for p, m in matches if m["split"] == split and m["home"] == home]
        domains = sorted({str(picture.label) for picture in pictures})
        if len(domains) != 2:
            raise NotLaidOutError(f"{len(domains)} in {home}{split}: {', '.join(domains[:5])}")
        return Found(pictures, _left_out(found, split, home), found.fingerprint)
    raise NotLaidOutError


def _left_out(found: Found, split: str, home: str) -> list[LeftOut]:
    """What is left out of this part, named as its pictures are; entries about the whole source are kept."""
    kept, folder = [], home + split
    for item in found.left_out:
        match = _PICTURE.fullmatch(item.name)
        if match is not None and (match["split"], match["home"]) == (split, home):
            kept.append(replace(item, name=_name(match)))
        elif "/" not in item.name:
            kept.append(item)
        elif item.name.endswith("/") and (folder.startswith(item.name) or item.name.startswith(folder)):
            kept.append(item)  # a folder that could not be listed, around the part or in it
    return kept


def _named(picture: PictureSource, match: re.Match[str]) -> PictureSource:
    """The picture with its domain as label and as a folder in its name: trainA/x.jpg becomes train/A/x.jpg."""
    return replace(picture, name=_name(match), label=match["domain"] or match["letter"])


def _name(match: re.Match[str]) -> str:
    return f"{match['split']}/{match['domain'] or match['letter']}/{match['file']}"


TWO_DOMAINS = Layout(
    read=_read,
    expects="two folders in train/ and the same two in test/, or trainA/, trainB/, testA/ and testB/",
    # Seasons and painting styles differ in their colours, and colour jitter would hide that.
    defaults={
        "image_size": 128,
        "domains": 2,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
        "hue": 0.0,
    },
    has_classes=True,
)

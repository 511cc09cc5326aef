"""How pictures are checked and made squares of one size."""

import json
from dataclasses import asdict, dataclass
from typing import Any, cast

from tunit.config import Config
from tunit.data.decoding.decode import MAX_PIXELS
from tunit.data.finding.find import LABEL_MODES
from tunit.data.layouts import Part, part_of
from tunit.data.packing.fit import FIT_MODES
from tunit.data.packing.squares import Squaring
from tunit.errors import ConfigError
from tunit.given import whole_number

# The version of decoding. Increase it whenever the same settings give other pixels than before. Packs of an older
# version are then made again, but a run that already has such a pack continues to use it.
DECODING = 5


@dataclass(frozen=True)
class PackSettings:
    """How pictures are checked and made squares of one size. If any of it changes, the pack is made again."""

    size: int  # pixels, both sides
    fit: str = "stretch"  # "stretch", "crop" or "pad"
    background: tuple[int, int, int] = (255, 255, 255)  # behind transparency, and around padded pictures
    min_side: int = 16  # pixels; a picture with a shorter side is left out
    max_pixels: int = MAX_PIXELS  # a picture that declares more is left out undecoded
    labels: str = "none"  # "none", "folders" or "csv"
    label_column: str = "label"
    picture_column: str = ""  # the column of a table with the pictures' paths; empty finds it
    keep_duplicates: bool = False
    part: Part | None = None  # of a published data set; its labels are "folders"

    def __post_init__(self) -> None:
        for name in ("size", "min_side", "max_pixels"):
            whole_number(getattr(self, name), f"{name} is {{}}: take a whole number, at least 1", 1)
        if self.fit not in FIT_MODES:
            raise ConfigError(f"fit {self.fit!r} is unknown: use one of {', '.join(FIT_MODES)}")
        if self.labels not in LABEL_MODES:
            raise ConfigError(f"labels {self.labels!r} is unknown: use one of {', '.join(LABEL_MODES)}")
        if len(self.background) != 3 or not all(0 <= value <= 255 for value in self.background):
            raise ConfigError(
                f"background {self.background} is not a colour: use three numbers from 0 to 255"
            )

    def squaring(self) -> Squaring:
        """How each picture becomes its square."""
        return Squaring(self.size, self.fit, self.background, self.min_side, self.max_pixels)

    def as_json(self) -> dict[str, Any]:
        """The settings in the form of an index; the label column is included only if labels come from it."""
        label_column = self.label_column if self.labels == "csv" else ""
        values = {**asdict(self), "label_column": label_column, "decoding": DECODING}
        for name in ("part", "picture_column"):  # older packs, made before these settings existed, stay valid
            if not values[name]:
                del values[name]
        return cast(dict[str, Any], json.loads(json.dumps(values)))


def pack_settings(config: Config) -> PackSettings:
    """The packer's settings of a config; its image size must be chosen."""
    data = config.data
    return PackSettings(
        size=data.image_size,
        fit=data.fit,
        background=data.background,
        min_side=data.min_side,
        max_pixels=data.max_pixels,
        labels=data.labels,
        label_column=data.label_column,
        picture_column=data.picture_column,
        part=part_of(data),
    )

"""How a config packs pictures."""

from tunit.config import Config
from tunit.data.layouts import part_of
from tunit.data.pack_settings import PackSettings


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

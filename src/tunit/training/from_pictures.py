"""Settings that may be chosen from the pictures: crops, jitter of colours, when neighbours are looked for, and from
when on E learns domains.
"""

from tunit.clustering.composition import CLOSE, crop_area_for
from tunit.config import Config
from tunit.config.fields import AUTO_WORD
from tunit.data.packing.packed import PackedPictures
from tunit.methods.neighbourhood import numbers_of_groups
from tunit.printing import listed

# The settings that may be `auto` until the pictures are known; all but the first two depend on whether colours may
# tell the kinds apart.
LEFT_TO_PICTURES = ("domains_from", "crop_area", "hue", "saturation", "neighbours_from")
# `domains_from`: with labels for some pictures, E must learn which domains the others have. Without labels its
# domains are found by clustering its codes, and such steps are shorter: EXPERIMENTS.md, "Styles alone".
WITH_LABELS, WITHOUT_LABELS = 0.5, 1.0


def left_to_pictures(config: Config) -> list[str]:
    """The settings that the config leaves to be chosen from the pictures."""
    return [name for name in LEFT_TO_PICTURES if config.word(name) == AUTO_WORD]


def suited_to_pictures(config: Config, pictures: PackedPictures | None) -> Config:
    """The config with what it may leave to be chosen from the pictures: the area of random crops, the jitter of
    colours, when E's neighbours are first looked for, and from when on E learns domains. pictures: None, for a
    benchmark without any, chooses small crops, keeps colours, and stands for pictures without labels.
    """
    left = left_to_pictures(config)
    if "domains_from" in left:
        left.remove("domains_from")
        labelled = pictures is not None and pictures.any_labelled
        config = config.with_overrides({"domains_from": WITH_LABELS if labelled else WITHOUT_LABELS})
    if "crop_area" in left:
        left.remove("crop_area")
        area = CLOSE if pictures is None else crop_area_for(pictures.images)
        config = config.with_overrides({"crop_area": area})
    if not left:
        return config
    from tunit.clustering.colours import (  # imports scikit-learn, which takes long
        KEEP_COLOURS,
        settings_by_colours,
    )

    chosen, alone = KEEP_COLOURS, config.schedule.guide_only_until
    idle = left == ["neighbours_from"] and not (config.clustering.neighbours and alone)
    if pictures is not None and not idle:
        chosen = settings_by_colours(pictures.images, numbers_of_groups(config))
    return config.with_overrides({name: chosen[name] for name in left})


def choosing(names: list[str]) -> str:
    """What `suited_to_pictures` is about to do for these settings, at least one: it may take several seconds."""
    flags = [f"--{name.replace('_', '-')}" for name in names]
    return f"choosing {listed(flags)} from the pictures"


def choices(names: list[str], config: Config) -> str:
    """What `suited_to_pictures` has chosen for these settings, at least one, as flags."""
    flags = []
    for name in names:
        value = config.value(name)
        numbers = " ".join(f"{number:g}" for number in (value if isinstance(value, tuple) else (value,)))
        flags.append(f"--{name.replace('_', '-')} {numbers}")
    return f"chosen from the pictures: {' '.join(flags)}"

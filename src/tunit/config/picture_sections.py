"""The sections on pictures: which are used, their labels, how they become squares, how views are augmented."""

from dataclasses import dataclass

from tunit.config.fields import FROM_PICTURES_WORDS, setting
from tunit.config.sections import LARGEST_SIDE, MOST

# The published data sets that `tunit.data.layouts` reads.
LAYOUT_NAMES = (
    "animal-faces-10",
    "animal-faces-149",
    "food-10",
    "food-101",
    "afhq-cat",
    "afhq-dog",
    "afhq-wild",
    "ffhq",
    "lsun-car",
    "two-domains",
)


@dataclass(frozen=True)
class DataConfig:
    """Which pictures and labels are used, and how a picture becomes a square."""

    image_size: int = setting(
        128,
        "side of the training pictures, a power of two from 32; auto, or 0: the largest of 32, 64 and 128 that is "
        "not above the median of the pictures' shorter sides (32 if all are smaller)",
        low=0,
        high=LARGEST_SIDE,
        words={"auto": 0},
    )
    fit: str = setting("stretch", "how a picture becomes a square", choices=("stretch", "crop", "pad"))
    background: tuple[int, int, int] = setting(
        (255, 255, 255), "colour behind transparent and padded parts", low=0, high=255
    )
    min_side: int = setting(16, "a picture with a shorter side is left out", low=1, high=LARGEST_SIDE)
    max_pixels: int = setting(
        178_956_970,
        "a picture that declares more pixels is left out undecoded; decoding takes up to 6 bytes of memory per pixel",
        low=1,
        high=2**32,
    )
    labels: str = setting("none", "labels to train with", choices=("none", "folders", "csv"))
    label_column: str = setting("label", "the CSV column that holds labels, by name or number")
    picture_column: str = setting(
        "", "the CSV column that holds the pictures' paths, by name or number; if empty, tunit finds it"
    )
    layout: str = setting("none", "published data set that FOLDER holds", choices=("none", *LAYOUT_NAMES))
    split: str = setting(
        "train",
        "part of the published set; test is another word for validation",
        choices=("train", "validation", "test"),
    )
    classes: str = setting("", "classes to use of food-10, with commas between them, or a text file of them")
    held_out: int = setting(
        0,
        "with --layout: how many of the last pictures of the published set (AnimalFaces: of each class) are its "
        "validation split, which is not trained on; 0: as in the paper",
        low=0,
        high=MOST,
    )
    labelled_ratio: float = setting(
        0.0,
        "few-label training: share of the steps (not of the pictures) that sample only labelled pictures, while the "
        "others sample only unlabelled ones; 0: every step samples from all pictures",
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class AugmentConfig:
    """The random transform from x to its second view x+.

    The defaults are the paper's for animal faces, AFHQ, FFHQ and LSUN Car. For food, the layouts `food-10` and
    `food-101` use randomly chosen operations instead of the affine transform and the colour jitter.
    """

    flip: float = setting(0.5, "probability of a horizontal flip, in both views", low=0, high=1)
    rotation: float = setting(20.0, "largest rotation, degrees", low=0, high=180)
    translation: float = setting(0.1, "largest shift, share of the side", low=0, high=1)
    shear: float = setting(10.0, "largest shear, degrees", low=0, high=80)
    crop_area: tuple[float, float] = setting(
        (0.9, 1.1),
        "area of the random crop, as a share of the picture; a sampled value above 1 counts as 1; auto, or 0 0: "
        "chosen from the pictures, larger if they share a composition (clustering/composition.py)",
        low=0,
        high=4,
        words={"auto": (0.0, 0.0)},
    )
    crop_aspect: tuple[float, float] = setting(
        (0.9, 1.1), "aspect ratio of the random crop", low=0.1, high=10
    )
    brightness: float = setting(0.4, "colour jitter: factor from 1 - b to 1 + b", low=0, high=1)
    contrast: float = setting(0.4, "colour jitter: factor from 1 - c to 1 + c", low=0, high=1)
    saturation: float = setting(
        0.4,
        "colour jitter: factor from 1 - s to 1 + s; auto: chosen from the pictures, 0 if colours may tell kinds "
        "apart (docs/domains.md)",
        low=0,
        high=1,
        words=FROM_PICTURES_WORDS,
    )
    hue: float = setting(
        0.125,
        "colour jitter: largest turn of the hue, as a share of a full circle; auto: as for the saturation",
        low=0,
        high=0.5,
        words=FROM_PICTURES_WORDS,
    )
    random_operations: int = setting(
        0,
        "number of operations on x+ (with both_views also on x, while E trains alone), after all others, sampled as "
        "in RandAugment (in the paper, for Food-10)",
        low=0,
        high=100,
    )
    random_magnitude: float = setting(9.0, "magnitude of these operations, as in RandAugment", low=0, high=10)
    both_views: bool = setting(
        False, "while E trains alone, transform x at random as well as x+ (SimCLR); the paper only flips x"
    )

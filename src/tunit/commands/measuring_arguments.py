"""Options of all commands that measure a model: the feature network, and how many pictures are translated."""

import argparse
from pathlib import Path

from tunit.commands.numbers import whole
from tunit.config.sections import MOST
from tunit.errors import ConfigError

DEFAULT = "random-vgg16"
CLEAN = "clean"
# Networks and files that are surely not the Inception network.
_OTHERS, _OTHER_SUFFIXES = (DEFAULT, "dinov2", "moco-v2"), (".pth", ".tar", ".pt2")


def add_features(parser: argparse.ArgumentParser, text: str = "as in tunit evaluate") -> None:
    """Add --features and --trust-features. text: the help of --features."""
    parser.add_argument("--features", default=DEFAULT, metavar="NETWORK", help=f"{text} [{DEFAULT}]")
    parser.add_argument(
        "--trust-features",
        action="store_true",
        help="allow a TorchScript or .pt2 file for --features, although loading such a file can run any code",
    )


def add_measuring(parser: argparse.ArgumentParser, preprocessing: str = "as in tunit evaluate") -> None:
    """Add --preprocessing and --sources. preprocessing: the help of --preprocessing."""
    parser.add_argument(
        "--preprocessing", default=CLEAN, choices=(CLEAN, "legacy"), help=f"{preprocessing} [{CLEAN}]"
    )
    parser.add_argument(
        "--sources",
        type=whole(0, MOST),
        default=0,
        metavar="N",
        help="how many pictures are translated into each class [all]",
    )


def check_preprocessing(preprocessing: str, *networks: str) -> None:
    """Raises ConfigError if none of the feature networks can be the Inception network, the only one that reads it."""
    others = [name for name in networks if name in _OTHERS or Path(name).suffix in _OTHER_SUFFIXES]
    if preprocessing != CLEAN and len(others) == len(networks):
        raise ConfigError(
            f"--preprocessing {preprocessing} has no effect with --features {networks[0]}: "
            "it needs --features inception"
        )

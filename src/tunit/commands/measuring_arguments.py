"""Options of all commands that measure a model: the feature network, and how many pictures are translated."""

import argparse

from tunit.commands.numbers import whole
from tunit.config.sections import MOST

DEFAULT = "random-vgg16"


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
        "--preprocessing", default="clean", choices=("clean", "legacy"), help=f"{preprocessing} [clean]"
    )
    parser.add_argument(
        "--sources",
        type=whole(0, MOST),
        default=0,
        metavar="N",
        help="how many pictures are translated into each class [all]",
    )

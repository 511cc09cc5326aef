"""Options that the commands which measure a model share: the feature network, and how much is translated."""

import argparse

from tunit.commands.numbers import whole
from tunit.config.sections import MOST

DEFAULT = "random-vgg16"


def add_features(parser: argparse.ArgumentParser, text: str = "as in tunit evaluate") -> None:
    """--features and --trust-features. text: the help of the former."""
    parser.add_argument("--features", default=DEFAULT, metavar="NETWORK", help=f"{text} [{DEFAULT}]")
    parser.add_argument(
        "--trust-features",
        action="store_true",
        help="load a TorchScript or .pt2 file, which can run any code, as --features",
    )


def add_measuring(parser: argparse.ArgumentParser, preprocessing: str = "as in tunit evaluate") -> None:
    """--preprocessing and --sources. preprocessing: the help of the former."""
    parser.add_argument(
        "--preprocessing", default="clean", choices=("clean", "legacy"), help=f"{preprocessing} [clean]"
    )
    parser.add_argument(
        "--sources",
        type=whole(0, MOST),
        default=0,
        metavar="N",
        help="translate N pictures into each class [all]",
    )

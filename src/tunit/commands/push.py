"""Upload a trained model to the Hugging Face hub, with a card, so that others can load it by its name.

  tunit push runs/mine me/mine --dry-run mine-model        only write the folder, to look at it first
  tunit push runs/mine me/mine --private
  tunit push runs/mine me/mine --license cc-by-4.0 --trained-on "Photographs of my own cats."

The folder holds model.safetensors, JSON files, a card (README.md: what the model was trained on, its domains, figures
if the run was evaluated, limits, how to load it) and, for each domain, a thumbnail of some training pictures. It
holds no training state, paths or file names. `Translator.load("me/mine")` loads the model; so does `Translator.load`
with the folder. Except with --dry-run, it needs `pip install "tunit[hub]"` and `hf auth login`.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.printing import show

if TYPE_CHECKING:
    from collections.abc import Callable

HELP = "upload a model to the Hugging Face hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit push`."""
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a trained run")
    parser.add_argument("name", metavar="USER/NAME", help="name of the model on the hub")
    parser.add_argument(
        "--private", action="store_true", help="only you can see the model [your account's default]"
    )
    parser.add_argument(
        "--dry-run", type=Path, metavar="DIR", help="write the folder to DIR and upload nothing"
    )
    parser.add_argument(
        "--license",
        default="unknown",
        metavar="ID",
        help="licence of the model, such as apache-2.0 [unknown]",
    )
    parser.add_argument(
        "--trained-on",
        default="",
        metavar="TEXT",
        help="a sentence about the training pictures, for the card",
    )
    parser.add_argument(
        "--no-pictures",
        action="store_true",
        help="leave out the thumbnails of domains, which show training pictures",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist in --dry-run DIR")


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit push`."""
    from functools import partial
    from tempfile import TemporaryDirectory

    from tunit.hub import check_name, check_upload, upload
    from tunit.methods.model_file import TENSORS
    from tunit.reporting.model_card import check_licence
    from tunit.reporting.model_folder import is_thumbnail, write_model_folder

    folder = args.model.parent if args.model.name == TENSORS else args.model
    check_name(args.name)
    check_licence(args.license)
    write = partial(
        write_model_folder,
        folder,
        name=args.name,
        licence=args.license,
        trained_on=args.trained_on,
        pictures=not args.no_pictures,
    )
    if args.dry_run:
        return _keep(args, folder, write)
    check_upload(args.name)
    with TemporaryDirectory(prefix="tunit-") as scratch:
        thumbnails = write(Path(scratch))
        message = "Upload a model of tunit"
        address = upload(
            Path(scratch), args.name, private=args.private, message=message, replaced=is_thumbnail
        )
    show(f"uploaded to {address}{_with(thumbnails)}")
    show(f'next: Translator.load("{args.name}")')
    return 0


def _keep(args: argparse.Namespace, run: Path, write: "Callable[[Path], int]") -> int:
    """Only write the folder to --dry-run."""
    from tunit.files.destination import staged
    from tunit.methods.model_file import load_model
    from tunit.reporting.model_folder import files_of_folder, remove_thumbnails, thumbnails_in
    from tunit.translation.result_files import check_names

    names = files_of_folder(load_model(run), pictures=not args.no_pictures)
    old = thumbnails_in(args.dry_run)  # of an earlier model: they must not be shared with this one
    check_names(args.dry_run, sorted({*names, *old}), overwrite=args.overwrite, flag="--dry-run")
    with staged(args.dry_run) as stage:
        thumbnails = write(stage)
        old -= thumbnails_in(stage)
    remove_thumbnails(args.dry_run, old)
    show(f"{args.dry_run}: what would be uploaded{_with(thumbnails)}")
    return 0


def _with(thumbnails: int) -> str:
    if not thumbnails:
        return ""
    return f"; {thumbnails} thumbnails show training pictures (--no-pictures leaves them out)"

"""Write a trained model as files that other programs run, without tunit.

  tunit export runs/mine --out mine-onnx
  tunit export runs/mine --format torch --out mine-torch
  tunit export runs/mine --format browser --out mine-page

Writes four networks, each for any number of pictures: style_encoder, domain_classifier, translator (picture and style
code) and reference_translator (picture and reference); and export.json, which describes inputs, outputs, ranges, and
the domains with their average styles. A model of method funit has no domain_classifier. The outputs of each network
are compared with PyTorch's, for random pictures and for some pictures of the run. If one differs by more than 0.001
(if its largest number is above 1: by more than 0.001 of that number), nothing is written. ONNX needs `pip install
"tunit[onnx]"`.

With --format browser, the folder holds a web page that redraws pictures in the browser, with two of these networks.
Serve it with any web server, such as `python -m http.server -d mine-page`. The page uses onnxruntime-web, which tunit
fetches with npm the first time.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.files.result_names import EXPORT
from tunit.printing import show, show_table

if TYPE_CHECKING:
    from torch import Tensor

HELP = "write a model as ONNX or torch.export files, or as a page that runs in the browser"
COMPARED = 4  # networks are compared on this many pictures of the run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit export`."""
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a trained run")
    parser.add_argument(
        "--format", choices=("onnx", "torch", "browser"), default="onnx", help="format of the files [onnx]"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the files [RUN/export]")
    parser.add_argument(
        "--runtime",
        type=Path,
        metavar="DIR",
        help="for browser: folder of onnxruntime-web, such as node_modules/onnxruntime-web [fetched with npm]",
    )
    parser.add_argument(
        "--no-pictures",
        action="store_true",
        help="for browser: leave out the thumbnails of domains, which show training pictures",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace result files that exist already")


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit export`."""
    from tunit.errors import ConfigError
    from tunit.files.destination import staged
    from tunit.methods.model_file import load_model
    from tunit.reporting.browser_folder import names_in_browser_folder, write_browser_folder
    from tunit.reporting.browser_runtime import find_runtime
    from tunit.reporting.model_folder import remove_thumbnails, thumbnails_in
    from tunit.training.run_folder import label_names
    from tunit.translation.export import check_packages, export_model, names_of_files
    from tunit.translation.model_place import model_folder, results_of
    from tunit.translation.result_files import check_names

    browser, shows = args.format == "browser", not args.no_pictures
    if not browser and (args.runtime or args.no_pictures):
        raise ConfigError("--runtime and --no-pictures are for --format browser: leave them out")
    kind = "onnx" if browser else args.format
    check_packages(kind)
    runtime = find_runtime(args.runtime) if browser else None
    out = results_of(args.model, args.out, EXPORT)
    folder = model_folder(args.model)
    model = load_model(folder)
    names = names_in_browser_folder(model, pictures=shows) if browser else names_of_files(model, kind)
    # Those of an earlier page must not be shared with this one.
    old = thumbnails_in(out) if browser else set()
    check_names(out, sorted({*names, *old}), overwrite=args.overwrite)
    pictures, labels = _pictures_of(folder, model.image_size), label_names(folder)
    with staged(out) as stage:
        if runtime is None:
            differences = export_model(model, stage, kind, pictures, labels)
        else:
            differences = write_browser_folder(
                folder, model, stage, runtime, pictures, labels, pictures=shows
            )
        old -= thumbnails_in(stage)
    remove_thumbnails(out, old)
    sizes = {name: (out / name).stat().st_size / 1e6 for name in differences}
    rows = [(name, f"{sizes[name]:.1f}", f"{apart:.1e}") for name, apart in differences.items()]
    show_table(("file", "MB", "largest difference"), rows, left=1)
    beside = (
        f"{len(pictures)} pictures of the run"
        if len(pictures)
        else "no others, because the run holds no pictures"
    )
    show(f"{out}: compared with PyTorch on random pictures and {beside}")
    return 0


def _pictures_of(folder: Path, side: int) -> "Tensor":
    """The first few pictures of a run, (N, 3, S, S); N is 0 if the run has no pictures of the model's size."""
    import torch

    from tunit.data.packing.packed import open_packed
    from tunit.errors import DataError
    from tunit.methods.inference import in_batches
    from tunit.training.run_folder import RunFolder

    none = torch.zeros(0, 3, side, side)
    try:
        images = open_packed(RunFolder(folder).data).images[:COMPARED]
    except DataError:
        return none
    return next(in_batches(images, torch.device("cpu")), none) if images.shape[1] == side else none

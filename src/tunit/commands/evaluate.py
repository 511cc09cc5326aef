"""Measure a trained run on held-back pictures, or compare any two folders.

  tunit evaluate runs/mine held_back/
  tunit evaluate runs/mine held_back/ --features inception --preprocessing legacy     as in the paper
  tunit evaluate runs/mine animals/ --layout animal-faces-10         the validation pictures of a published set
  tunit evaluate --real photos/ --fake generated/

With class folders (or a CSV table with labels) it follows the paper: mFID, density and coverage per class, accuracy.
Without labels it gives every figure that needs none. Figures of different feature networks cannot be compared, so
each table names the network. The default, random-vgg16, needs no download.

Writes RUN/evaluation/evaluation.json (or --out FILE) and prints a table.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.measuring_arguments import add_features, add_measuring, check_preprocessing
from tunit.commands.numbers import seed, whole
from tunit.commands.picture_arguments import add_device, add_max_pixels
from tunit.config.sections import LARGEST_SIDE, MOST
from tunit.printing import remark, show, show_table

if TYPE_CHECKING:
    from tunit.evaluation.intervals import Figure
    from tunit.evaluation.result import Evaluation

# Options that only the evaluation of a run reads.
OF_RUN = (
    "train", "labels", "label_column", "picture_column", "layout", "split", "classes", "held_out", "sources",
)  # fmt: skip
SIDE = 128  # pixels of the squares in which two folders are compared
HELP = "measure a run on held-back pictures, or compare two folders"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit evaluate`."""
    parser.add_argument("model", type=Path, nargs="?", metavar="RUN", help="folder of a trained run")
    parser.add_argument(
        "source",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help="held-back pictures: a folder, archive, list, CSV or folder of shards",
    )
    parser.add_argument(
        "--real",
        type=Path,
        metavar="FOLDER",
        help="real pictures to compare with --fake, instead of evaluating a model",
    )
    parser.add_argument(
        "--fake", type=Path, metavar="FOLDER", help="generated pictures to compare with --real"
    )
    parser.add_argument(
        "--train",
        type=Path,
        metavar="FOLDER",
        help="real pictures with which translations are compared [the training pictures of the run]",
    )
    _add_classes(parser)
    add_features(parser, "random-vgg16, inception, dinov2, a TorchScript or .pt2 file, or MoCo v2's .pth.tar")
    add_measuring(parser, "how pictures are resized for the Inception network; legacy: as in the paper")
    parser.add_argument(
        "--size",
        type=whole(16, LARGEST_SIDE),
        metavar="S",
        help=f"with --real and --fake: side of the squares that are compared [{SIDE}]",
    )
    add_max_pixels(parser)
    parser.add_argument("--seed", type=seed, default=0, help="seed for references and resampling [0]")
    add_device(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the JSON file [RUN/evaluation/evaluation.json]"
    )
    parser.set_defaults(of_run={name: parser.get_default(name) for name in OF_RUN})


def _add_classes(parser: argparse.ArgumentParser) -> None:
    """The options for the classes of the held-back pictures."""
    parser.add_argument(
        "--labels", default="auto", help="auto, none, folders or csv: where classes come from [auto]"
    )
    parser.add_argument(
        "--label-column",
        default="label",
        metavar="NAME",
        help="column of a CSV table that holds labels, by name or number [label]",
    )
    parser.add_argument(
        "--picture-column",
        default="",
        metavar="NAME",
        help="column that holds the pictures' paths, by name or number [found by its content]",
    )
    parser.add_argument(
        "--layout",
        default="none",
        metavar="NAME",
        help="published data set that FOLDER holds, as in tunit train",
    )
    parser.add_argument(
        "--split", metavar="PART", help="part of a published set: validation or train [validation]"
    )
    parser.add_argument(
        "--classes", default="", metavar="NAMES", help="classes to use of food-10, as in tunit train"
    )
    parser.add_argument(
        "--held-out",
        type=whole(0, MOST),
        default=0,
        metavar="N",
        help="with --layout: the number that tunit train got as --held-out; 0: as in the paper",
    )


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit evaluate`."""
    from tunit.errors import ConfigError

    check_preprocessing(args.preprocessing, args.features)
    two_folders = args.real is not None or args.fake is not None
    if two_folders and (args.real is None or args.fake is None or args.model is not None):
        raise ConfigError("give either RUN and FOLDER, or both --real and --fake")
    if not two_folders and args.source is None:
        missing = "RUN and FOLDER are" if args.model is None else "FOLDER, the held-back pictures, is"
        raise ConfigError(f"{missing} missing: give tunit evaluate RUN FOLDER, or --real A --fake B")
    if not two_folders and args.size is not None:
        raise ConfigError(
            f"--size {args.size} has no effect with RUN, whose model has a size: it needs --real and --fake"
        )
    ignored = [name for name, default in args.of_run.items() if getattr(args, name) != default]
    if two_folders and ignored:
        option = f"--{ignored[0].replace('_', '-')} {getattr(args, ignored[0])}"
        raise ConfigError(f"{option} has no effect with --real and --fake: it needs RUN and FOLDER")
    if two_folders:
        return _compare_folders(args)
    return _evaluate_run(args)


def _evaluate_run(args: argparse.Namespace) -> int:
    from tunit.data.layouts import make_part
    from tunit.evaluation.of_run import RESULT, evaluate_run
    from tunit.files.paths import expand_home
    from tunit.methods.model_file import load_model
    from tunit.reporting.undecided import domains_undecided
    from tunit.training.run_folder import EVALUATION

    split = args.split or ("train" if args.layout == "none" else "validation")
    out = args.out or args.model / EVALUATION / RESULT
    evaluate_run(
        args.model,
        args.source,
        train=args.train,
        labels=args.labels,
        label_column=args.label_column,
        picture_column=args.picture_column,
        part=make_part(args.layout, split, args.classes, args.held_out),
        max_pixels=args.max_pixels,
        features=args.features,
        preprocessing=args.preprocessing,
        trust_features=args.trust_features,
        most_sources=args.sources,
        seed=args.seed,
        device=args.device,
        out=out,
        show=print_evaluation,
        say=remark,
    )
    show("", f"written to {out}")
    run = expand_home(args.model)
    if undecided := domains_undecided(run, load_model(run).step):
        remark(undecided)
    return 0


def _compare_folders(args: argparse.Namespace) -> int:
    import tempfile

    from tunit.errors import DataError
    from tunit.evaluation.comparison import check_enough, compare_sets
    from tunit.evaluation.labelled import check_there, pack_held, square_settings
    from tunit.evaluation.of_run import check_result_file, save_evaluation, say_what_is_missing
    from tunit.evaluation.result import Evaluation
    from tunit.features.feature_networks import load_feature_network
    from tunit.features.of_pictures import features_of
    from tunit.machine import choose_device

    if args.out:
        check_result_file(args.out, [args.real, args.fake, Path(args.features)])
    for name in ("real", "fake"):  # before the features of either are computed
        check_there(getattr(args, name), f"--{name}")
    network = load_feature_network(
        args.features,
        preprocessing=args.preprocessing,
        device=choose_device(args.device),
        trust=args.trust_features,
    )
    result = Evaluation(features=network.name)
    size = args.size or SIDE
    squares = square_settings(size, "stretch", (255, 255, 255), max_pixels=args.max_pixels)
    packs = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("real", "fake"):
            packs[name] = pack_held(getattr(args, name), Path(scratch) / name, squares, labels="none")
            say_what_is_missing(packs[name], getattr(args, name), remark)
        try:
            check_enough(len(packs["real"].names), len(packs["fake"].names))
            sets = []
            for name, packed in packs.items():
                remark(f"features of {getattr(args, name)} by {network.name}")
                with result.timed(f"{name} features"):
                    sets.append(features_of(packed.images, network))
            with result.timed("comparison"):
                compared = compare_sets(*sets, seed=args.seed)
        except DataError as error:
            raise DataError(f"{args.real} and {args.fake} cannot be compared: {error}") from None
    result.figures |= compared.figures
    result.notes += compared.notes
    about = {"real": str(args.real), "fake": str(args.fake), "size": size, "seed": args.seed}
    try:
        print_evaluation(result)
    finally:  # even if printing fails
        if args.out:
            save_evaluation(args.out, result, about)
    if args.out:
        show("", f"written to {args.out}")
    return 0


def print_evaluation(result: "Evaluation") -> None:
    """The tables on the terminal: all figures, then those of each group, then what could not be measured."""
    from tunit.evaluation.against_trivial import COLUMNS
    from tunit.evaluation.intervals import Figure

    rows = [
        (name, *(figure_cells(figure) if isinstance(figure, Figure) else (f"{figure:.4g}", "", "")))
        for name, figure in result.figures.items()
    ]
    show_table(("figure", "value", "95 % interval", "pictures"), rows, title=f"features: {result.features}")
    if any(result.groups.values()):
        names = ("FID", "density", "coverage")
        show_table(
            (result.grouped_by, *names),
            [
                (group, *(f"{figures[n].value:.4g}" if n in figures else "-" for n in names))
                for group, figures in result.groups.items()
            ],
        )
    if result.trivial.rows:
        show_table(
            ("compared with trivial baselines", *COLUMNS.values()),
            result.trivial.cells(),
            title=f"on the same {result.trivial.pictures:,} pictures",
        )
        show(result.trivial.verdict)
    show(*(f"note: {note}" for note in result.notes))
    show("cost: " + ", ".join(f"{part} {seconds:.1f} s" for part, seconds in result.seconds.items()))


def figure_cells(figure: "Figure") -> tuple[str, str, str]:
    """Value, interval and sample size as text."""
    return f"{figure.value:.4g}", f"{figure.low:.4g} .. {figure.high:.4g}", f"{figure.number:,}"

"""Train on a folder of pictures: find their domains, learn to translate between them.

  tunit train FOLDER --out runs/mine                          image size and number of domains are found
  tunit train FOLDER --out runs/mine --domains 6 --steps 20000 --image-size 64
  tunit train FOLDER --out runs/mine --preset paper           the paper's setting, for a GPU
  tunit train FOLDER --out runs/mine --preset paper --layout animal-faces-10     one of the paper's data sets
  tunit train --resume runs/mine                              continue a run that stopped
  tunit train FOLDER --from runs/mine --out runs/new          fine-tune E, G and D of a run on other pictures
  torchrun --nproc-per-node 8 -m tunit train FOLDER --out runs/mine       8 GPUs; several machines: docs/scaling.md

FOLDER may be a folder (nested or not), a zip or tar archive, a text file of paths, or a CSV.
Ctrl-C saves a checkpoint before it stops. Every setting of the method is a flag below.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunit.commands.measuring_arguments import DEFAULT, add_features
from tunit.commands.measuring_in_training import add_measuring_in_training, evaluator_of
from tunit.commands.numbers import whole
from tunit.commands.setting_arguments import add_settings, packing_progress, settings_of
from tunit.config.sections import MOST
from tunit.errors import ConfigError
from tunit.files.paths import path_or_url
from tunit.printing import command, numbered, remark, show, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tunit.config import Config
    from tunit.data.packing.packed import PackedPictures
    from tunit.methods.state import TrainingState

HELP = "train on a folder of pictures, or resume a run"
CPU_HINT = (
    "hint: this trains on the CPU, and the preset default is made for a GPU; --preset small is made for a CPU "
    "(docs/recipes.md)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit train`."""
    parser.usage = (
        "tunit train FOLDER --out RUN [options] [settings]\n       tunit train --resume RUN [settings]"
    )
    parser.add_argument(
        "source",
        nargs="?",
        type=path_or_url,
        metavar="FOLDER",
        help="the pictures; also a folder or URL of shards",
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="the folder of the new run")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="continue the run in this folder")
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="FILE",
        help="only repeat a step in which a value was not finite, and the steps that lead to it from the checkpoint "
        "kept with it; FILE is the batch of this step, in RUN/non_finite",
    )
    parser.add_argument(
        "--from",
        dest="start_from",
        type=Path,
        metavar="RUN",
        help="begin with the networks of this run (fine-tuning); with another --domains, "
        "E's domain heads and D's last layer start from new weights",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="a preset or a TOML file [default; with --from, the settings of that run]",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is in --out")
    parser.add_argument(
        "--strict", action="store_true", help="stop at a bad picture instead of leaving it out"
    )
    parser.add_argument(
        "--batch",
        type=_batch,
        metavar="auto|N",
        help="auto: lower the batch sizes (of E alone and of joint steps) to the number of pictures, and halve them "
        "until steps fit the memory; a number: as --batch-size",
    )
    parser.add_argument("--quiet", action="store_true", help="do not print the progress")
    parser.add_argument(
        "--max-restarts",
        type=whole(0, MOST),
        default=0,
        metavar="N",
        help="with --processes: if one dies, restart all from the last checkpoint, at most N times [0]",
    )
    add_measuring_in_training(parser)
    add_features(parser)
    add_settings(parser)


def _batch(text: str) -> str:
    """The `type` of --batch: "auto" or a number, which is checked as --batch-size is."""
    if text != "auto" and not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"is {shown(text)}: take auto or a number of pictures")
    return text


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit train`."""
    from tunit.training.interrupt import Interrupted
    from tunit.training.run_folder import RunFolder, given_run

    if args.replay:
        from tunit.training.replay import replay

        others = (
            *(args.source, args.out, args.resume, args.start_from, args.preset, args.overwrite, args.strict),
            *(args.batch, args.max_restarts, args.evaluate_every, args.held_back, args.log_to),
            *(args.features != DEFAULT, args.trust_features),
        )
        if any(others) or settings_of(args):
            raise ConfigError(f"--replay {args.replay} repeats a step as it was: leave out all other options")
        return 0 if replay(args.replay) else 1
    bar, move = packing_progress()
    out = given_run(args.resume) if args.resume else args.out
    shared = {
        "progress": move,
        "announce": _announcer(bar, quiet=args.quiet),
        "evaluate": evaluator_of(args, out),
        "evaluate_every": args.evaluate_every,
        "quiet": args.quiet,
        "log_to": args.log_to,
        "words": args.words,
        "max_restarts": args.max_restarts,
    }
    try:
        with bar:
            state = _resume(args, shared) if args.resume else _start(args, shared)
    except Interrupted as stop:
        show(f"tunit: {stop}")
        return stop.exit_code
    if not args.quiet:
        show(f"trained {numbered(state.step, 'step')}: {out}")
        source = args.source or RunFolder(out).read_about().get("source") or "FOLDER"
        show(f"next: {command('domains', out, source)}")
        show(f"      {command('translate', out, 'SOURCE', '--reference', 'PICTURE', '--out', 'translated')}")
    return 0


def _start(args: argparse.Namespace, shared: dict[str, Any]) -> "TrainingState":
    """Train a new run. shared: arguments for both `start_run` and `resume_run`."""
    from tunit.data.layouts import layout_config
    from tunit.data.layouts.selection import average_behind, chosen_settings, explicit_settings
    from tunit.training.fine_tuning import config_like
    from tunit.training.launch import start_run
    from tunit.training.run_folder import given_run

    if not args.source or not args.out:
        raise ConfigError("give the folder of pictures and --out RUN, or --resume RUN")
    preset, settings = args.preset or "default", _with_batch(args.batch, settings_of(args))
    config, given = layout_config(preset, settings), explicit_settings(preset, settings)
    if args.start_from:
        config = config_like(config, given_run(args.start_from), given, with_training=args.preset is None)
    config = average_behind(config, preset, given)
    _check_restarts(args.max_restarts, config)
    hint = CPU_HINT if _is_default_on_cpu(args, config) else ""
    announce = _with_warnings(shared["announce"], config, chosen_settings(preset, settings), hint)
    return start_run(
        args.source,
        args.out,
        config,
        overwrite=args.overwrite,
        strict=args.strict,
        fit_batch=args.batch == "auto",
        start_from=args.start_from,
        **shared | {"announce": announce},
    )


def _is_default_on_cpu(args: argparse.Namespace, config: "Config") -> bool:
    """Whether this trains on a CPU with the preset `default`, which nobody chose, and the progress is printed."""
    from tunit.machine import choose_device

    nobody_chose = args.preset is None and args.start_from is None
    return nobody_chose and not args.quiet and choose_device(config.run.device).type == "cpu"


def _with_warnings(
    announce: "Callable[[PackedPictures], None]", config: "Config", chosen: "Collection[str]", hint: str = ""
) -> "Callable[[PackedPictures], None]":
    """The function to call after packing, which also warns of settings among the `chosen` ones that have no effect.

    hint: a sentence to print after that. It does not warn earlier, because then every process would; only one process
    calls this function.
    """
    from tunit.methods.idle_settings import idle_settings

    def announce_and_warn(pictures: "PackedPictures") -> None:
        """Print what was packed, and the warnings."""
        announce(pictures)
        for warning in idle_settings(config, chosen, all_labelled=pictures.all_labelled):
            remark(f"warning: {warning}")
        if hint:
            remark(hint)

    return announce_and_warn


def _check_restarts(number: int, config: "Config") -> None:
    """Raises ConfigError for --max-restarts if a single process trains, which nothing starts again."""
    if number and config.run.processes == 1:
        raise ConfigError(
            f"--max-restarts {number} has no effect without several processes: give --processes, too, or, if you "
            "call torchrun, give --max-restarts to it"
        )


def _with_batch(batch: str | None, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, with a number that --batch gives as batch_size."""
    if batch in (None, "auto"):
        return settings
    if "batch_size" in settings:
        raise ConfigError(
            f"--batch {batch} and --batch-size {settings['batch_size']} set the same: give one of them"
        )
    return settings | {"batch_size": batch}


def _resume(args: argparse.Namespace, shared: dict[str, Any]) -> "TrainingState":
    """Continue a run. shared: as for `_start`."""
    from tunit.training.launch import resume_run
    from tunit.training.run_folder import RunFolder, given_run

    of_new_runs = {"out": args.out, "preset": args.preset, "overwrite": args.overwrite, "strict": args.strict}
    of_new_runs |= {"batch": args.batch, "from": args.start_from}
    if given := [f"--{name}" for name, value in of_new_runs.items() if value]:
        raise ConfigError(f"--resume {args.resume} continues a run as it is: leave out {', '.join(given)}")
    settings, run = settings_of(args), RunFolder(given_run(args.resume))
    if args.max_restarts and run.config.is_file():  # otherwise the error is that there is no run
        number = {k: v for k, v in settings.items() if k == "processes"}
        _check_restarts(args.max_restarts, run.read_config().with_overrides(number))
    return resume_run(args.resume, source=args.source, overrides=settings, **shared)


def _announcer(bar: Any, *, quiet: bool) -> "Callable[[PackedPictures], None]":
    """Returns a function to call after packing. It ends the progress bar and prints what was found."""
    from tunit.data.finding.left_out import summarise_left_out
    from tunit.data.packing.doubts import warning_if_dark

    def announce(pictures: "PackedPictures") -> None:
        """End the bar, and print what was packed."""
        bar.stop()
        if quiet:
            return
        size = pictures.images.shape[1]
        show(f"{numbered(len(pictures.names), 'picture')} at {size} x {size}")
        show(*pictures.notes)
        if pictures.left_out:
            show(summarise_left_out(pictures.left_out))
        if warning := warning_if_dark(pictures):
            remark(warning)

    return announce

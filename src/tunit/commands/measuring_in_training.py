"""Options of `tunit train` for measuring and logging during training, and the function that measures."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.measuring_arguments import DEFAULT
from tunit.commands.numbers import whole
from tunit.commands.setting_arguments import settings_of
from tunit.config.sections import MOST
from tunit.errors import ConfigError

if TYPE_CHECKING:
    from tunit.training.trainer import Evaluate


def add_measuring_in_training(parser: argparse.ArgumentParser) -> None:
    """Add the options for measuring and logging during training."""
    parser.add_argument(
        "--evaluate-every",
        type=whole(0, MOST),
        default=0,
        metavar="N",
        help="measure the model every N steps and keep the best in RUN/best [never]",
    )
    parser.add_argument(
        "--held-back",
        type=Path,
        metavar="FOLDER",
        help="other pictures to measure on, which you have kept out of the training folder (unlike --held-out, "
        "which is a number, for published sets) [the training pictures; with --layout, its validation split]",
    )
    parser.add_argument(
        "--log-to",
        choices=("trackio", "wandb"),
        default="",
        help="also log to this tracker [only to metrics.jsonl and TensorBoard]",
    )


def evaluator_of(args: argparse.Namespace, out: Path | None) -> "Evaluate | None":
    """The function that measures the model; None without --evaluate-every, or if another process measures."""
    from tunit.distributed.launcher import is_another_rank

    given = {
        f"--held-back {args.held_back}": args.held_back is not None,
        f"--features {args.features}": args.features != DEFAULT,
        "--trust-features": args.trust_features,
    }
    for option in (option for option, is_given in given.items() if is_given and not args.evaluate_every):
        raise ConfigError(f"{option} has no effect without --evaluate-every N: give both")
    if not args.evaluate_every or out is None or is_another_rank():
        return None
    from tunit.data.layouts import layout_config
    from tunit.evaluation.during_training import Evaluator, check_held
    from tunit.features.feature_networks import load_feature_network
    from tunit.machine import choose_device
    from tunit.training.run_folder import RunFolder

    if args.held_back is not None:
        preset, settings = args.preset or "default", settings_of(args)
        run = RunFolder(out) if args.resume else None
        config = run.read_config().with_overrides(settings) if run else layout_config(preset, settings)
        check_held(args.held_back, config.data.picture_column, config.data.label_column)
    network = load_feature_network(
        args.features, device=choose_device(getattr(args, "set_device", "auto")), trust=args.trust_features
    )
    return Evaluator(RunFolder(out), network, args.held_back)

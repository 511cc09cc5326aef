"""Convert a published checkpoint to a run, or a run to such a checkpoint.

  tunit convert model_199.ckpt --out runs/released     then translate with it, evaluate it or train it further
  tunit convert runs/mine --to published --out model_200.ckpt

CHECKPOINT is a model_*.ckpt file of the published implementation, or a folder of such files, whose checkpoint.txt
names the newest one. Image size, number of domains and all widths are read from it. No code in the file is run.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.numbers import whole
from tunit.config.sections import MOST
from tunit.printing import command, remark, show

if TYPE_CHECKING:
    from tunit.methods.state import TrainingState
    from tunit.released.conversion import Imported
    from tunit.training.run_folder import RunFolder

HELP = "convert a published checkpoint to a run, or back"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tunit convert`."""
    parser.add_argument(
        "source", metavar="CHECKPOINT", type=Path, help="a published checkpoint; with --to published, a run"
    )
    parser.add_argument(
        "--out",
        metavar="RUN",
        type=Path,
        required=True,
        help="folder of the new run; with --to published, the new file",
    )
    parser.add_argument(
        "--to", choices=("run", "published"), default="run", help="what to make (default: run)"
    )
    parser.add_argument(
        "--step",
        type=whole(0, MOST),
        help="for how many steps the checkpoint was trained (default: 1000 for each of its epochs)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is at --out")


def run(args: argparse.Namespace) -> int:
    """Convert; returns the exit code."""
    notes = _to_run(args) if args.to == "run" else _to_published(args)
    for note in notes:
        remark(note)
    return 0


def _to_run(args: argparse.Namespace) -> list[str]:
    from tunit.errors import RunError
    from tunit.files.destination import check_folder
    from tunit.released.checkpoint_file import find_checkpoint, read_published
    from tunit.released.conversion import STEPS_PER_EPOCH, from_published
    from tunit.training.new_run import check_free
    from tunit.training.run_folder import RunFolder

    out = RunFolder(args.out)
    if RunFolder(args.source).config.is_file():
        raise RunError(
            f"{args.source} is a run of tunit already: give --to published to write it as a published checkpoint"
        )
    source = find_checkpoint(args.source)
    if args.out.resolve() in source.resolve().parents:
        raise RunError(f"{source} lies in {args.out}, which would be replaced: give another --out")
    check_free(out, overwrite=args.overwrite, resumable=False)
    check_folder(args.out)
    imported = from_published(read_published(source), str(source))
    notes = imported.warnings
    if args.step is not None:
        step = args.step
    elif imported.epoch is not None:
        step = imported.epoch * STEPS_PER_EPOCH
    else:
        step = 0
        notes.append(
            f"{source} does not contain its epoch, so training will continue at step 0: give --step if you know it"
        )
    _write_run(out, source, imported, step, overwrite=args.overwrite)
    config = imported.config
    show(
        f"{args.out}: {config.data.image_size} px, {config.networks.domains} domains, step {step}; "
        f"use it with tunit translate, or train it further with `{command('train', 'FOLDER', '--resume', args.out)}`"
    )
    return notes


def _write_run(out: "RunFolder", source: Path, imported: "Imported", step: int, *, overwrite: bool) -> None:
    """Write the whole run in a temporary place, then move it, so that a failure leaves `out` unchanged."""
    import torch

    from tunit.training.checkpoint import fill_state, save_checkpoint, state_tensors
    from tunit.training.initial_state import new_state
    from tunit.training.new_run import check_free, locked_and_tidied, move_into_place, preparing

    state = new_state(imported.config, torch.device("cpu"))
    fill_state(state, state_tensors(state) | imported.tensors, {"step": step, "cursors": {}}, source)
    with locked_and_tidied(out):
        check_free(out, overwrite=overwrite, owned=True, resumable=False)
        with preparing(out) as made:
            _write_about(made, source, imported)
            save_checkpoint(made.checkpoints, state, imported.config.run.keep_checkpoints)
            _write_model(made, imported, state)
            move_into_place(out)


def _write_about(run: "RunFolder", source: Path, imported: "Imported") -> None:
    import json
    import platform
    from datetime import UTC, datetime

    import torch

    from tunit._version import __version__
    from tunit.config.run_file import write_run_config
    from tunit.files.atomic import write_text

    write_run_config(run.config, imported.config)
    about = {
        "tunit": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "seed": imported.config.run.seed,
        "converted": {
            "from": str(source.resolve()),
            "epoch": imported.epoch,
            "notes": imported.warnings,
        },
        "queue": "refill",  # a published checkpoint has no keys: before training goes on, the queue is filled
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
    }
    write_text(run.about, json.dumps(about, indent=2) + "\n")


def _write_model(run: "RunFolder", imported: "Imported", state: "TrainingState") -> None:
    """The model for inference, with the EMAs. The average styles of domains are unknown until it sees pictures."""
    import torch

    from tunit.methods.model_file import Model, save_model

    config = imported.config
    networks = config.networks
    save_model(
        run.path,
        Model(
            state.networks.guide_average,
            state.networks.generator_average,
            config,
            domain_styles=torch.zeros(networks.domains, networks.style_width),
            domain_sizes=torch.zeros(networks.domains, dtype=torch.int64),
            step=state.step,
        ),
    )


def _to_published(args: argparse.Namespace) -> list[str]:
    import torch

    from tunit.errors import RunError
    from tunit.files.atomic import writable
    from tunit.files.destination import check_earlier, check_file
    from tunit.methods.registry import method_of
    from tunit.released.checkpoint_file import is_published, write_published
    from tunit.released.conversion import STEPS_PER_EPOCH, to_published
    from tunit.training.checkpoint import load_newest, state_tensors
    from tunit.training.initial_state import new_state
    from tunit.training.run_folder import RunFolder

    if args.step is not None:
        raise RunError("with --to published the step is read from the run: leave out --step")
    if args.out.is_dir():
        raise RunError(f"{args.out} is a folder: give the name of the file to write, such as model_200.ckpt")
    if args.out.exists() and not args.overwrite:
        raise RunError(f"{args.out} exists already: give another --out, or --overwrite it")
    run = RunFolder(args.source)
    config = run.read_config()
    if not method_of(config).has_published_format:
        raise RunError(
            f"{run.path} is of method '{config.method.method}', which the published implementation does not have: "
            "keep it as a run"
        )
    check_file(args.out)
    check_earlier(args.out, is_published, "a published checkpoint")
    state = new_state(config, torch.device("cpu"), run.read_about().get("pictures") or 0)
    path, notes = load_newest(run.checkpoints, state)
    config = config.with_overrides({"domains": state.networks.guide.domains})  # it may be "auto"
    checkpoint, left_out = to_published(state_tensors(state), config, state.step)
    with writable(args.out):
        args.out.parent.mkdir(parents=True, exist_ok=True)
    write_published(args.out, checkpoint)
    show(f"{args.out}: {path.name} as a published checkpoint, epoch {state.step // STEPS_PER_EPOCH}")
    return notes + left_out

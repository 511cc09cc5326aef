"""From a folder of pictures to a trained run: prepare the data, begin or resume the run, train."""

import json
from collections.abc import Callable
from pathlib import Path

from tunit.config import Config
from tunit.config_of_run import write_run_config
from tunit.data.choose import choose_image_size
from tunit.data.pack import PackedPictures, open_packed, pack_pictures, still_packed
from tunit.data.settings import pack_settings
from tunit.destination import check_apart
from tunit.errors import ConfigError, DataError, RunError
from tunit.files import writable, write_text
from tunit.machine import choose_device
from tunit.methods.checks import check_config
from tunit.methods.state import TrainingState
from tunit.paths import home
from tunit.training.checkpoint import checkpoints
from tunit.training.fine_tuning import check_shape, write_beginning
from tunit.training.footprint import check_footprint
from tunit.training.interrupt import StopSignals
from tunit.training.memory import SMALLEST_BATCH, check_memory, fitting_batch
from tunit.training.new_run import check_free, owning, preparing, remove, take_place
from tunit.training.processes import check_processes, company
from tunit.training.resources import prepare_machine, resolve_machine
from tunit.training.run_folder import (
    NEW,
    RunFolder,
    begin_run,
    check_same_pictures,
    write_picture_index,
)
from tunit.training.trainer import Evaluate, Ready, make_ready, train

Progress = Callable[[int, int], None]
Announce = Callable[[PackedPictures], None]


def start_run(
    source: Path,
    out: Path,
    config: Config,
    *,
    overwrite: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    announce: Announce | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
    fit_batch: bool = False,
    start_from: Path | None = None,
    quiet: bool = False,
) -> TrainingState:
    """Train a new run in `out` on the pictures of `source` (anything that `find_pictures` reads).

    progress: called with (done, all) while pictures are packed; announce: called with the packed pictures.
    fit_batch: halve the batch size until a step fits the memory; what was found is the run's own from then on.
    start_from: a run whose E, G and D the new one begins with; see `training.fine_tuning`.
    Raises RunError where `out` holds something already and `overwrite` does not say so, or another process trains
    there; what `out` held is replaced only when pictures, labels, batch, memory and settings were found good.
    """
    source, out = home(source), home(out)
    run = RunFolder(out)
    config = resolve_machine(config)
    if out.resolve() == source.resolve() or out.resolve() in source.resolve().parents:
        raise RunError(f"--out {out} holds the pictures themselves: give a folder of its own")
    if start_from is not None:
        if config.method.guide_from:
            raise ConfigError("--from and --guide-from are both given: take one of them")
        if config.data.image_size:
            check_shape(config, home(start_from))  # before pictures are packed
    check_apart(out)
    check_free(run, overwrite=overwrite)
    with owning(run):
        check_free(run, overwrite=overwrite, owned=True)  # another process may have been there meanwhile
        with preparing(run) as new, StopSignals(at_once=True):
            config = _resolved(config, source, fit_batch)
            pictures = _pack(source, new.data, config, strict, progress)
            if announce:
                announce(pictures)
            taken = None
            if start_from is not None:
                taken = write_beginning(config, home(start_from), new.checkpoints, len(pictures.names))
            ready = _make_ready(config, pictures, new.checkpoints if taken else None)
            device = choose_device(config.run.device)
            if run.exists():
                check_memory(config, device)
            begin_run(new, config, source, pictures, device, taken)
            take_place(run)
        with company(config, run, resume=taken is not None):
            return train(
                config,
                run,
                pictures,
                resume=taken is not None,
                ready=ready,
                evaluate=evaluate,
                evaluate_every=evaluate_every,
                quiet=quiet,
            )


def _resolved(config: Config, source: Path, fit_batch: bool) -> Config:
    """The config with all that it leaves open chosen: size, schedule, and with `fit_batch` the batch size."""
    if config.data.image_size == 0:
        config = config.with_overrides({"image_size": choose_image_size(source, config.data.picture_column)})
    config = config.resolved_schedule()
    check_config(config)
    check_processes(config)
    least = config.with_overrides({"batch_size": SMALLEST_BATCH}) if fit_batch else config
    check_footprint(least, choose_device(config.run.device))
    if fit_batch:
        batch = fitting_batch(config, prepare_machine(config))
        config = config.with_overrides({"batch_size": batch})
        check_processes(config)
    return config


def _pack(
    source: Path, cache: Path, config: Config, strict: bool, progress: Progress | None
) -> PackedPictures:
    workers = config.run.workers or None
    return pack_pictures(
        source, cache, pack_settings(config), workers=workers, strict=strict, progress=progress
    )


def _make_ready(config: Config, pictures: PackedPictures, checkpoints: Path | None) -> Ready | None:
    """What `train` is to begin with; None where each of several processes builds its own, after the same checks."""
    ready = make_ready(config, pictures, checkpoints)
    return ready if config.run.processes == 1 else None


# What may change when a run resumes: nothing that the result of a step depends on, but its length.
RESUMABLE = (
    "steps",
    "device",
    "precision",
    "micro_batch",
    "compile",
    "threads",
    "processes",
    "checkpoint_activations",
    "workers",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep_checkpoints",
)


def resume_run(
    out: Path,
    *,
    source: Path | None = None,
    overrides: dict[str, str] | None = None,
    progress: Progress | None = None,
    announce: Announce | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
    quiet: bool = False,
) -> TrainingState:
    """Go on with the run in `out` from its newest whole checkpoint, or from its start where there is none yet.

    source: the pictures, for a run that has none of its own (a converted one), or that have moved. overrides:
    settings to change, of those that may change (RESUMABLE).
    """
    run = RunFolder(home(out))
    source = home(source) if source else None
    if not (run.path / NEW).is_dir():
        run.read_config()  # what is not a run gets no lock
    with owning(run):
        if not run.exists():
            raise RunError(f"{run.path} was stopped before it began: give the command that began it again")
        config, about = _changed(run.read_config(), overrides or {}), run.read_about()
        started = bool(checkpoints(run.checkpoints))
        with preparing(run) as new, StopSignals(at_once=True):
            pictures, packed = _pictures_of(run, new.data, config, source, about.get("source"), progress)
            if announce:
                announce(pictures)
            if run.pictures.is_file():
                check_same_pictures(run, pictures)
            ready = _make_ready(config, pictures, run.checkpoints if started else None)
            if packed:
                if source is not None:
                    write_text(
                        run.about, json.dumps(about | {"source": str(source.resolve())}, indent=2) + "\n"
                    )
                with writable(run.data):
                    remove(run.data)
                    new.data.rename(run.data)
            if not run.pictures.is_file():
                write_picture_index(run.pictures, pictures)
            write_run_config(run.config, config)
        with company(config, run, resume=started):
            return train(
                config,
                run,
                pictures,
                resume=started,
                ready=ready,
                evaluate=evaluate,
                evaluate_every=evaluate_every,
                quiet=quiet,
            )


def _changed(config: Config, overrides: dict[str, str]) -> Config:
    """The config of a run that resumes, with what may change changed. Raises ConfigError."""
    wrong = [name for name in overrides if name not in RESUMABLE]
    if wrong:
        raise ConfigError(
            f"{wrong[0]} cannot change when a run resumes: leave it out, or train a new run "
            f"(what may change: {', '.join(sorted(RESUMABLE))})"
        )
    config = resolve_machine(config.with_overrides(overrides))
    check_config(config)
    check_processes(config)
    check_footprint(config, choose_device(config.run.device))
    return config


def _pictures_of(
    run: RunFolder,
    new: Path,
    config: Config,
    source: Path | None,
    recorded: str | None,
    progress: Progress | None,
) -> tuple[PackedPictures, bool]:
    """The run's own pack; where it is gone, damaged or of another source than is given, one made in `new`.

    Returns whether it was made, too.
    """
    if source is None:
        try:
            return open_packed(run.data), False
        except DataError:
            if not recorded:
                raise RunError(
                    f"{run.path} has no pictures of its own: give the folder of pictures too"
                ) from None
    source = source or Path(str(recorded))
    packed = still_packed(source, run.data, pack_settings(config))
    if packed is not None:
        return packed, False
    return _pack(source, new, config, False, progress), True

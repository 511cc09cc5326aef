"""From a folder of pictures to a trained run: prepare the data, begin or resume the run, train."""

import json
from collections.abc import Callable
from pathlib import Path

from tunit.config import AUTO, Config
from tunit.config.run_file import write_run_config
from tunit.data.image_size import choose_image_size
from tunit.data.pack import pack_pictures, still_packed
from tunit.data.pack_settings import pack_settings
from tunit.data.packed import PackedPictures, open_packed
from tunit.destination import check_apart
from tunit.errors import ConfigError, DataError, RunError
from tunit.files import writable, write_text
from tunit.machine import choose_device
from tunit.methods.checks import check_config
from tunit.methods.model_file import load_model
from tunit.methods.state import TrainingState
from tunit.paths import home
from tunit.training.checkpoint import checkpoints
from tunit.training.fine_tuning import check_shape, write_beginning
from tunit.training.footprint import check_footprint
from tunit.training.interrupt import StopSignals
from tunit.training.memory import SMALLEST_BATCH, check_memory, fitting_batch
from tunit.training.new_run import check_free, owning, preparing, remove, take_place
from tunit.training.processes import check_processes, worker_processes
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
    source: str | Path,
    out: str | Path,
    config: Config,
    *,
    overwrite: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    announce: Announce | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
    fit_batch: bool = False,
    start_from: str | Path | None = None,
    quiet: bool = False,
) -> TrainingState:
    """Train a new run in `out` on the pictures of `source` (anything that `find_pictures` reads).

    progress: called with (done, all) while pictures are packed; announce: called with the packed pictures.
    fit_batch: halve the batch size until a step fits the memory; the run keeps the size found.
    start_from: a run whose E, G and D are the initial weights; see `training.fine_tuning`.
    Raises RunError where `out` is not empty and `overwrite` is False, or another process trains there. What `out`
    holds is replaced only after pictures, labels, batch size, memory and settings have been checked.
    """
    source, out = home(source), home(out)
    run = RunFolder(out)
    config = resolve_machine(config)
    if out.resolve() == source.resolve() or out.resolve() in source.resolve().parents:
        raise RunError(f"--out {out} is or contains the folder of pictures: give another folder")
    if start_from is not None:
        if config.method.guide_from:
            raise ConfigError("--from and --guide-from are both given: give one of them")
        if config.data.image_size:
            check_shape(config, home(start_from))  # before pictures are packed
    check_apart(out)
    check_free(run, overwrite=overwrite)
    with owning(run):
        # Again, under the lock: another process may have written there since.
        check_free(run, overwrite=overwrite, owned=True)
        with preparing(run) as new, StopSignals(at_once=True):
            config = _resolved(config, source, fit_batch)
            pictures = _pack(source, new.data, config, strict, progress)
            config = _with_domains_of(config, pictures)
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
        with worker_processes(config, run, resume=taken is not None):
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
    """The config with image size, schedule and, with `fit_batch`, batch size chosen."""
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


def _with_domains_of(config: Config, pictures: PackedPictures) -> Config:
    """Where domains are auto, but labels or another run's E tell their number: with that number."""
    if config.networks.domains != AUTO:
        return config
    number = int(pictures.labels.max(initial=-1)) + 1
    if not number and config.method.guide_from:
        number = load_model(home(config.method.guide_from)).settings.domains
    return config.with_overrides({"domains": number}) if number else config


def _pack(
    source: Path, cache: Path, config: Config, strict: bool, progress: Progress | None
) -> PackedPictures:
    workers = config.run.workers or None
    return pack_pictures(
        source, cache, pack_settings(config), workers=workers, strict=strict, progress=progress
    )


def _make_ready(config: Config, pictures: PackedPictures, checkpoints: Path | None) -> Ready | None:
    """Check the settings and build the initial state; None where several processes build their own."""
    ready = make_ready(config, pictures, checkpoints)
    return ready if config.run.processes == 1 else None


# The settings that may change when a run resumes: its length, and those that no step's result depends on.
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
    """Resume the run in `out` from its newest undamaged checkpoint, or from the start where it has none yet.

    source: the pictures, if they have moved or the run was made by `tunit convert`. overrides: settings to change,
    from RESUMABLE. progress, announce: as for `start_run`.
    """
    run = RunFolder(home(out))
    source = home(source) if source else None
    if not (run.path / NEW).is_dir():
        run.read_config()  # raises RunError before a lock file is made in a folder that is not a run
    with owning(run):
        if not run.exists():
            raise RunError(
                f"{run.path} was stopped before its first step: run the command that started it again"
            )
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
        with worker_processes(config, run, resume=started):
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
    """The config of a run that resumes, with the overrides applied. Raises ConfigError for one not in RESUMABLE."""
    wrong = [name for name in overrides if name not in RESUMABLE]
    if wrong:
        raise ConfigError(
            f"--{wrong[0].replace('_', '-')} cannot change when a run resumes: leave it out, or train a new run "
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
    """(pictures, whether they were packed now).

    Packs into `new` if the run's pack is missing, damaged or of another source.
    """
    if source is None:
        try:
            return open_packed(run.data), False
        except DataError:
            if not recorded:
                raise RunError(
                    f"{run.path} holds no pictures: give their folder too, as in `tunit train FOLDER --resume "
                    f"{run.path}`"
                ) from None
    source = source or Path(str(recorded))
    packed = still_packed(source, run.data, pack_settings(config))
    if packed is not None:
        return packed, False
    return _pack(source, new, config, False, progress), True

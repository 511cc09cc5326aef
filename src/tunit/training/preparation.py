"""What comes before the first step of a run: the packed pictures, the whole config, and all checks."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunit.config import Config
from tunit.config.run_file import write_run_config
from tunit.data.finding.index import Index
from tunit.data.finding.naming import INDEX
from tunit.data.finding.sharded_sets import check_label_column, is_sharded, open_shards, prepared_otherwise
from tunit.data.packing.pack import pack_pictures, still_packed
from tunit.data.packing.pack_settings import pack_settings
from tunit.data.packing.packed import PackedPictures, open_packed
from tunit.data.packing.shards import copy_index
from tunit.errors import ConfigError, DataError, RunError
from tunit.files.atomic import writable, write_text
from tunit.files.paths import absolute, path_or_url
from tunit.machine import choose_device
from tunit.methods.checks import check_config, check_labels, check_number_of_pictures
from tunit.methods.feature_cue import checked_feature_cue
from tunit.printing import command, show_unless, shown
from tunit.training.fine_tuning import write_beginning
from tunit.training.from_pictures import choices, choosing, left_to_pictures, suited_to_pictures
from tunit.training.initial_state import with_found_domains
from tunit.training.interrupt import StopSignals
from tunit.training.left_open import resolved, with_batches_of, with_domains_of
from tunit.training.memory.fitting import check_memory
from tunit.training.memory.footprint import check_footprint
from tunit.training.new_run import move_into_place, preparing, remove
from tunit.training.processes import check_processes, with_ranks
from tunit.training.resources import resolve_machine
from tunit.training.run_folder import (
    CHOSEN,
    RunFolder,
    begin_run,
    check_same_pictures,
    with_resume,
    write_picture_index,
)
from tunit.training.trainer import Ready, make_ready

Progress = Callable[[int, int], None]
Announce = Callable[[PackedPictures], None]


@dataclass(frozen=True)
class NewRun:
    """A run to prepare, and how: the arguments of `training.launch.start_run`, checked; see there."""

    run: RunFolder
    source: Path | str
    config: Config
    start_from: Path | None
    fit_batch: bool
    strict: bool
    progress: Progress | None
    announce: Announce | None
    quiet: bool


def prepare_new(wanted: NewRun) -> tuple[Config, PackedPictures, Ready | None]:
    """Prepare the new run in RUN/.new, check it, and put it in its place.

    Returns the config with all values chosen, the packed pictures, and the initial state (None if several processes
    build their own).
    """
    run, source, start_from = wanted.run, wanted.source, wanted.start_from
    say = show_unless(wanted.quiet)
    with preparing(run) as new, StopSignals(at_once=True):
        say(f"reading the pictures of {source}")
        config = resolved(wanted.config, source, wanted.fit_batch, say)
        pictures = pack(source, new.data, config, wanted.strict, wanted.progress)
        if wanted.announce:
            wanted.announce(pictures)
        config = with_domains_of(config, pictures)
        if wanted.fit_batch:  # again, because duplicates and pictures that cannot be read are known only now
            config = with_batches_of(config, len(pictures.names))
        # `make_ready` checks this, too, but only after settings were chosen from the pictures, which takes seconds.
        check_number_of_pictures(config, len(pictures.names))
        check_labels(config, pictures.labels, pictures.names)
        left = left_to_pictures(config)
        if left:
            say(choosing(left))
        config = suited_to_pictures(config, pictures)
        if left:
            say(choices(left, config))
        say("building the networks")
        device = choose_device(config.run.device)
        check_footprint(config, device, len(pictures.names))
        notes: dict[str, object] = {CHOSEN: left}
        if start_from is not None:
            notes["start_from"] = write_beginning(config, start_from, new.checkpoints, pictures)
        ready = make_ready_if_one_process(config, pictures, new.checkpoints if start_from else None)
        if run.exists():
            check_memory(config, device)
        begin_run(new, config, source, pictures, device, notes)
        move_into_place(run)
    return config, pictures, ready


def pack(
    source: Path | str, folder: Path, config: Config, strict: bool, progress: Progress | None
) -> PackedPictures:
    """Pack the pictures of a source into `folder` as the config asks; those of shards stay where they are.

    Returns the packed pictures.
    """
    if is_sharded(source):
        index = open_shards(source)
        _check_shards(source, index, config)
        return copy_index(index, folder, labels=config.data.labels != "none")
    workers = config.run.workers or None
    return pack_pictures(
        Path(source), folder, pack_settings(config), workers=workers, strict=strict, progress=progress
    )


def _check_shards(source: Path | str, index: Index, config: Config) -> None:
    """Raises ConfigError or DataError if size, fit, background or labels differ from those of the shards."""
    wanted = pack_settings(config).as_json()
    of_labels = [] if config.data.labels == "none" else ["labels"]
    for name in ("size", "fit", "background", *of_labels):
        has = index.settings.get(name)
        if has != wanted[name]:
            flag = "image-size" if name == "size" else name
            value = " ".join(map(str, has)) if isinstance(has, list) else has
            raise ConfigError(prepared_otherwise(source, flag, value, shown(wanted[name])))
    if config.data.labels == "csv":
        check_label_column(source, index, config.data.label_column)


def make_ready_if_one_process(
    config: Config, pictures: PackedPictures, checkpoints: Path | None
) -> Ready | None:
    """Check the settings by building the initial state. Returns it; None if several processes build their own."""
    ready = make_ready(config, pictures, checkpoints)
    return ready if config.run.processes == 1 else None


# The settings that may change when a run resumes: its length, what is written and when, and those of the machine
# (device, precision, threads, processes and so on), which affect the result of a step only by rounding.
RESUMABLE = (
    "steps",
    "device",
    "precision",
    "micro_batch",
    "compile",
    "cuda_graphs",
    "threads",
    "processes",
    "checkpoint_activations",
    "workers",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep_checkpoints",
    "on_nan",
)


def prepare_resume(
    run: RunFolder,
    config: Config,
    about: dict[str, Any],
    source: Path | str | None,
    started: bool,
    progress: Progress | None,
    announce: Announce | None,
    quiet: bool = True,
) -> tuple[PackedPictures, Ready | None]:
    """Check that a run can resume with these settings and pictures, then write what has changed into the run.

    quiet: say nothing of what takes long.
    Returns the packed pictures, and what to go on with (None if several processes will read it themselves).
    """
    say = show_unless(quiet)
    say(f"reading the pictures and the last checkpoint of {run.path}")
    with preparing(run) as new, StopSignals(at_once=True):
        pictures, packed = pictures_of(run, new.data, config, source, about.get("source"), progress)
        if announce:
            announce(pictures)
        if run.pictures.is_file():
            check_same_pictures(run, pictures)
        check_footprint(config, choose_device(config.run.device), len(pictures.names))
        ready = make_ready(config, pictures, run.checkpoints if started else None)
        _check_steps(run, config, ready.state.step)
        if ready.state.step < config.schedule.guide_only_until:
            checked_feature_cue(with_found_domains(config, ready.state), about, say)
        described = with_resume(about, choose_device(config.run.device))
        if packed and source is not None:
            described = described | {"source": absolute(source)}
        if described != about:
            write_text(run.about, json.dumps(described, indent=2) + "\n")
        if packed:
            with writable(run.data):
                remove(run.data)
                new.data.rename(run.data)
        if not run.pictures.is_file():
            write_picture_index(run.pictures, pictures)
        write_run_config(run.config, config)
    return pictures, ready if config.run.processes == 1 else None


def _check_steps(run: RunFolder, config: Config, taken: int) -> None:
    """Raises ConfigError if the config has fewer steps than the run has taken, by its newest undamaged checkpoint."""
    if config.schedule.steps < taken:
        raise ConfigError(
            f"--steps is {config.schedule.steps}, but {run.path} has taken {taken:,} steps: give at least that"
        )


def resumed_config(config: Config, overrides: dict[str, str]) -> Config:
    """The config of a resumed run with the overrides.

    Raises ConfigError if one of them is not in RESUMABLE and has another value than the run.
    """
    wrong = [
        name for name in overrides if name not in RESUMABLE and not _is_own(config, name, overrides[name])
    ]
    if wrong:
        raise ConfigError(
            f"--{wrong[0].replace('_', '-')} cannot change when a run resumes: leave it out, or train a new run "
            f"(what may change: {', '.join(sorted(RESUMABLE))})"
        )
    config = with_ranks(resolve_machine(config.with_overrides(overrides)))
    check_config(config, resumes=True)
    check_processes(config, resumes=True)
    check_footprint(config, choose_device(config.run.device))
    return config


def _is_own(config: Config, name: str, value: str) -> bool:
    """Whether a setting of a run has this value."""
    try:
        return config.with_overrides({name: value}) == config
    except ConfigError:  # not a value, so not that of the run
        return False


def pictures_of(
    run: RunFolder,
    new: Path,
    config: Config,
    source: Path | str | None,
    recorded: str | None,
    progress: Progress | None,
) -> tuple[PackedPictures, bool]:
    """The packed pictures, and whether this call has packed them.

    They are packed into `new` if the run's own pack is missing, damaged or of another source.
    """
    if source is None:
        try:
            return pictures_of_run(run), False
        except RunError:
            if not recorded:
                raise
    source = source or path_or_url(str(recorded))
    if not is_sharded(source):
        packed = still_packed(Path(source), run.data, pack_settings(config))
        if packed is not None:
            return packed, False
    return pack(source, new, config, False, progress), True


def pictures_of_run(run: RunFolder) -> PackedPictures:
    """The pictures that a run was trained on. Raises RunError if it holds none, as after `tunit convert`."""
    try:
        return open_packed(run.data)
    except DataError as error:
        why = f" ({error})" if (run.data / INDEX).exists() else ""  # there is none after `tunit convert`
        raise RunError(
            f"{run.path} holds no pictures that can be read{why}: give their folder, too, as in "
            f"`{command('train', 'FOLDER', '--resume', run.path)}`"
        ) from error

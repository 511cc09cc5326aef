"""What comes before the first step of a run: the whole config, the packed pictures, and all checks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunit.config import AUTO, Config
from tunit.config.run_file import write_run_config
from tunit.data.finding.index import Index
from tunit.data.finding.naming import INDEX
from tunit.data.finding.sharded_sets import check_label_column, is_sharded, open_shards, prepared_otherwise
from tunit.data.packing.image_size import choose_image_size
from tunit.data.packing.pack import pack_pictures, still_packed
from tunit.data.packing.pack_settings import pack_settings
from tunit.data.packing.packed import PackedPictures, open_packed
from tunit.data.packing.search import Search
from tunit.data.packing.shards import copy_index
from tunit.errors import ConfigError, DataError, RunError
from tunit.files.atomic import writable, write_text
from tunit.files.paths import absolute, expand_home, path_or_url
from tunit.machine import choose_device
from tunit.methods.checks import check_config
from tunit.methods.feature_cue import checked_feature_cue
from tunit.methods.model_file import load_model
from tunit.printing import command, shown
from tunit.training.initial_state import with_found_domains
from tunit.training.interrupt import StopSignals
from tunit.training.memory.fitting import SMALLEST_BATCH, fitting_batches
from tunit.training.memory.footprint import check_footprint
from tunit.training.new_run import preparing, remove
from tunit.training.processes import check_processes, with_ranks
from tunit.training.resources import prepare_machine, resolve_machine
from tunit.training.run_folder import RunFolder, check_same_pictures, with_resume, write_picture_index
from tunit.training.trainer import Ready, make_ready

Progress = Callable[[int, int], None]
Announce = Callable[[PackedPictures], None]


def resolved(config: Config, source: Path | str, fit_batch: bool) -> Config:
    """The config with concrete values for what a user may leave open: the image size, phases that are given as shares
    of all steps (`resolved_schedule`) and, with `fit_batch`, the batch sizes.
    """
    if config.data.image_size == 0:
        if is_sharded(source):
            size = open_shards(source).size
        else:
            size = choose_image_size(Path(source), config.data.picture_column)
        config = config.with_overrides({"image_size": size})
    config = config.resolved_schedule()
    check_config(config)
    check_processes(config)
    config = least = checked_feature_cue(config)
    if fit_batch:
        alone = min(config.optimisers.guide_only_batch_size, SMALLEST_BATCH)  # 0: as batch_size
        least = config.with_overrides({"batch_size": SMALLEST_BATCH, "guide_only_batch_size": alone})
    check_footprint(least, choose_device(config.run.device))
    if fit_batch:
        number = number_of_pictures(source, config)
        config = with_batches_of(config, number)
        sizes = fitting_batches(config, prepare_machine(config), number * 3 * config.data.image_size**2)
        config = config.with_overrides(sizes)
        check_processes(config)
    return config


def number_of_pictures(source: Path | str, config: Config) -> int:
    """How many pictures a source has before it is packed, or a few more: duplicates are counted, too."""
    if is_sharded(source):
        return len(open_shards(source).names)
    return len(Search(expand_home(source), pack_settings(config)).found.pictures)


def with_batches_of(config: Config, number: int) -> Config:
    """The config with batches of at most `number` pictures that all processes can share evenly. If that would be too
    few for a batch, the config as it is, so that the training is refused with its reason.
    """
    most = number - number % config.run.processes
    if most < SMALLEST_BATCH:
        return config
    sizes = {name: getattr(config.optimisers, name) for name in ("batch_size", "guide_only_batch_size")}
    return config.with_overrides({name: min(size, most) for name, size in sizes.items()})


def with_domains_of(config: Config, pictures: PackedPictures) -> Config:
    """The config with the number of domains, if `domains` is auto but labels or another run's E determine it."""
    if config.networks.domains != AUTO:
        return config
    number = int(pictures.labels.max(initial=-1)) + 1
    if not number and config.method.guide_from:
        number = load_model(expand_home(config.method.guide_from)).settings.domains
    return config.with_overrides({"domains": number}) if number else config


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
) -> tuple[PackedPictures, Ready | None]:
    """Check that a run can resume with these settings and pictures, then write what has changed into the run.

    Returns the packed pictures, and what to go on with (None if several processes will read it themselves).
    """
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
            checked_feature_cue(with_found_domains(config, ready.state), about)
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

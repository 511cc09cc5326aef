"""From a folder of pictures to a trained run: prepare the data, begin or resume the run, train."""

from collections.abc import Callable
from pathlib import Path

from tunit.config import Config
from tunit.data.choose import choose_image_size
from tunit.data.pack import PackedPictures, open_packed, pack_pictures
from tunit.data.settings import pack_settings
from tunit.data.sources import find_pictures
from tunit.errors import ConfigError, DataError, RunError
from tunit.files import write_text
from tunit.machine import choose_device
from tunit.paths import home
from tunit.training.checkpoint import checkpoints
from tunit.training.memory import fitting_batch
from tunit.training.processes import check_processes, company
from tunit.training.resources import prepare_machine, resolve_machine
from tunit.training.run_folder import (
    RunFolder,
    begin_run,
    check_same_pictures,
    clear_for_new_run,
    write_picture_index,
)
from tunit.training.state import TrainingState
from tunit.training.trainer import Evaluate, train

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
    quiet: bool = False,
) -> TrainingState:
    """Train a new run in `out` on the pictures of `source` (anything that `find_pictures` reads).

    progress: called with (done, all) while pictures are packed; announce: called with the packed pictures.
    fit_batch: halve the batch size until a step fits the memory; what was found is the run's own from then on.
    Raises RunError where `out` holds something already and `overwrite` does not say so.
    """
    source, out = home(source), home(out)
    run = RunFolder(out)
    config = resolve_machine(config)
    if config.data.image_size == 0:
        config = config.with_overrides({"image_size": choose_image_size(source, config.data.picture_column)})
    config = config.resolved_schedule()
    check_processes(config)
    if fit_batch:
        batch = fitting_batch(config, prepare_machine(config))
        config = config.with_overrides({"batch_size": batch})
        check_processes(config)
    if out.resolve() == source.resolve() or out.resolve() in source.resolve().parents:
        raise RunError(f"--out {out} holds the pictures themselves: give a folder of its own")
    if run.exists() and overwrite:
        find_pictures(
            source, picture_column=config.data.picture_column
        )  # a mistyped source must not cost the run that is there
    clear_for_new_run(run, overwrite=overwrite)
    pictures = pack_pictures(
        source,
        run.data,
        pack_settings(config),
        workers=config.run.workers or None,
        strict=strict,
        progress=progress,
    )
    if announce:
        announce(pictures)
    begin_run(run, config, source, pictures, choose_device(config.run.device))
    with company(config, run):
        return train(config, run, pictures, evaluate=evaluate, evaluate_every=evaluate_every, quiet=quiet)


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
    config, about = run.read_config(), run.read_about()
    wrong = [name for name in overrides or {} if name not in RESUMABLE]
    if wrong:
        raise ConfigError(
            f"{wrong[0]} cannot change when a run resumes: leave it out, or train a new run "
            f"(what may change: {', '.join(sorted(RESUMABLE))})"
        )
    config = resolve_machine(config.with_overrides(overrides or {}))
    check_processes(config)
    pictures = _pictures_of(run, config, source, about.get("source"), progress)
    if announce:
        announce(pictures)
    if run.pictures.is_file():
        check_same_pictures(run, pictures)
    else:
        write_picture_index(run.pictures, pictures)
    write_text(run.config, config.to_toml())
    started = bool(checkpoints(run.checkpoints))
    with company(config, run, resume=started):
        return train(
            config,
            run,
            pictures,
            resume=started,
            evaluate=evaluate,
            evaluate_every=evaluate_every,
            quiet=quiet,
        )


def _pictures_of(
    run: RunFolder, config: Config, source: Path | None, recorded: str | None, progress: Progress | None
) -> PackedPictures:
    """The run's own pack; where it is gone, damaged or another source is given, packed again."""
    if source is None:
        try:
            return open_packed(run.data)
        except DataError:
            if not recorded:
                raise RunError(
                    f"{run.path} has no pictures of its own: give the folder of pictures too"
                ) from None
    return pack_pictures(
        home(source) if source else Path(str(recorded)),
        run.data,
        pack_settings(config),
        workers=config.run.workers or None,
        progress=progress,
    )

"""From a folder of pictures to a trained run: prepare the data, begin or resume the run, train."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from tunit.config import Config
from tunit.data.packing.packed import open_packed
from tunit.distributed.collectives import broadcast_from_rank_zero, is_rank_zero, largest_of_ranks
from tunit.distributed.launcher import restarts
from tunit.distributed.process_group import process_group, rank_zero_alone
from tunit.errors import ConfigError, EndedInOtherProcesses, RunError, TunitError
from tunit.files.destination import STUDIO, check_apart
from tunit.files.paths import expand_home, path_or_url
from tunit.given import whole_number
from tunit.methods.state import TrainingState
from tunit.printing import shown
from tunit.training.all_ranks import (
    TrainingPlan,
    begun_by_this_job,
    check_not_moved,
    check_same_source,
    follow_rank_zero,
    say_it_goes_on,
)
from tunit.training.checkpoint import checkpoints
from tunit.training.fine_tuning import check_shape
from tunit.training.logs.tracking import check_tracker
from tunit.training.new_run import check_begun, check_free, locked_and_tidied
from tunit.training.preparation import (
    Announce,
    NewRun,
    Progress,
    prepare_new,
    prepare_resume,
    resumed_config,
)
from tunit.training.processes import check_processes, launch, launch_config, must_launch, with_ranks
from tunit.training.resources import resolve_machine
from tunit.training.run_folder import NEW, RunFolder, check_same_folder, given_run
from tunit.training.trainer import Evaluate, make_ready


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
    log_to: str = "",
    words: Sequence[str] | None = None,
    max_restarts: int = 0,
) -> TrainingState:
    """Train a new run in `out` on the pictures of `source` (anything that `find_pictures` reads, or
    shards: a folder, or a URL such as s3://bucket/set).

    progress: called with (done, all) while pictures are packed; announce: called with the packed pictures.
    fit_batch: lower the batch sizes to the number of pictures, and halve them until a step fits the memory; the run
    keeps the sizes found.
    start_from: a run whose E, G and D are the initial weights; see `training.fine_tuning`.
    log_to: a tracker that gets the metrics, too: "trackio" or "wandb".
    words: the command line that does the same as this call. If several processes must be launched and `words` is
    given, they run this command, and EndedInOtherProcesses is raised when they have ended, on success with exit code
    0; without `words` the state is returned. max_restarts: how often they may be started again.

    If torchrun has started several processes, each of them calls this; rank 0 prepares the run, and all train it. If
    `out` holds the run that this job of torchrun began, they go on with it, also with `overwrite`.
    What `out` holds is replaced only after pictures, labels, batch, memory and settings have been checked.
    Raises RunError if `out` is not empty and `overwrite` is False, or if another process trains there.
    """
    if not isinstance(config, Config):
        raise ConfigError(
            f"config is {shown(config)}, which is not a Config: give one, such as read_config('default')"
        )
    _check_given(evaluate, evaluate_every, log_to)
    source, out = path_or_url(source), expand_home(out)
    start_from = None if start_from is None else given_run(start_from)
    run = RunFolder(out)
    config = with_ranks(resolve_machine(config))
    _check_folders(source, out, start_from, config)
    if must_launch(config):
        check_processes(config)
        flags = {"--overwrite": overwrite, "--strict": strict, "--batch=auto": fit_batch}
        own_words = _words_of(source, out, flags, start_from, log_to)
        return _in_new_processes(words, own_words, config, run, evaluate, max_restarts)
    new = NewRun(run, source, config, start_from, fit_batch, strict, progress, announce, quiet)
    return _begin_or_go_on(new, TrainingPlan(evaluate, evaluate_every, quiet, log_to), overwrite)


def _begin_or_go_on(new: NewRun, plan: TrainingPlan, overwrite: bool) -> TrainingState:
    """What each process does: rank 0 prepares the new run, and all train it; or all go on with it, if this job of
    torchrun has begun it before. Returns the final state.
    """
    run = new.run
    with process_group(torch.device(new.config.run.device)), ExitStack() as lock:
        restarted = largest_of_ranks(restarts())
        if broadcast_from_rank_zero(int(is_rank_zero() and begun_by_this_job(run, restarted))):
            if not restarted:
                check_same_source(run, new.source)
            say_it_goes_on(run, restarted)
            return resume_run(
                run.path,
                evaluate=plan.evaluate,
                evaluate_every=plan.evaluate_every,
                quiet=plan.quiet,
                log_to=plan.log_to,
            )
        if not is_rank_zero():
            return follow_rank_zero(run, plan)
        with rank_zero_alone():
            check_not_moved(run, restarted)
            _take_folder(run, lock, overwrite)
            config, pictures, ready = prepare_new(new)
        check_same_folder(run)
        return plan.carry_out(config, run, pictures, ready, resume=new.start_from is not None)


def _check_given(evaluate: Evaluate | None, evaluate_every: int, log_to: str) -> None:
    """Raises ConfigError if one of these arguments of `start_run` and `resume_run` is of a wrong kind."""
    if not (evaluate is None or callable(evaluate)):
        raise ConfigError(f"evaluate is {shown(evaluate)}: give a function, or leave it out")
    whole_number(evaluate_every, "evaluate_every is {}: take a whole number of steps, 0 for none", 0)
    check_tracker(log_to)


def _check_folders(source: Path | str, out: Path, start_from: Path | None, config: Config) -> None:
    """Raises RunError or ConfigError if the folders contradict each other or the config, before any work is done."""
    if isinstance(source, Path) and source.resolve().is_relative_to(out.resolve()):
        if not source.is_file():
            raise RunError(f"--out {out} is or contains the folder of pictures: give another folder")
        # The folder of the studio stays as it is, also with --overwrite: Teach keeps its table of labels there.
        if not source.resolve().is_relative_to((out / STUDIO).resolve()):
            raise RunError(f"--out {out} contains {source}, which is to be trained on: give another folder")
    if config.method.guide_from:
        given_run(config.method.guide_from)
    if start_from is not None:
        if config.method.guide_from:
            raise ConfigError("--from and --guide-from are both given: give one of them")
        if config.data.image_size:
            check_shape(config, start_from)  # before pictures are packed
    check_apart(out)


def _take_folder(run: RunFolder, lock: ExitStack, overwrite: bool) -> None:
    """Lock a folder until `lock` is closed. Raises RunError if the folder is not free and may not be overwritten."""
    check_free(run, overwrite=overwrite)
    lock.enter_context(locked_and_tidied(run))
    # Again, under the lock: another process may have written there since.
    check_free(run, overwrite=overwrite, owned=True)


def _in_new_processes(
    words: Sequence[str] | None,
    own_words: list[str],
    config: Config,
    run: RunFolder,
    evaluate: Evaluate | None,
    max_restarts: int,
) -> TrainingState:
    """Train in several new processes, and return the state that they leave; `words` as for `start_run`.

    own_words: the command that they run if `words` is not given.
    """
    if words is not None:
        launch(words, config.run.processes, run.path, max_restarts)
        raise EndedInOtherProcesses(0)
    if evaluate is not None:
        raise ConfigError(
            f"processes is {config.run.processes}, but the new processes cannot call your function evaluate: leave "
            "evaluate out, or start your program with torchrun"
        )
    launch_config(own_words, config, run.path, max_restarts)
    alone = run.read_config().with_overrides({"processes": 1})
    return make_ready(alone, open_packed(run.data), run.checkpoints).state


def resume_run(
    out: Path,
    *,
    source: Path | str | None = None,
    overrides: dict[str, str] | None = None,
    progress: Progress | None = None,
    announce: Announce | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 0,
    quiet: bool = False,
    log_to: str = "",
    words: Sequence[str] | None = None,
    max_restarts: int = 0,
) -> TrainingState:
    """Resume the run in `out` from its newest undamaged checkpoint, or from the start if it has none yet.

    Returns the final state. source: the pictures, if they have moved or the run was made by `tunit convert`.
    overrides: settings to change; only those in RESUMABLE are allowed. Other arguments are as for `start_run`.
    """
    _check_given(evaluate, evaluate_every, log_to)
    run = RunFolder(given_run(out))
    source = None if source is None else path_or_url(source)
    check_begun(run)
    if not (run.path / NEW).is_dir():
        run.read_config()  # raises RunError before a lock file is made in a folder that is not a run
    with process_group(_device_of(run, overrides or {})), ExitStack() as lock:
        plan = TrainingPlan(evaluate, evaluate_every, quiet, log_to)
        if not is_rank_zero():
            return follow_rank_zero(run, plan)
        with rank_zero_alone():
            lock.enter_context(locked_and_tidied(run))
            config, about = resumed_config(run.read_config(), overrides or {}), run.read_about()
            started = bool(checkpoints(run.checkpoints))
            if not must_launch(config):
                pictures, ready = prepare_resume(
                    run, config, about, source, started, progress, announce, quiet
                )
        if not must_launch(config):
            check_same_folder(run)
            return plan.carry_out(config, run, pictures, ready, resume=started)
    own_words = ["train", *([str(source)] if source else []), "--resume", str(run.path)]
    own_words += [f"--{name.replace('_', '-')}={value}" for name, value in (overrides or {}).items()]
    own_words += _tracker_words(log_to)
    return _in_new_processes(words, own_words, config, run, evaluate, max_restarts)


def _words_of(
    source: Path | str, out: Path, flags: dict[str, bool], start_from: Path | None, log_to: str
) -> list[str]:
    """The command line of `tunit train` for a new run; flags: those without a value, and whether they are given."""
    words = ["train", str(source), "--out", str(out), "--preset", "PRESET"]
    words += [flag for flag, given in flags.items() if given]
    words += [] if start_from is None else ["--from", str(start_from)]
    return words + _tracker_words(log_to)


def _tracker_words(log_to: str) -> list[str]:
    """The part of a command line that names a tracker."""
    return ["--log-to", log_to] if log_to else []


def _device_of(run: RunFolder, overrides: dict[str, str]) -> torch.device:
    """The type of device that a run trains on; the CPU, if its config cannot be read yet."""
    try:
        return torch.device(resolve_machine(run.read_config().with_overrides(overrides)).run.device)
    except TunitError:  # rank 0 will report the error
        return torch.device("cpu")

"""How all ranks train together after rank 0 has prepared the run."""

from dataclasses import dataclass
from pathlib import Path

from tunit.config import Config
from tunit.data.packing.packed import PackedPictures, open_packed
from tunit.distributed.collectives import broadcast_from_rank_zero, is_rank_zero, largest_of_ranks
from tunit.distributed.launcher import has_named_job, job, restarts
from tunit.distributed.process_group import wait_for_rank_zero
from tunit.errors import RunError
from tunit.files.paths import absolute
from tunit.methods.state import TrainingState
from tunit.printing import remark
from tunit.training.processes import with_ranks
from tunit.training.run_folder import RunFolder, check_same_folder
from tunit.training.trainer import Evaluate, Ready, train


@dataclass(frozen=True)
class TrainingPlan:
    """How to train: what every rank needs in addition to the prepared run."""

    evaluate: Evaluate | None
    evaluate_every: int
    quiet: bool
    log_to: str = ""

    def carry_out(
        self, config: Config, run: RunFolder, pictures: PackedPictures, ready: Ready | None, *, resume: bool
    ) -> TrainingState:
        """Train the prepared run. resume: all ranks follow the value of rank 0. Returns the final state."""
        resume = bool(broadcast_from_rank_zero(int(resume)))
        restarted = largest_of_ranks(restarts())
        if resume and restarted and is_rank_zero():
            remark(f"restart {restarted}: the processes resume {run.path} from its last checkpoint")
        return train(
            config,
            run,
            pictures,
            resume=resume,
            ready=ready,
            evaluate=self.evaluate,
            evaluate_every=self.evaluate_every,
            quiet=self.quiet or not is_rank_zero(),
            log_to=self.log_to,
        )


def begun_by_this_job(run: RunFolder, restarted: int) -> bool:
    """Whether this job began the run, so that it goes on with it although the command has no `--resume`.

    restarted: the largest number of restarts that any launcher has counted. If the user has named the job
    (`--rdzv-id`), it may be 0: a launcher that was itself started again counts from 0, and none counts machines that
    join or leave.
    """
    try:
        return bool(job()) and (restarted > 0 or has_named_job()) and run.read_about().get("job") == job()
    except RunError:
        return False


def check_same_source(run: RunFolder, source: Path | str) -> None:
    """Raises RunError if this job began the run with other pictures, so that the command means another run."""
    before = run.read_about().get("source")
    if before is not None and str(before) != absolute(source):
        raise RunError(
            f"this job ({job()}) began {run.path} with other pictures ({before}): give another --out or --rdzv-id"
        )


def say_it_goes_on(run: RunFolder, restarted: int) -> None:
    """Say why a run is resumed that the command would begin; `carry_out` says it after a restart that was counted."""
    if not restarted and is_rank_zero():
        remark(
            f"{run.path} was begun by this job ({job()}), so it goes on from its last checkpoint with its own "
            "settings: to begin another run, give another --out or another --rdzv-id"
        )


def check_not_moved(run: RunFolder, restarted: int) -> None:
    """Raises RunError if a launcher has restarted the processes, and the run is no longer where it was begun.

    Otherwise they would begin it anew, or overwrite another run that has been put there.
    """
    if not restarted or not job() or begun_by_this_job(run, restarted):
        return
    if run.about.exists() or not run.path.exists():
        raise RunError(
            f"the processes were started again, but {run.path} does not hold their run: if it was moved, resume it "
            "where it is with `tunit train --resume`; otherwise give the command again"
        )


def follow_rank_zero(run: RunFolder, plan: TrainingPlan) -> TrainingState:
    """What a rank other than 0 does: wait for the run to be prepared, then train it with the others.

    Returns the final state.
    """
    wait_for_rank_zero()
    check_same_folder(run)
    config = with_ranks(run.read_config())
    # Rank 0 has just written or checked the pack: not every rank need compare all pictures with their hashes again.
    return plan.carry_out(config, run, open_packed(run.data, verify=False), None, resume=False)

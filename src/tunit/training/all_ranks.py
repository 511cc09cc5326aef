"""How all ranks train together after rank 0 has prepared the run."""

from dataclasses import dataclass

from tunit.config import Config
from tunit.data.packing.packed import PackedPictures, open_packed
from tunit.distributed import broadcast_from_rank_zero, is_rank_zero
from tunit.errors import RunError
from tunit.methods.state import TrainingState
from tunit.printing import remark
from tunit.process_group import job, restarts, wait_for_rank_zero
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
        if resume and restarts() and is_rank_zero():
            remark(f"restart {restarts()}: the processes resume {run.path} from its last checkpoint")
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


def begun_by_this_job(run: RunFolder) -> bool:
    """Whether this job began the run, and the launcher has now restarted its processes."""
    try:
        return restarts() > 0 and bool(job()) and run.read_about().get("job") == job()
    except RunError:
        return False


def check_not_moved(run: RunFolder) -> None:
    """Raises RunError if the launcher has restarted the processes, and the run is no longer where it was begun.

    Otherwise they would begin it anew, or overwrite another run that has been put there.
    """
    if restarts() and job() and not begun_by_this_job(run) and (run.about.exists() or not run.path.exists()):
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

"""Runs that were stopped before the number of their domains was found (--domains auto)."""

from pathlib import Path

from tunit.config import AUTO
from tunit.errors import ConfigError, RunError
from tunit.printing import command
from tunit.training.run_folder import RunFolder


def number_undecided(run: Path, step: int) -> str:
    """A sentence without a full stop, if a run is yet to find the number of its domains; otherwise "".

    run: its folder; a folder of a model alone gives "". step: that of the model.
    """
    try:
        config = RunFolder(run).read_config()
    except (RunError, ConfigError):
        return ""
    alone = config.schedule.guide_only_until
    if config.networks.domains != AUTO or step >= alone:
        return ""
    return (
        f"the number of domains is not decided yet, so these are provisional: it is found after step {alone}, and "
        f"this model is of step {step}: go on with `{command('train', '--resume', run)}`"
    )

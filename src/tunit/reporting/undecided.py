"""Runs that were stopped before their domains were decided."""

from pathlib import Path

from tunit.config import AUTO
from tunit.errors import ConfigError, RunError
from tunit.methods.findings import first_step_with_domains
from tunit.printing import command
from tunit.training.run_folder import RunFolder, label_names


def domains_undecided(run: Path, step: int) -> str:
    """A sentence without a full stop, if a run is yet to find its domains or their number; otherwise "".

    run: its folder; a folder of a model alone gives "". step: that of the model.
    """
    try:
        config = RunFolder(run).read_config()
        first = first_step_with_domains(config)
        knew = bool(config.method.guide_from) or RunFolder(run).began_with_domains()
    except (RunError, ConfigError):
        return ""
    alone = int(config.schedule.guide_only_until)
    # A run that has taken all its steps needs more of them.
    more = ("--steps", alone) if config.schedule.steps < alone else ()
    go_on = f"this model is of step {step}: go on with `{command('train', '--resume', run, *more)}`"
    if step >= alone:
        return ""
    if config.networks.domains == AUTO:
        return (
            "the number of domains is not decided yet, so these are provisional: it is found after step "
            f"{alone}, and {go_on}"
        )
    # If E learns domains from the start, even those of step 0 may mean something, as after `tunit convert`.
    if label_names(run) or step > first or first == 0:
        return ""
    found = f"they are found after step {alone}" if first == alone else f"E learns them from step {first} on"
    if knew:
        return (
            "E began with the domains of another run, but has learnt only styles so far, so these domains are "
            f"provisional: {found}, and {go_on}"
        )
    return f"E has learnt only styles so far, so these domains mean nothing: {found}, and {go_on}"

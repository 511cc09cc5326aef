"""The trainings of a row: each is begun, resumed or, if it is finished, left as it is."""

from pathlib import Path

from tunit.config import Config
from tunit.errors import RunError
from tunit.experiments.reuse import OF_THE_MACHINE
from tunit.methods.model_file import load_model
from tunit.training.launch import resume_run, start_run
from tunit.training.run_folder import RunFolder


def train_to_end(source: Path, out: Path, config: Config) -> None:
    """Train a run, or resume one that stopped; does nothing for a finished run.

    A resumed run takes the machine's settings of now, such as the device: it may have begun on another machine.
    """
    run = RunFolder(out)
    if not run.about.is_file():
        start_run(source, out, config, quiet=True)
        return
    try:
        if load_model(out).step >= config.schedule.steps:
            return
    except RunError:
        pass  # the run stopped before its first model was saved
    machine = {name: str(config.value(name)) for name in OF_THE_MACHINE}
    resume_run(out, overrides=machine, quiet=True)

"""Work for the processes of experiments/test_stopping.py, which import it from here."""

import time
from pathlib import Path

from tunit.training.interrupt import Interrupted, StopSignals


def until_told(folder: Path, name: str) -> str:
    """As a training: begins, and goes on until a signal stops it."""
    (folder / name).touch()
    with StopSignals() as signals:
        while signals.received is None:
            time.sleep(0.05)
    raise Interrupted(signals.received, folder, 3)


def told_itself(folder: Path, number: int) -> str:
    """The same, stopped by a signal at once."""
    (folder / str(number)).touch()
    raise Interrupted(15, folder, 3)

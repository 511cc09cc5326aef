"""An experiment tracker in addition to the run's own logs: trackio or wandb. Only functions that both have are used.

If the tracker fails in any way, a warning is printed once, and the training goes on without it.
"""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunit.config import Config
from tunit.errors import ConfigError
from tunit.files.reading import parse_toml
from tunit.printing import remark, shown

TRACKERS = ("trackio", "wandb")
PROJECT = "tunit"


def check_tracker(name: str) -> None:
    """Raises ConfigError if there is no tracker of this name, or if it is not installed; "" means no tracker."""
    if not name:
        return
    if name not in TRACKERS:
        raise ConfigError(f"--log-to is {shown(name)}: take one of {', '.join(TRACKERS)}")
    if find_spec(name) is None:
        raise ConfigError(
            f'--log-to {name} needs a package that is not installed: pip install "tunit[{name}]", or '
            "leave out --log-to"
        )


class Tracker:
    """A run of a tracker: it has the name of the run's folder, and all settings."""

    def __init__(self, name: str, folder: Path, config: Config) -> None:
        self.name = name
        self._module: Any = None
        self._attempt(lambda: self._begin(folder, config))

    def _begin(self, folder: Path, config: Config) -> None:
        module = importlib.import_module(self.name)
        module.init(project=PROJECT, name=folder.resolve().name, config=parse_toml(config.to_toml()))
        self._module = module

    def log(self, step: int, values: dict[str, float]) -> None:
        """Log the values of a step."""
        if self._module is not None:
            self._attempt(lambda: self._module.log(dict(values), step=step))

    def finish(self) -> None:
        """End the tracker's run; nothing is logged afterwards."""
        if self._module is not None:
            self._attempt(lambda: self._module.finish())
        self._module = None

    def _attempt(self, work: Callable[[], object]) -> None:
        """Call `work`; if it fails, warn and stop using the tracker."""
        try:
            work()
        except (Exception, SystemExit) as error:  # no failure of a tracker may end the training
            self._module = None
            remark(f"warning: {self.name} failed ({_first_line(error)}), so the training goes on without it")


def tracker_of(name: str, folder: Path, config: Config) -> Tracker | None:
    """The tracker of this name; None for ""."""
    return Tracker(name, folder, config) if name else None


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0][:200]

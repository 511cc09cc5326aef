"""Truly unsupervised image-to-image translation (TUNIT, ICCV 2021).

from tunit import Translator, read_config, train
train("pictures", "runs/mine", read_config("default").with_overrides({"domains": 6, "steps": 20_000}))
picture = Translator.load("runs/mine").translate("a.jpg", reference="b.jpg")
"""

from tunit._version import __version__

TYPE_CHECKING = False  # instead of importing it from `typing`, which would take longer than everything below
if TYPE_CHECKING:
    from typing import Any

    from tunit.config import Config, read_config
    from tunit.errors import ConfigError, DataError, RunError, TrainingError, TunitError
    from tunit.evaluation.of_run import evaluate_run as evaluate
    from tunit.reporting.write import write_report as report
    from tunit.training.launch import start_run as train
    from tunit.translation.translator import Translator

__all__ = [
    "Config",
    "ConfigError",
    "DataError",
    "RunError",
    "TrainingError",
    "Translator",
    "TunitError",
    "__version__",
    "evaluate",
    "read_config",
    "report",
    "train",
]

# The module of each public name. It is imported at the first use, so that the command line starts and stops quickly.
_HOMES = {
    "Config": ("tunit.config", "Config"),
    "read_config": ("tunit.config", "read_config"),
    "ConfigError": ("tunit.errors", "ConfigError"),
    "DataError": ("tunit.errors", "DataError"),
    "RunError": ("tunit.errors", "RunError"),
    "TrainingError": ("tunit.errors", "TrainingError"),
    "TunitError": ("tunit.errors", "TunitError"),
    "Translator": ("tunit.translation.translator", "Translator"),
    "evaluate": ("tunit.evaluation.of_run", "evaluate_run"),
    "report": ("tunit.reporting.write", "write_report"),
    "train": ("tunit.training.launch", "start_run"),
}


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module 'tunit' has no attribute {name!r}")
    import importlib

    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)

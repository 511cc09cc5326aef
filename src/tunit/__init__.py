"""Truly unsupervised image-to-image translation (TUNIT, ICCV 2021).

from tunit import Translator, read_config, train
train("pictures", "runs/mine", read_config("default").with_overrides({"domains": 6, "steps": 20_000}))
picture = Translator.load("runs/mine").translate("a.jpg", reference="b.jpg")
"""

from typing import TYPE_CHECKING, Any

from tunit._version import __version__
from tunit.config import Config, read_config
from tunit.errors import ConfigError, DataError, RunError, TrainingError, TunitError

if TYPE_CHECKING:
    from tunit.evaluation.of_run import evaluate_run as evaluate
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
    "train",
]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is first used, so that the command line starts quickly."""
    if name == "Translator":
        from tunit.translation.translator import Translator

        return Translator
    if name == "evaluate":
        from tunit.evaluation.of_run import evaluate_run

        return evaluate_run
    if name == "train":
        from tunit.training.launch import start_run

        return start_run
    raise AttributeError(f"module 'tunit' has no attribute {name!r}")

"""Where a model is: a folder here, its model.safetensors, or a name on a hub."""

from pathlib import Path

from tunit.errors import ConfigError
from tunit.hub import download, is_on_hub
from tunit.methods.model_file import MODEL_FILES, TENSORS
from tunit.paths import expand_home


def model_folder(run: str | Path) -> Path:
    """The folder of a model, as a path, as the path of its model.safetensors, or as "user/name" on the hub.

    From the hub, safetensors and JSON alone are asked for. Raises RunError or ConfigError where it cannot be had from
    there; whether a folder holds a model is for `load_model` to say.
    """
    if is_on_hub(run):
        return download(str(run), MODEL_FILES)
    path = expand_home(run)
    return path.parent if path.name == TENSORS else path


def results_of(run: Path, out: Path | None, name: str) -> Path:
    """Where a command's results go: `out`, or else `name` in the folder of the model.

    Raises ConfigError where neither is here.
    """
    if out is None and is_on_hub(run):
        raise ConfigError(f"{run} is no folder here to leave results in: give --out, too")
    return out or (run.parent if run.name == TENSORS else run) / name

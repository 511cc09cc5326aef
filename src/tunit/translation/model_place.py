"""Find a model: a local folder, its model.safetensors, or a name on a hub."""

from pathlib import Path
from typing import TypeVar

from tunit.errors import ConfigError
from tunit.files.paths import expand_home
from tunit.hub import download, is_on_hub
from tunit.methods.model_file import MODEL_FILES, TENSORS

Place = TypeVar("Place", Path, Path | str)


def model_folder(run: str | Path) -> Path:
    """The folder of a model. run: its path, the path of its model.safetensors, or "user/name" on the hub.

    Only safetensors and JSON files are downloaded from the hub. Raises RunError or ConfigError if that fails. Whether
    the folder really holds a model is checked by `load_model`.
    """
    if not isinstance(run, str | Path):
        raise ConfigError(
            f"{run!r} is not a path: give the folder of a run, or the name of a model on the hub"
        )
    if is_on_hub(run):
        return download(str(run), MODEL_FILES)
    path = expand_home(run)
    return path.parent if path.name == TENSORS else path


def results_of(run: Path, out: Place | None, name: str) -> Path | Place:
    """The folder for a command's results: `out` or, if it is None, `name` in the folder of the model.

    Raises ConfigError if `out` is None and the model is not a local folder.
    """
    if out is None and is_on_hub(run):
        raise ConfigError(
            f"{run} is not a local folder, so results cannot be written into it: give --out, too"
        )
    return out or (run.parent if run.name == TENSORS else run) / name

"""Write a folder for any web server: a static page that runs an exported model in the browser (onnxruntime-web).

The page loads only files of this folder, nothing from other servers.
"""

import json
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from torch import Tensor

from tunit.errors import RunError
from tunit.files.atomic import writable, write_text
from tunit.files.reading import UnreadableError, read_json
from tunit.files.result_names import ABOUT, PAGE, RUNTIME, RUNTIME_FILES, STYLE_ENCODER, TRANSLATOR
from tunit.methods.model_file import Model
from tunit.reporting.model_folder import thumbnail, write_thumbnails
from tunit.training.results_inside import LARGEST_ABOUT
from tunit.translation.export import export_model, names_of_files

PARTS = STYLE_ENCODER, TRANSLATOR


def names_in_browser_folder(model: Model, *, pictures: bool) -> list[str]:
    """What `write_browser_folder` may write."""
    thumbnails = [thumbnail(k) for k in range(model.settings.domains)] if pictures else []
    runtime = [f"{RUNTIME}/{name}" for name in RUNTIME_FILES]
    return [*PAGE, *names_of_files(model, "onnx", PARTS), *runtime, *thumbnails]


def write_browser_folder(
    run: Path,
    model: Model,
    folder: Path,
    runtime: Path,
    samples: Tensor,
    names: Sequence[str],
    *,
    pictures: bool = True,
) -> dict[str, float]:
    """Write the page with the model of `run` into `folder`; returns each network's largest difference from PyTorch.

    model: of `run`, on the CPU. runtime: from `find_runtime`. samples, names: as for `export_model`. pictures: False
    leaves out the thumbnails, which show pictures of the training. Raises RunError as `export_model` does.
    """
    differences = export_model(model, folder, "onnx", samples, names, PARTS)
    drawn = write_thumbnails(run, folder, model) if pictures else {}
    try:
        about = read_json(folder / ABOUT, LARGEST_ABOUT)
    except UnreadableError as error:  # it was written a moment ago
        raise RunError(f"{folder / ABOUT} cannot be read again ({error}): give another --out") from None
    for domain in about["domains"]:
        domain["thumbnail"] = drawn.get(domain["number"])
    write_text(folder / ABOUT, json.dumps(about) + "\n")
    for name in PAGE:
        write_text(folder / name, files("tunit.reporting").joinpath("browser", name).read_text("utf-8"))
    with writable(folder / RUNTIME):
        (folder / RUNTIME).mkdir()
        for name in RUNTIME_FILES:
            shutil.copyfile(runtime / name, folder / RUNTIME / name)
    return differences

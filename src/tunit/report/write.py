"""From a run folder to its report."""

from pathlib import Path

import torch

from tunit.errors import RunError
from tunit.files import write_text
from tunit.networks.model_file import load_model
from tunit.paths import home
from tunit.report.contents import gather
from tunit.report.page import render
from tunit.training.run_folder import RunFolder

NAME = "report.html"


def write_report(
    run: Path, out: Path | None = None, *, seed: int = 0, device: torch.device | str = "cpu"
) -> Path:
    """Write the page of a run to `out`, or to RUN/report.html; returns its path.

    Raises RunError where there is no run, no model or no pictures, or `out` cannot be written.
    """
    run, out = home(run), out and home(out)
    contents = gather(RunFolder(run), load_model(run, device), seed=seed)
    path = out or run / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, render(contents))
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}): give another --out") from None
    return path

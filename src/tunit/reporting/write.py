"""Write the report of a run folder."""

from pathlib import Path

import torch

from tunit.files.atomic import writable, write_text
from tunit.files.destination import check_earlier, check_file
from tunit.files.paths import expand_home
from tunit.files.result_names import REPORT
from tunit.given import given_seed
from tunit.machine import choose_device
from tunit.methods.model_file import load_model
from tunit.reporting.contents import gather
from tunit.reporting.page import is_report, render
from tunit.training.run_folder import RunFolder, given_run


def write_report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    figures: str | Path | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Path:
    """Write the page of a run to `out`, or to RUN/report.html; returns its path.

    figures: a result of `tunit evaluate` that is not in the run.
    Raises RunError if there is no run, no model or no pictures, or `out` cannot be written or is a file
    other than an earlier report.
    """
    run = given_run(run)
    path = expand_home(out) if out is not None else run / REPORT
    evaluated = expand_home(figures) if figures is not None else None
    seed = given_seed(seed)
    model = load_model(run, choose_device(device))
    check_file(path, keep=[run, evaluated])
    if out is not None:
        check_earlier(path, is_report, "a report of `tunit report`")
    contents = gather(RunFolder(run), model, figures=evaluated, seed=seed)
    with writable(path, "give another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(contents))
    return path

"""The part Train: start, watch, stop and resume trainings; several side by side."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tunit.data.finding.index import read_index
from tunit.errors import ConfigError, RunError
from tunit.files.atomic import writable
from tunit.files.destination import STUDIO
from tunit.pages.document import data_script
from tunit.printing import escape, numbered, printable
from tunit.studio import jobs
from tunit.studio.command_lines import (
    HIGHEST_SEED,
    LARGEST_SIZE,
    MOST_DOMAINS,
    MOST_STEPS,
    PRESETS,
    SMALLEST_SIZE,
    NewTraining,
    check_name,
    resume_command,
)
from tunit.studio.curves import Logs, alarms_in, charts_of, sample_path, samples_of
from tunit.studio.frame import page
from tunit.studio.new_places import TRAINED_ON, free_place, never_began
from tunit.studio.requests import form_of, run_of, text_of, whole_of, workspace_of
from tunit.studio.shards import check_shards
from tunit.studio.training_folders import (
    check_links,
    check_pictures,
    folder_at,
    folders_of,
    number_of_pictures,
)
from tunit.studio.workspace import Run, Workspace

MOST_IN_CHART = 8  # runs in one chart: there are this many line colours
MOST_AT_ONCE = 4  # trainings that may run at the same time
UNREAD = "unread"  # the state of a run of which nothing is read
MOST_SAMPLES = 200  # how many sample grids of a run the page offers
_LOGS = Logs()
_BEGINNING = threading.Lock()  # of two requests at once, the second one sees what the first one has started
_MEANING = {
    "small": "small: 32 pixels, for a CPU; its 6,000 steps take about an hour on one core, half of that on two",
    "default": "default: 32, 64 or 128 pixels, by the median of the pictures' shorter sides, for a GPU",
    "paper": "paper: the paper's setting: 200,000 steps at 128 pixels, for a GPU",
}


def show(request: Request) -> Response:
    """The page."""
    workspace = workspace_of(request)
    folders = "".join(
        f'<option value="{escape(address)}">{escape(name)}</option>'
        for address, name in folders_of(workspace)
    )
    presets = "".join(f'<option value="{name}">{_MEANING[name]}</option>' for name in PRESETS)
    body = _BODY.format(folders=folders, presets=presets) + data_script("page-data", {"most": MOST_IN_CHART})
    return page("Train", body, part="train", script="train.js")


async def look(request: Request) -> Response:
    """Check a folder by `tunit prepare`, and return what it printed."""
    form, workspace = await form_of(request), workspace_of(request)
    folder, preset = folder_at(workspace, text_of(form, "folder")), text_of(form, "preset", PRESETS[0])

    def work() -> tuple[bool, list[str]]:
        """Check the folder, in a thread."""
        check_links(workspace, folder)
        return check_pictures(folder, preset)

    good, lines = await run_in_threadpool(work)
    return JSONResponse({"good": good, "lines": lines})


async def start(request: Request) -> Response:
    """Begin a training."""
    form, workspace = await form_of(request), workspace_of(request)
    folder, name = folder_at(workspace, text_of(form, "folder")), check_name(text_of(form, "name"))

    def number(field: str, low: int, high: int) -> int:
        """A whole number in the form; 0 if the field is empty."""
        text = text_of(form, field).strip()
        return whole_of(text, field.replace("_", " "), low, high) if text else 0

    out = free_place(workspace, name)
    training = NewTraining(
        folder,
        out,
        preset=text_of(form, "preset", PRESETS[0]),
        steps=number("steps", 1, MOST_STEPS),
        domains=number("domains", 0, MOST_DOMAINS),
        image_size=number("image_size", SMALLEST_SIZE, LARGEST_SIZE),
        seed=number("seed", 0, HIGHEST_SEED),
    )
    if training.preset not in PRESETS:
        raise ConfigError(f"preset is {training.preset!r}: take one of {', '.join(PRESETS)}")

    def work() -> str:
        """Start the training, in a thread. Returns what people should know about its settings."""
        files = check_links(workspace, folder)
        counted = replace(training, pictures=number_of_pictures(folder, files))
        begin(workspace, counted.command(), out, leftover=out / STUDIO / TRAINED_ON)
        return _about_batches(counted)

    note = await run_in_threadpool(work)
    return JSONResponse({"run": await run_in_threadpool(workspace.key_of, out), "note": note})


def _about_batches(training: NewTraining) -> str:
    """A sentence if the batches of the preset are too large for so few pictures; otherwise ""."""
    smaller = training.smaller_batches
    if not smaller:
        return ""
    return (
        f"{training.source.name} has only {numbered(training.pictures, 'picture')}, too few for a batch of the "
        f"preset {training.preset}, so a batch takes {min(smaller.values())} of them: add pictures for better "
        "results."
    )


def begin(workspace: Workspace, command: list[str], out: Path, leftover: Path | None = None) -> None:
    """Start a command that trains in the folder `out`.

    leftover: a file of an earlier start in this folder, which is removed. Raises RunError if a run there is in
    training already, or if too many others are.
    """
    with _BEGINNING:
        if jobs.state_of(out).runs:
            raise RunError(f"{out.name} is in training already")
        going = sum(jobs.state_of(run.path).runs for run in workspace.runs() if not workspace.refusal(run))
        if going >= MOST_AT_ONCE:
            raise RunError(
                f"{going} trainings run already, and share this machine: wait for one, or stop one"
            )
        if leftover is not None:
            with writable(leftover):
                leftover.unlink(missing_ok=True)
        jobs.start(command, out)


async def stop(request: Request) -> Response:
    """Let a training save everything and stop."""
    run = await run_in_threadpool(run_of, request)
    await run_in_threadpool(jobs.stop, run.path)
    return JSONResponse({})


async def resume(request: Request) -> Response:
    """Resume a training, up to its length or to a new one."""
    form, run = await form_of(request), await run_in_threadpool(run_of, request)
    text = text_of(form, "steps").strip()
    steps = whole_of(text, "steps", 1, MOST_STEPS) if text else 0

    def work() -> None:
        """Resume the training, in a thread."""
        state = jobs.state_of(run.path)
        if state.runs:
            raise RunError(f"{run.name} is in training already")
        if not run.folder.about.is_file():
            raise RunError(
                f"{run.name} was stopped before its first step: begin a new run, which may have the same name"
            )
        saved = jobs.saved_step(run.folder)  # steps that were taken, but not saved, are taken again
        if steps and steps <= saved:
            raise ConfigError(f"{run.name} has taken {saved:,} steps: give more than that")
        if not steps and state.state == jobs.FINISHED:
            raise ConfigError(f"{run.name} has taken all of its {state.steps:,} steps: give a larger number")
        if run.has_pictures:  # a training shows samples of them
            check_shards(workspace_of(request), run.folder.data, read_index(run.folder.data))
        begin(workspace_of(request), resume_command(run.path, steps), run.path)

    await run_in_threadpool(work)
    return JSONResponse({})


def runs(request: Request) -> Response:
    """All runs with their states; for the chosen runs also curves, alarms, newest samples and the end of the log."""
    workspace = workspace_of(request)
    found = workspace.runs()
    chosen = set(request.query_params.getlist("run"))
    shown, left_out = [], []
    for key in [run.key for run in found if run.key in chosen][:MOST_IN_CHART]:
        try:
            shown.append(workspace.run(key))  # checks that none of its files lies elsewhere
        except RunError as error:  # or it has just been deleted: the other runs are shown
            left_out.append(printable(str(error)))
    rows = {run.key: _LOGS.rows(run) for run in shown}
    return JSONResponse(
        {
            "runs": [_run_state(run, workspace.refusal(run)) for run in found],
            "charts": charts_of([(run.name, rows[run.key]) for run in shown]),
            "chosen": [_about(run, rows[run.key]) for run in shown],
            "left_out": left_out,
        }
    )


def _run_state(run: Run, refusal: str) -> dict[str, Any]:
    """What the list says of a run. refusal: why nothing of it is read; "" if it is read."""
    who = {"key": run.key, "name": printable(run.name)}
    if refusal:
        nothing = {"step": 0, "steps": 0, "model": False, "alarms": [], "free": False}
        return who | nothing | {"state": UNREAD, "reason": printable(refusal)}
    state = jobs.state_of(run.path)
    return who | {
        "state": state.state,
        "step": state.step,
        "steps": state.steps,
        "reason": state.reason,
        "model": run.has_model,
        "free": not state.runs and never_began(run.path),
        "alarms": [alarm.sentence for alarm in alarms_in(_LOGS.rows(run)) if alarm.over is None]
        if state.runs
        else [],
    }


def _about(run: Run, rows: list[dict[str, Any]]) -> dict[str, Any]:
    lines = [line for line in jobs.log_tail(run.path).splitlines() if line.strip()]
    return {
        "key": run.key,
        "name": printable(run.name),
        "samples": samples_of(run)[-MOST_SAMPLES:],
        "log": [printable(line) for line in lines[-12:]],
        "alarms": [
            {"step": alarm.step, "over": alarm.over, "sentence": alarm.sentence, "remedy": alarm.remedy}
            for alarm in alarms_in(rows)
        ],
    }


def sample(request: Request) -> Response:
    """A sample grid."""
    path = sample_path(run_of(request), request.path_params["name"], workspace_of(request).root)
    if path is None:
        raise HTTPException(404)
    return FileResponse(path, media_type="image/png")


_BODY = """<h1>Train</h1>
<details class="card" id="new"><summary><b class="inline">A new run</b></summary>
<form id="order">
<label>Pictures <select name="folder" required>{folders}</select></label>
<label>Preset <select name="preset">{presets}</select></label>
<div class="tools"><button type="button" id="look">Look at the pictures</button></div>
<div id="findings" role="status"></div>
<label>Name of the run <input name="name" required maxlength="60" autocomplete="off"></label>
<label>Steps <input name="steps" inputmode="numeric" placeholder="as in the preset"
 aria-describedby="steps-hint"></label>
<p class="fine" id="steps-hint">For a first look take 1000 steps; a finished run can be given more.</p>
<label>Number of domains <input name="domains" inputmode="numeric" placeholder="found by itself"></label>
<label>Picture size <select name="image_size"><option value="">as in the preset</option><option>32</option>
<option>64</option><option>128</option><option>256</option></select></label>
<label>Seed <input name="seed" inputmode="numeric" value="0"></label>
<div class="tools"><button class="primary" id="start">Start training</button></div>
</form></details>
<section aria-labelledby="runs-title"><h2 id="runs-title">Runs</h2>
<p class="fine">A training continues if this page, or the studio, is closed. Choose several to compare them.</p>
<p id="none" hidden>There is no run yet.</p>
<div id="runs" class="run-list"></div></section>
<section aria-labelledby="curves-title" id="watch" hidden><h2 id="curves-title">Curves</h2>
<p class="fine" id="live" role="status"></p>
<div id="alarms"></div><div id="charts" class="charts"></div>
<h2>Samples</h2><div id="samples" class="samples"></div><h2>Log</h2><div id="logs"></div></section>
"""

ROUTES = [
    Route("/train", show),
    Route("/train/look", look, methods=["POST"]),
    Route("/train/start", start, methods=["POST"]),
    Route("/train/runs", runs),
    Route("/runs/{run}/train/stop", stop, methods=["POST"]),
    Route("/runs/{run}/train/resume", resume, methods=["POST"]),
    Route("/runs/{run}/samples/{name}", sample),
]

"""The part Teach: people define the domains and assign pictures to them, and a new training starts from that."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunit.errors import ConfigError, DataError, TunitError
from tunit.files.atomic import writable
from tunit.files.destination import STUDIO
from tunit.files.reading import UnreadableError, parse_json
from tunit.methods.model_file import TENSORS
from tunit.networks.tensor_file import written_checksum
from tunit.pages.document import data_script
from tunit.printing import escape, numbered, printable
from tunit.studio.action_log import StaleError
from tunit.studio.actions import Action
from tunit.studio.command_lines import MOST_STEPS, FewLabels, check_method, check_name, suggested_name
from tunit.studio.frame import page, why_not
from tunit.studio.labels import EXAMPLES, LabelState, RunLabels
from tunit.studio.library import Library
from tunit.studio.new_places import TRAINED_ON, free_place
from tunit.studio.opened_labels import labels_of, ready_labels, with_part
from tunit.studio.requests import form_of, library_of, run_of, text_of, whole_of, workspace_of
from tunit.studio.train import begin
from tunit.studio.workspace import Run, Workspace

STEPS = 300  # the suggested length of the new training
HISTORY = 30  # how many of the last actions the page lists
_STARTING = threading.Lock()


def show(request: Request) -> Response:
    """The page. Its content is loaded from `pictures`."""
    run, library = run_of(request), library_of(request)
    notice, body = why_not(run, "teach"), ""
    if not notice:
        data = {"run": run.key, "version": library.version(run), "examples": EXAMPLES}
        body = _BODY.format(examples=EXAMPLES, steps=STEPS, name=escape(suggested_name(run.path.name)))
        body += data_script("page-data", data)
        notice = library.undecided(run)
    script = "teach.js" if body else ""
    return page(
        f"Teach {run.name}", f"<h1>Teach</h1>{body}", part="teach", run=run, script=script, notice=notice
    )


def pictures(request: Request) -> Response:
    """The pictures and the current state; the progress (status 202) while E's output is being computed."""
    run, library = run_of(request), library_of(request)
    thread = library.output(run)
    known = thread.known
    if known is None:
        return JSONResponse({"done": thread.done, "total": thread.total}, 202)
    now = labels_of(run, library, known).state()
    names = library.pictures(run).names
    return JSONResponse(
        {
            "rows": known.output.rows.tolist(),
            "names": [printable(names[row]) for row in known.output.rows],
            "sure": np.rint(np.asarray(now.sure) * 1000).astype(int).tolist(),
            "older": now.step if _is_of_another_model(now, run, library) else None,
            "now": _state(now),
        }
    )


def state(request: Request) -> Response:
    """The current state, which other people may have changed."""
    run, library = run_of(request), library_of(request)
    return JSONResponse(_state(ready_labels(run, library).state()))


async def act(request: Request) -> Response:
    """Carry out an action. Fields: `action`, as JSON (see actions.py); `seen` and `model`: the state that the page
    shows.
    """
    form = await form_of(request)
    try:
        action: Any = parse_json(text_of(form, "action"))
    except UnreadableError as error:
        raise ConfigError(f"the action cannot be read ({error}): load the page again") from None
    if not isinstance(action, dict):
        raise ConfigError("the action is not a JSON object: load the page again")
    seen = whole_of(text_of(form, "seen"), "seen", 0, 10**9)
    model = text_of(form, "model") if "model" in form else None

    def work() -> LabelState:
        """Carry out the action, in a thread."""
        run, library = run_of(request), library_of(request)
        labels = ready_labels(run, library)
        done = with_part(action, labels, library, run) if action.get("do") == "split" else action
        return labels.act(done, seen, model)

    try:
        now = await run_in_threadpool(work)
    except StaleError as error:
        return JSONResponse({"error": str(error)}, 409)
    return JSONResponse(_state(now))


async def go_on(request: Request) -> Response:
    """Start a training from this run, with these labels."""
    form = await form_of(request)
    name = check_name(text_of(form, "name"))
    steps = whole_of(text_of(form, "steps", str(STEPS)), "steps", 2, MOST_STEPS)

    def work() -> Path:
        """Write the table and start the training, in a thread. Returns the folder of the new run."""
        run, library, workspace = run_of(request), library_of(request), workspace_of(request)
        labels = ready_labels(run, library)
        out = free_place(workspace, name)
        now = labels.write_table()
        if not now.number:
            raise ConfigError(
                "no labels were given yet: name or merge domains, or give pictures a domain, first"
            )
        config = run.folder.read_config()
        check_method(config, run.name)
        if config.data.layout != "none":
            raise ConfigError(
                f"{run.name} was trained on a published set by --layout: train on {labels.table} at the command line"
            )
        # Search anew: people put back what was missing, and try again.
        missing = len(set(library.pictures(run).names) - labels.paths(anew=True).keys())
        if missing:
            raise DataError(
                f"{missing:,} pictures of {run.name} are no longer where they were during the training "
                f"({run.folder.source()}), or are inside an archive: put them back, or unpack them"
            )
        with _STARTING:
            out = free_place(workspace, name)  # another request may have taken it meanwhile
            _begin(workspace, run, labels, out, steps)
        return out

    out = await run_in_threadpool(work)
    return JSONResponse({"run": await run_in_threadpool(workspace_of(request).key_of, out)})


def _begin(workspace: Workspace, run: Run, labels: RunLabels, out: Path, steps: int) -> None:
    """Start the training with a copy of the table, because somebody may change the labels before it reads them."""
    table = out / STUDIO / TRAINED_ON
    with writable(table):
        table.parent.mkdir(parents=True, exist_ok=True)
    try:
        now = labels.write_table(table)
        domains = sum(bool(members) for members in now.assignment.members().values())
        pictures = labels.pictures - len(now.assignment.left_out)
        training = FewLabels(table, run.path, out, steps, domains, pictures=pictures)
        begin(workspace, training.command(), out)
    except TunitError:
        table.unlink(missing_ok=True)
        with suppress(OSError):  # something else is there
            table.parent.rmdir()
            out.rmdir()
        raise


# ---- what is sent to the page ----


def _is_of_another_model(now: LabelState, run: Run, library: Library) -> bool:
    """Whether the domains were found by another model than the run has now."""
    if now.step != library.translator(run).model.step:
        return True
    return now.checksum not in ("", written_checksum(run.path / TENSORS))


def _state(now: LabelState) -> dict[str, Any]:
    assignment = now.assignment
    members = assignment.members()
    domain = [-1] * assignment.pictures
    for number, places in members.items():
        for place in places:
            domain[place] = number
    return {
        "number": now.number,
        "model": now.model,
        "domains": [
            {"number": number, "name": assignment.names[number], "size": len(members[number])}
            for number in sorted(members)
        ],
        "domain": domain,
        "given": sorted(assignment.given),
        "leftOut": len(assignment.left_out),
        "history": [_said(action) for action in now.done[: -HISTORY - 1 : -1]],
        "undone": [_said(action) for action in now.undone[::-1]],
    }


def _said(action: Action) -> str:
    """An action in words."""
    number = len(action.get("pictures") or action.get("part") or ())
    many = numbered(number, "picture")
    what = action["do"]
    if what == "name":
        name = action["name"]
        return (
            f"domain {action['domain']} is called {name}"
            if name
            else f"domain {action['domain']} has no name"
        )
    if what == "add":
        return f"a new domain {action['name']}".strip()
    if what == "merge":
        listed = ", ".join(map(str, action["domains"]))
        return (
            f"{'domain' if len(action['domains']) == 1 else 'domains'} {listed} merged into {action['into']}"
        )
    if what == "split":
        return f"domain {action['domain']} split: {many} became a new domain"
    if what == "give":
        return f"{many} given domain {action['domain']}"
    return f"{many} left out" if what == "leave_out" else f"{many} back to the model's choice"


_BODY = """
<p class="lead" id="state" role="status">Looking at the pictures ...</p>
<progress id="progress" max="1" value="0" aria-label="pictures looked at"></progress>
<div id="teach" class="teach" hidden>
<section class="kinds" aria-labelledby="kinds-title"><h2 id="kinds-title">Domains</h2>
<ul id="kinds"></ul>
<form id="add" class="tools"><label class="visually-hidden" for="add-name">name of a new domain</label>
<input id="add-name" maxlength="60" placeholder="a new domain" autocomplete="off"><button>Add</button></form>
<details><summary>Keys</summary><p class="fine">They work in the pictures: click one, or go there by Tab. Arrow keys
move, Space selects, Shift with an arrow key selects on the way, A selects all, Escape none. Digits give the selected
pictures a domain, X leaves them out, F forgets their labels. N names the domain shown, S splits it, M merges it. U
undoes, R redoes.</p></details>
</section>
<section class="shown" aria-labelledby="shown-title"><h2 id="shown-title">Pictures</h2>
<form id="rename" class="tools"><label for="name">Name</label>
<input id="name" maxlength="60" autocomplete="off"><button>Save name</button>
<button type="button" id="split">Split in two</button>
<label class="visually-hidden" for="into">merge into</label><select id="into"></select>
<button type="button" id="merge">Merge</button></form>
<div class="tools" role="group" aria-label="selected pictures"><span id="count" role="status"></span>
<button type="button" id="all">Select all</button><button type="button" id="none">None</button>
<label class="visually-hidden" for="to">domain to give</label><select id="to"></select>
<button type="button" id="give" class="primary">Give domain</button>
<button type="button" id="leave-out">Leave out</button><button type="button" id="forget">Forget</button></div>
<div id="gallery" class="gallery" role="listbox" tabindex="-1" aria-multiselectable="true"
 aria-labelledby="shown-title"></div>
<button type="button" id="more" hidden>Show more</button></section>
<section class="done" aria-labelledby="done-title"><h2 id="done-title">Done so far</h2>
<div class="tools"><button type="button" id="undo">Undo</button><button type="button" id="redo">Redo</button></div>
<p class="fine" id="saved" role="status"></p><ol id="history" class="fine"></ol>
<h2>Go on training</h2>
<p class="fine">With the labels that you gave. In a domain without any, the model labels the {examples}
pictures of which it is surest. All other pictures train without a label.</p>
<form id="go"><label>Name of the new run <input name="name" required maxlength="60" value="{name}"></label>
<label>Steps <input name="steps" inputmode="numeric" value="{steps}"></label>
<button class="primary">Go on training with these labels</button></form></section></div>
"""

ROUTES = [
    Route("/runs/{run}/teach", show),
    Route("/runs/{run}/teach/pictures", pictures),
    Route("/runs/{run}/teach/state", state),
    Route("/runs/{run}/teach/act", act, methods=["POST"]),
    Route("/runs/{run}/teach/train", go_on, methods=["POST"]),
]

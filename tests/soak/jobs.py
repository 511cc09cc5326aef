"""The jobs that are interrupted. Each can start or continue, and knows what must hold at any time and at its end."""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.data.packing.packed import open_packed
from tunit.errors import TunitError
from tunit.methods.model_file import load_model
from tunit.networks.tensor_file import read_tensors
from tunit.studio.labels import ModelOutput, RunLabels, rows_of
from tunit.training.checkpoint import checkpoints, load_newest, save_checkpoint
from tunit.training.initial_state import new_state
from tunit.training.new_run import MOVING, READY
from tunit.training.run_folder import NEW

STEPS = 12
SETTINGS = {
    "checkpoint_every": 3,
    "sample_every": 6,
    "log_every": 1,
}  # after a resume, the line is the mean of the steps since then
ACTIONS = 40
SAVES = 25
LEFT_BY_THE_KILLED = re.compile(r".*\.partial|\.tmp\w{6}|.*\.part|\.new|\.lock|\.unfinished\..*")


@dataclass(frozen=True)
class Field:
    """What all jobs need: pictures, and the result of each job without interruption."""

    folder: Path

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def whole(self) -> Path:
        return self.folder / "whole"

    def expected(self, job: "Job") -> Path:
        return self.folder / "expected" / job.name


@dataclass(frozen=True)
class Job:
    """work: starts or continues in a folder. look: checks what must hold after any interruption. check: checks what
    must hold at the end. prepare: what is in the folder before, written while the disk has space.

    Both checks raise AssertionError. They get the field, the folder, and the folder of an uninterrupted job.
    """

    name: str
    work: Callable[[Field, Path], int]
    look: Callable[[Field, Path, Path], None]
    check: Callable[[Field, Path, Path], None]
    prepare: Callable[[Path], object] = lambda folder: None


def train(field: Field, folder: Path) -> int:
    run = folder / "run"
    # Between the two marks and config.toml, a killed training says that its run exists and may be resumed.
    if any((run / name).is_file() for name in ("config.toml", f"{NEW}/{READY}", f"{NEW}/{MOVING}")):
        return main(["train", "--resume", str(run), "--quiet"])
    words = ["train", str(field.pictures), "--out", str(run), "--preset", "paper", "--quiet"]
    return main([*words, *flags(steps=STEPS, **SETTINGS)])


def look_at_run(field: Field, folder: Path, expected: Path) -> None:
    run = folder / "run"
    for path in checkpoints(run / "checkpoints"):
        read_tensors(path)  # raises an error if it is damaged
    for name in ("model.json", "run.json"):
        if (run / name).exists():
            json.loads((run / name).read_text())
    if (run / "model.json").exists() and (run / "model.safetensors").exists():
        load_model(run)


def check_run(field: Field, folder: Path, expected: Path) -> None:
    check_weights(folder, expected)
    assert metrics(folder / "run") == metrics(expected / "run"), "other metrics"


def check_weights(folder: Path, expected: Path) -> None:
    run, whole = folder / "run", expected / "run"
    ours, theirs = (read_tensors(checkpoints(each / "checkpoints")[-1]) for each in (run, whole))
    assert ours[1] == theirs[1], "another step, or other pictures drawn"
    different = [name for name, value in theirs[0].items() if not torch.equal(ours[0][name], value)]
    assert different == [], f"{len(different)} tensors differ, {different[:3]}"
    assert len(checkpoints(run / "checkpoints")) <= 3
    assert load_model(run).step == STEPS, "another model"
    assert leftovers(folder) == [], "something is left half-written"


def metrics(run: Path) -> list[dict[str, float]]:
    """Values that do not depend on the machine."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("speed/")} for row in rows]


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if LEFT_BY_THE_KILLED.fullmatch(path.name)]


def state_to_save(step: int):
    state = new_state(
        tiny_config(guide_width=8, generator_width=8, discriminator_width=8), torch.device("cpu")
    )
    state.step, state.cursors = step, {"all": 4 * step}
    return state


def write_checkpoints(field: Field, folder: Path) -> int:
    """Save checkpoints and confirm each; a full disk is one sentence, as on the command line."""
    state = state_to_save(0)
    acknowledged = os.open(folder / "acknowledged", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    for step in range(1, SAVES + 1):
        state.step = step
        try:
            save_checkpoint(folder / "checkpoints", state, keep=3)
        except TunitError as error:
            print(f"tunit: {error}", flush=True)
            return 2
        os.write(acknowledged, b".")
    return 0


def look_at_checkpoints(field: Field, folder: Path, expected: Path) -> None:
    for path in checkpoints(folder / "checkpoints"):
        read_tensors(path)
    record = folder / "acknowledged"
    done = record.stat().st_size if record.exists() else 0
    if done:
        path, warnings = load_newest(folder / "checkpoints", state_to_save(0))
        assert warnings == []
        assert int(path.stem.removeprefix("step_")) >= min(done, SAVES)


def check_checkpoints(field: Field, folder: Path, expected: Path) -> None:
    assert [int(p.stem[5:]) for p in checkpoints(folder / "checkpoints")] == [SAVES - 2, SAVES - 1, SAVES]


def pack(field: Field, folder: Path) -> int:
    words = ["prepare", str(field.pictures), "--out", str(folder / "pack"), "--image-size", "32"]
    return main([*words, "--workers", "1"])


def look_at_pack(field: Field, folder: Path, expected: Path) -> None:
    try:
        open_packed(folder / "pack")
    except TunitError:
        return
    assert same_file(folder / "pack" / "pictures.npy", expected / "pack" / "pictures.npy")


def check_pack(field: Field, folder: Path, expected: Path) -> None:
    for name in ("pictures.npy", "index.json"):
        assert same_file(folder / "pack" / name, expected / "pack" / name), name
    assert leftovers(folder) == []


def translate(field: Field, folder: Path) -> int:
    words = [
        "translate",
        str(field.whole),
        str(field.pictures),
        "--reference",
        str(field.pictures / "000.png"),
    ]
    out = folder / "out"
    if any(out.glob("*.png")) and not any(out.glob(".tunit-unfinished.*/journal")):
        return 0  # the job was killed after its end
    return main([*words, "--out", str(out), "--device", "cpu", "--batch", "4"])


def look_at_results(field: Field, folder: Path, expected: Path) -> None:
    """Every file with a result's name must be a complete result."""
    out = folder / "out"
    for path in out.rglob("*") if out.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(out).parts)
        if path.is_file() and not hidden and path.suffix == ".png":
            assert same_file(path, expected / path.relative_to(folder)), f"{path} is not whole"


def check_results(field: Field, folder: Path, expected: Path) -> None:
    for record in (folder / "out").glob(".tunit-unfinished.*"):
        record.rmdir()  # a job that is killed in its last step may leave it, but empty
    names = [{p.relative_to(base).as_posix() for p in base.rglob("*")} for base in (folder, expected)]
    assert names[0] == names[1], f"other files: {sorted(names[0] ^ names[1])}"
    look_at_results(field, folder, expected)


OLDER = "an older page, whole: </html>\n"


def write_older_page(folder: Path) -> None:
    (folder / "page.html").write_text(OLDER)


def report(field: Field, folder: Path) -> int:
    return main(["report", str(field.whole), "--out", str(folder / "page.html"), "--device", "cpu"])


def look_at_page(field: Field, folder: Path, expected: Path) -> None:
    """The older page stays until the new one is complete."""
    text = (folder / "page.html").read_text("utf-8")
    assert text == OLDER or same_file(folder / "page.html", expected / "page.html"), "neither page is whole"


def check_page(field: Field, folder: Path, expected: Path) -> None:
    assert same_file(folder / "page.html", expected / "page.html"), "another page"


def labels_of(folder: Path) -> RunLabels:
    names = [f"{i:03d}.png" for i in range(30)]
    return RunLabels(folder, ModelOutput(names, [i % 3 for i in range(30)], [0.9] * 30, 3, 7))


def teach(field: Field, folder: Path) -> int:
    """Label pictures as the studio does, and confirm each action after the studio's response."""
    labels = labels_of(folder)
    acknowledged = os.open(folder / "acknowledged", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    try:
        for i in range(labels.state().number, ACTIONS):
            labels.act({"do": "give", "pictures": [i % 30], "domain": i % 3}, i)
            os.write(acknowledged, b".")
        labels.write_table()
    except TunitError as error:
        print(f"tunit: {error}", flush=True)
        return 2
    return 0


def look_at_labels(field: Field, folder: Path, expected: Path) -> None:
    record, labels = folder / "acknowledged", labels_of(folder)
    done = record.stat().st_size if record.exists() else 0
    assert labels.state().number >= done, "an action that was answered is lost"
    if labels.table.exists():
        rows = list(csv.reader(labels.table.open(newline="")))
        assert rows[0] == ["picture", "label", "by"]
        assert len(rows) == 31, "a part of the table"


def check_labels(field: Field, folder: Path, expected: Path) -> None:
    labels = labels_of(folder)
    now = labels.state()
    assert now.number == ACTIONS
    rows = [tuple(row) for row in csv.reader(labels.table.open(newline=""))][1:]
    assert rows == rows_of(now, [f"{i:03d}.png" for i in range(30)]), "another table"


def same_file(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


JOBS = {
    job.name: job
    for job in (
        Job("training", train, look_at_run, check_run),
        Job("checkpoint writing", write_checkpoints, look_at_checkpoints, check_checkpoints),
        Job("packing", pack, look_at_pack, check_pack),
        Job("translating", translate, look_at_results, check_results),
        Job("reporting", report, look_at_page, check_page, write_older_page),
        Job("studio saving", teach, look_at_labels, check_labels),
    )
}


def prepare_field(folder: Path) -> Field:
    """Pictures, and the run for translations and reports."""
    field = Field(folder)
    write_pictures(field.pictures, 10)
    words = ["train", str(field.pictures), "--out", str(field.whole), "--preset", "paper", "--quiet"]
    assert main([*words, *flags(steps=STEPS, **SETTINGS)]) == 0
    shutil.rmtree(field.whole / "tensorboard")
    return field

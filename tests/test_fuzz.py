"""Random damage to any file of a run gives a valid result or one sentence, never a traceback, with limited time and
memory.

TUNIT_FUZZ_SECONDS=600 runs longer, with other seeds; a failure prints its seed.
"""

import json
import math
import os
import random
import shutil
import time
from types import SimpleNamespace

import pytest
import torch

from soak.mutations import changed, swapped, with_header
from tiny_run import tiny_config, write_pictures
from tunit.clustering.choice import Candidate, Choice, read_choice_file
from tunit.config import read_config
from tunit.data.packing.packed import open_packed
from tunit.errors import TunitError
from tunit.evaluation.during_training import Evaluator
from tunit.methods.model_file import load_model
from tunit.printing import show
from tunit.reporting.contents import read_metrics
from tunit.reporting.evaluation_file import evaluation_of
from tunit.training.checkpoint import load_newest
from tunit.training.initial_state import new_state
from tunit.training.launch import start_run
from tunit.training.run_folder import RunFolder, check_same_pictures, label_names

pytestmark = pytest.mark.usefixtures("one_thread")
SECONDS = float(os.environ.get("TUNIT_FUZZ_SECONDS", "14"))
FILES = (
    "run.json", "config.toml", "pictures.csv", "metrics.jsonl", "data/index.json", "data/pictures.npy",
    "model.safetensors", "evaluation/evaluation.json", "checkpoints/step_00000002.safetensors",
)  # fmt: skip
TOML = (
    b"1" + b"0" * 400, b"1" * 5000, b"[" * 5000, b"{a={a=1}}", b"-inf", b"true", b'"x"', b"[1, 2]", b"1e400", b"nan",
    b"1979-05-27", b"[[[]]]", b'"' + b"a" * 20_000 + b'"', b'"\\u0000"', b"-1", b"9" * 11,
)  # fmt: skip
EVALUATION = {
    "figures": {"FID": {"value": 1.0, "low": 0.5, "high": 2.0, "number": 9}, "accuracy": 0.5},
    "groups": {"a": {"FID": {"value": 1.0, "low": 0.5, "high": 2.0, "number": 9}}},
    "grouped_by": "class",
    "notes": ["n"],
    "features": "random",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    start_run(
        write_pictures(folder / "pictures", 8),
        folder / "run",
        tiny_config(steps=2, guide_only_until=1),
        quiet=True,
    )
    (folder / "run" / "evaluation").mkdir()
    (folder / "run" / "evaluation" / "evaluation.json").write_text(json.dumps(EVALUATION))
    return folder / "run"


def read_all(path, state):
    """Read everything that resuming, reports and translation read from a run."""
    run = RunFolder(path)
    parts = (
        run.read_about,
        run.read_config,
        lambda: load_newest(run.checkpoints, state),
        lambda: check_same_pictures(run, open_packed(run.data)),
        lambda: load_model(path),
        lambda: read_metrics(path / "metrics.jsonl"),
        lambda: evaluation_of(run, None),
    )
    sentences = []
    for part in parts:
        try:
            part()
        except TunitError as error:
            sentences.append(str(error))
    return sentences


def test_an_undamaged_run_is_read_without_errors(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    state = new_state(RunFolder(run).read_config(), torch.device("cpu"))
    assert read_all(tmp_path / "run", state) == []


def test_no_damage_to_a_run_gives_a_traceback(run, tmp_path):
    whole = {name: (run / name).read_bytes() for name in FILES}
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    state = new_state(RunFolder(copy).read_config(), torch.device("cpu"))
    first = int(time.time()) if "TUNIT_FUZZ_SECONDS" in os.environ else 0
    end = time.monotonic() + SECONDS
    seed = first
    while time.monotonic() < end or seed < first + 2 * len(FILES):
        rng = random.Random(seed)
        name = FILES[seed % len(FILES)]
        data = whole[name]
        if name.endswith(".json") and rng.random() < 0.6:
            data = swapped(data, rng)
        elif name.endswith(".safetensors") and rng.random() < 0.6:
            data = with_header(data, rng)
        else:
            data = changed(data, rng)
        (copy / name).write_bytes(data)
        began = time.process_time()  # not the clock on the wall: the machine may be busy, or stand still
        try:
            sentences = read_all(copy, state)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {name} ends in {type(error).__name__}: {error}") from error
        assert all(len(s) < 3000 and s.isprintable() for s in sentences), (seed, name)
        assert time.process_time() - began < 60, (seed, name)
        (copy / name).write_bytes(whole[name])
        seed += 1


CHOICE = Choice(3, (Candidate(3, 0.5, {"dip": 0.5}), Candidate(4, 0.25, {"dip": 0.25})), ("a", "b"), 300, 40)
BEST_SO_FAR = {"score": "mFID", "value": 20.5, "step": 40, "features": "random-vgg16"}
NAMES = {"labels": ["cat", "dog"], "domains": ["0", "1", "2"]}


def chosen(folder, text):
    """Show the choice as `tunit domains` does."""
    (folder / "number_of_domains.json").write_bytes(text)
    choice = read_choice_file(folder)
    assert choice.domains > 0 and all(math.isfinite(c.score) for c in choice.candidates)
    show(choice.headline, *choice.reasons)


def compared(folder, text):
    """Compare a new model with the best one so far, as an evaluation during training does."""
    (folder / "best").mkdir(exist_ok=True)
    (folder / "best" / "best.json").write_bytes(text)
    evaluator = Evaluator(RunFolder(folder), SimpleNamespace(name=BEST_SO_FAR["features"]))
    score = evaluator._score({"mFID": 10.0, "FID of all": 5.0})
    assert score in (("mFID", 10.0), ("FID of all", 5.0))
    assert evaluator._is_best(*score) in (True, False)


def named(folder, text):
    """Read the names of labels in a model folder."""
    (folder / "domains.json").write_bytes(text)
    assert all(isinstance(name, str) for name in label_names(folder))


@pytest.mark.parametrize(
    ("read", "values"),
    [(chosen, CHOICE.record()), (compared, BEST_SO_FAR), (named, NAMES)],
    ids=["number_of_domains.json", "best.json", "domains.json"],
)
def test_no_damage_to_a_small_record_gives_a_traceback(tmp_path, read, values):
    text = json.dumps(values)
    read(tmp_path, text.encode())
    first = int(time.time()) if "TUNIT_FUZZ_SECONDS" in os.environ else 0
    for seed in range(first, first + round(60 * SECONDS)):
        rng = random.Random(seed)
        damaged = swapped(text, rng) if rng.random() < 0.6 else changed(text.encode(), rng)
        try:
            read(tmp_path, damaged)
        except TunitError as error:
            assert len(str(error)) < 3000 and str(error).isprintable(), seed
        except Exception as error:
            raise AssertionError(f"seed {seed} ends in {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("first", [0, 1000])
def test_no_toml_gives_a_traceback(tmp_path, first):
    text = tiny_config().to_toml().encode()
    path = tmp_path / "mine.toml"
    end = time.monotonic() + SECONDS / 5
    for seed in range(first, first + 1000):
        rng = random.Random(seed)
        lines = text.splitlines()
        if rng.random() < 0.7:
            at = rng.choice([i for i, line in enumerate(lines) if b" = " in line])
            value = rng.choice(TOML)
            lines[at] = lines[at].partition(b" = ")[0] + b" = " + value
        path.write_bytes(changed(b"\n".join(lines), rng) if rng.random() < 0.5 else b"\n".join(lines))
        try:
            read_config(str(path))
        except TunitError as error:
            assert len(str(error)) < 3000, seed
        except Exception as error:
            raise AssertionError(f"seed {seed} ends in {type(error).__name__}: {error}") from error
        if time.monotonic() > end:
            break

"""Random damage to any file of a run gives a valid result or one sentence, never a traceback, with limited time and
memory.

TUNIT_FUZZ_SECONDS=600 runs longer, with other seeds; a failure prints its seed.
"""

import json
import os
import random
import shutil
import time

import pytest
import torch

from tiny_run import tiny_config, write_pictures
from tunit.config import read_config
from tunit.data.packing.packed import open_packed
from tunit.errors import TunitError
from tunit.methods.model_file import load_model
from tunit.reporting.contents import evaluation_of, read_metrics
from tunit.training.checkpoint import load_newest
from tunit.training.initial_state import new_state
from tunit.training.launch import start_run
from tunit.training.run_folder import RunFolder, check_same_pictures

pytestmark = pytest.mark.usefixtures("one_thread")
SECONDS = float(os.environ.get("TUNIT_FUZZ_SECONDS", "20"))
FILES = (
    "run.json", "config.toml", "pictures.csv", "metrics.jsonl", "data/index.json", "data/pictures.npy",
    "model.safetensors", "evaluation/evaluation.json", "checkpoints/step_00000002.safetensors",
)  # fmt: skip
VALUES = (
    None, True, -1, 0, 2**63, 2**200, 1e308, float("nan"), float("inf"), "", "x" * 300, "\udcff", "a\0b", [], [[]],
    {}, {"a": None}, [1] * 50, "../../etc", -(2**63), 0.5,
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


def changed(data, rng):
    """The bytes after one to four random changes: bytes replaced, the end cut off, a piece repeated, removed or
    moved.
    """
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), rng.choice((20, 400, 10**9))) or 1)
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randint(1, 50)] * rng.choice((1, 3, 500))
        elif kind == 3:
            del data[at : at + rng.randint(1, 50)]
        else:
            data[at:at] = rng.choice(
                (b"[" * 3000, b"\xff\xfe", b"\0", b"9" * 5000, b"1e999", b'"', b"\n", b"{", b"-")
            )
    return bytes(data)


def places(value, found):
    """Every (container, key) inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        found.append((value, key))
        places(inner, found)
    return found


def swapped(text, rng):
    """A JSON text with one value replaced or one key removed."""
    value = json.loads(text)
    container, key = rng.choice(places(value, []))
    if rng.random() < 0.2:
        del container[key]
    else:
        container[key] = rng.choice(VALUES)
    return json.dumps(value if rng.random() < 0.95 else rng.choice(VALUES)).encode("utf-8", "replace")


def with_header(data, rng):
    """A file of tensors in which one value of its header, or of the run's description in it, is replaced."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.6:
        header["__metadata__"]["about"] = swapped(header["__metadata__"]["about"], rng).decode()
        text = json.dumps(header).encode()
    else:
        text = swapped(json.dumps(header), rng)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


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
        began = time.monotonic()
        try:
            sentences = read_all(copy, state)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {name} ends in {type(error).__name__}: {error}") from error
        assert all(len(s) < 3000 and s.isprintable() for s in sentences), (seed, name)
        assert time.monotonic() - began < 30, (seed, name)
        (copy / name).write_bytes(whole[name])
        seed += 1


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

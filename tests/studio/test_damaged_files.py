"""Damage to the files that the studio keeps in a run: a valid state or one sentence, never a traceback or a hang."""

import json
import random

import numpy as np
import pytest
import torch

from soak.guarded import in_time
from soak.mutations import changed, swapped
from tunit.errors import RunError
from tunit.files.atomic import lock, owner_of
from tunit.studio.jobs import JOB, reason_of_end, state_of, stop
from tunit.studio.labels import JOURNAL, ModelOutput, RunLabels
from tunit.studio.run_output import RunOutput, read_output, write_output

NAMES = [f"{i}.png" for i in range(8)]
LOOKED = ModelOutput(
    NAMES, [0, 0, 0, 1, 1, 1, 2, 2], [0.9, 0.8, 0.7, 0.9, 0.8, 0.7, 0.9, 0.8], domains=3, step=12
)
ACTIONS = (
    {"do": "name", "domain": 1, "name": "pear"},
    {"do": "give", "pictures": [0, 6], "domain": 1},
    {"do": "add", "name": "plum"},
    {"do": "split", "domain": 0, "part": [1]},
    {"do": "merge", "domains": [2], "into": 0},
    {"do": "undo"},
    {"do": "redo"},
    {"do": "leave_out", "pictures": [7]},
    {"do": "forget", "pictures": [7]},
    {"do": "give", "pictures": [5], "domain": 4},
)


def journal_of(folder):
    """A journal of many actions; its bytes."""
    labels = RunLabels(folder, LOOKED)
    for number, action in enumerate(ACTIONS):
        labels.act(action, number)
    return (labels.folder / JOURNAL).read_bytes()


def read_again(folder, data):
    """Write a journal and read it as a new studio does: the domains of all pictures. Raises RunError."""
    (folder / "studio" / JOURNAL).write_bytes(data)
    labels = RunLabels(folder, LOOKED)
    with in_time(10):
        assignment = labels.write_table().assignment
        assert sum(map(len, assignment.members().values())) + len(assignment.left_out) == len(NAMES)
        return [assignment.domain_of(i) for i in range(len(NAMES))]


def test_no_damage_to_the_journal_gives_a_traceback_or_a_hang(tmp_path):
    whole = journal_of(tmp_path)
    assert read_again(tmp_path, whole) == [1, 4, 0, 1, 1, 4, 1, 0]
    refused = 0
    for seed in range(150):
        rng = random.Random(seed)
        lines = whole.splitlines(keepends=True)
        at = rng.randrange(len(lines))
        lines[at] = swapped(lines[at], rng) + b"\n" if seed % 2 else changed(lines[at], rng)
        try:
            read_again(tmp_path, b"".join(lines))
        except RunError as error:
            refused += 1
            assert str(error).isprintable() and "move it away" in str(error), seed
        except Exception as error:
            raise AssertionError(f"seed {seed} ends in {type(error).__name__}: {error}") from error
    assert refused > 40


def line(**values):
    return json.dumps(values).encode() + b"\n"


@pytest.mark.parametrize(
    "damaged",
    [
        # Domains merged in a circle: a digit of a harmless entry has changed.
        line(do="name", domain=2, name="x") + line(do="merge", domains=[0], into=2),
        line(do="merge", domains=[0], into=0),
        line(do="give", pictures=[0], domain=9),
        line(do="give", pictures=[8], domain=0),
        line(do="give", pictures=[-1], domain=0),
        line(do="name", domain=1, name=5),
        line(do="name", domain=True, name="a"),
        line(do="undo") * 20,
    ],
)
def test_an_entry_that_is_impossible_is_one_sentence(tmp_path, damaged):
    whole = journal_of(tmp_path)
    with pytest.raises(RunError, match=r"move it away to begin again"):
        read_again(tmp_path, whole + damaged)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "NaN", "1e999", '"0.5"'])
def test_a_probability_that_is_no_finite_number_is_one_sentence(tmp_path, number):
    whole = journal_of(tmp_path)
    with pytest.raises(RunError, match="does not begin like a journal"):
        read_again(tmp_path, whole.replace(b"0.9", number.encode(), 1))


def test_a_damaged_record_of_the_model_s_output_is_not_used(tmp_path):
    arrays = [np.arange(8), np.zeros(8, np.int64), np.ones(8, np.float32), np.ones(8, np.float32)]
    seen = RunOutput(*arrays, torch.zeros(8, 4), np.zeros((8, 2), np.float32))
    path, about = tmp_path / "seen.safetensors", {"format": 1}
    write_output(path, seen, about)
    whole = path.read_bytes()
    assert read_output(path, about, 8, 4) is not None
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        found = read_output(path, about, 8, 4)
        assert found is None or (found.domains == 0).all(), at
    for at in range(0, len(whole), 23):
        path.write_bytes(whole[:at])
        assert read_output(path, about, 8, 4) is None
    path.unlink()
    path.mkdir()
    assert read_output(path, about, 8, 4) is None


BAD = (
    b"",
    b"[" * 5000,
    b"{" * 9000,
    b"\xff\xfe",
    b"null",
    b"[1]",
    b"1e999",
    b"9" * 5000,
    b'{"step": -1}',
    b"\0" * 99,
)


def test_the_state_of_a_training_with_damaged_files(tmp_path):
    run = tmp_path / "run"
    (run / "studio").mkdir(parents=True)
    job = json.dumps(
        {"process": 2**31 + 7, "host": "h", "born": "1", "stopped": False, "command": []}
    ).encode()
    for seed in range(150):
        rng = random.Random(seed)
        bad = rng.choice(BAD) if seed % 3 else swapped(job, rng)
        name = rng.choice(
            ("studio/job.json", "metrics.jsonl", "config.toml", "studio/train.log", ".lock", JOB)
        )
        (run / name).write_bytes(bad + rng.choice((b"", b"\n")))
        state = state_of(run)
        assert state.step == 0 and not state.runs, (seed, name)
        assert reason_of_end(run).isprintable()
        with pytest.raises(RunError, match="is not in training"):
            stop(run)


@pytest.mark.parametrize(
    "bad", [*BAD, b'{"process": 1e999, "host": 3}', b'{"process": 7, "host": "\\ud800"}']
)
def test_whatever_is_written_in_a_lock_it_is_held(tmp_path, bad):
    with lock(tmp_path / "a") as without:
        assert without == ""
        (tmp_path / "a").write_bytes(bad)
        owner = owner_of(tmp_path / "a")
        assert owner is not None and "process" in owner
        with pytest.raises(RunError, match="is in use by") as refused, lock(tmp_path / "a"):
            pass
        assert str(refused.value).isprintable()

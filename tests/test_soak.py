"""The short form of `make soak`: each kind of accident once. The result must be the same as without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = ("kills", "signals", "disks", "misfortunes")


@pytest.fixture(scope="module")
def promises(tmp_path_factory):
    """The rows of the ledger, one for each promise. One process tests all of them; the others are forked from it."""
    out = tmp_path_factory.mktemp("soak") / "soak.json"
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    words = [sys.executable, "-m", "soak", "--scale", "0", "--seed", "3", "--out", str(out), "--only", *SHORT]
    job = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )
    assert out.exists(), job.stdout + job.stderr
    return json.loads(out.read_text())["promises"]


def test_every_promise_holds(promises):
    broken = [f"{row['name']}: {row['why']}" for row in promises if not row["holds"]]
    assert broken == []


def test_every_kind_was_tried(promises):
    names = [row["name"] for row in promises]
    for kind in ("kill -9 before", "SIGTERM", "full disk"):
        assert len([name for name in names if name.startswith(kind)]) == 4
    assert {"two trainings, one folder", "pictures that go", "clocks"} <= set(names)
    assert sum(row["figures"].get("refused", 0) for row in promises) >= 2

"""A full disk during training: one sentence, an undamaged checkpoint, and a run that can be resumed when there is
space.
"""

import errno
import os
import re
import sys

import pytest
import torch

from tiny_run import tiny_config, write_pictures
from tunit.errors import TrainingError
from tunit.networks.tensor_file import read_tensors
from tunit.training.checkpoint import checkpoints, state_tensors
from tunit.training.launch import resume_run, start_run

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="a file's name is asked of Linux"),  # noqa: PTH110
]
SETTINGS = {"log_every": 2, "sample_every": 3, "checkpoint_every": 4}
FULL_AFTER = 6  # steps


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Pictures, and the state after a training with enough space."""
    folder = tmp_path_factory.mktemp("whole")
    pictures = write_pictures(folder / "pictures", 12)
    return pictures, start_run(pictures, folder / "run", tiny_config(**SETTINGS), quiet=True)


def start(pictures, run, fill):
    """Train and call `fill` after step FULL_AFTER; returns the error message."""

    def evaluate(state):
        if state.step == FULL_AFTER:
            fill()
        return {}

    with pytest.raises(TrainingError) as caught:
        start_run(pictures, run, tiny_config(**SETTINGS), quiet=True, evaluate=evaluate, evaluate_every=1)
    return str(caught.value)


def check(run, whole, sentence, last):
    """The message names the last saved step, and its checkpoint is complete. After a resume the run ends as it
    should.
    """
    assert sentence.endswith(f"then resume after step {last} with `tunit train --resume {run}`")
    assert len(sentence.splitlines()) == 1
    newest = checkpoints(run / "checkpoints")[-1]
    assert newest.stem == f"step_{last:08d}"
    for checkpoint in checkpoints(run / "checkpoints"):
        read_tensors(checkpoint)  # raises an error if it is damaged
    assert not list(run.rglob("*.partial"))
    resumed, expected = state_tensors(resume_run(run, quiet=True)), state_tensors(whole[1])
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("file", "last"),
    [
        (r"checkpoints/", 4),
        (r"metrics\.jsonl", 8),
        (r"tensorboard/", 8),
        (r"samples/", 6),
        (r"run/\.tunit\.[^/]+\.partial", 8),  # the model and the files next to it
    ],
    ids=["checkpoint", "metrics", "events", "samples", "model"],
)
def test_a_file_that_is_too_large_for_the_disk(tmp_path, monkeypatch, whole, file, last):
    full, flush = [], os.fsync

    def fsync(number):
        if full and re.search(file, os.readlink(f"/proc/self/fd/{number}")):  # noqa: PTH115 (no path of a file)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(number)

    monkeypatch.setattr(os, "fsync", fsync)
    sentence = start(whole[0], tmp_path / "run", lambda: full.append(True))
    assert "No space left on device" in sentence
    full.clear()
    check(tmp_path / "run", whole, sentence, last)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_no_file_can_be_written_any_more(tmp_path, whole):
    """The process limit on file size is set, so the system refuses each write."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        sentence = start(
            whole[0], tmp_path / "run", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in sentence
    check(tmp_path / "run", whole, sentence, 4)

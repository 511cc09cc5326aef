"""A full or failing disk during training: one sentence, an undamaged checkpoint, and a run that can be resumed when
the disk works again.
"""

import errno
import itertools
import os
import re
import sys

import pytest
import torch

from tiny_run import tiny_config, write_pictures
from tunit.data.batching import batches
from tunit.data.batching.batches import Batches
from tunit.data.packing.pack_settings import pack_settings
from tunit.data.packing.search import Search
from tunit.data.packing.shards import pack_shards
from tunit.errors import TrainingError
from tunit.methods import final_domains
from tunit.networks.tensor_file import read_tensors
from tunit.training.checkpoint import checkpoints, state_tensors
from tunit.training.launch import resume_run, start_run

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="a file's name is asked of Linux"),  # noqa: PTH110
]
SETTINGS = {"log_every": 2, "sample_every": 3, "checkpoint_every": 4}
FULL_AFTER = 6  # steps, with their samples; the next samples are those of step 9


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
        (r"samples/", 9),
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


def unreadable(real, call, why):
    """The function `real`, except that one call of it (the first is 1) cannot read the pictures; why: the error."""
    calls = itertools.count(1)

    def called(*given):
        if next(calls) == call:
            raise OSError(why, os.strerror(why))
        return real(*given)

    return called


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (errno.EIO, "[Errno 5] Input/output error): check the disk or network"),
        # As on a network share whose rights have run out: it might also come from writing.
        (errno.EACCES, "[Errno 13] Permission denied): free some disk space or make the folder writable"),
    ],
    ids=["disk", "rights"],
)
@pytest.mark.parametrize(
    ("place", "name", "call", "last"),
    [
        (Batches, "_chosen", 6, "after step 7"),  # the neighbours of the pictures of step 8
        (final_domains, "settle_domains", 1, "after step 5"),  # after step 9, the last one of E alone
    ],
    ids=["neighbours", "domains"],
)
def test_after_pictures_that_could_not_be_read_the_run_resumes_as_if_nothing_had_happened(
    place, name, call, last, why, said, tmp_path, monkeypatch
):
    pictures = write_pictures(tmp_path / "pictures", 12)
    config = tiny_config(neighbours=2, neighbours_from=0.2, guide_only_until=9)
    expected = state_tensors(start_run(pictures, tmp_path / "whole", config, quiet=True))
    run = tmp_path / "run"
    with monkeypatch.context() as failing:
        failing.setattr(place, name, unreadable(getattr(place, name), call, why))
        with pytest.raises(TrainingError) as caught:
            start_run(pictures, run, config, quiet=True)
    assert (
        str(caught.value) == f"training stopped ({said}, then resume {last} with `tunit train --resume {run}`"
    )
    resumed = state_tensors(resume_run(run, quiet=True))
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def damage(shard):
    """Returns a function that undoes it."""
    whole = shard.read_bytes()
    shard.write_bytes(bytes(len(whole)))
    return lambda: shard.write_bytes(whole)


def take_away(shard):
    """As `damage`."""
    away = shard.rename(shard.with_suffix(".away"))
    return lambda: away.rename(shard)


@pytest.mark.parametrize("far", [False, True], ids=["folder", "store"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            take_away,
            r"cannot be used \(.*\): if the folder of the shards was moved, leave a link to it in the old place.*",
        ),
        (
            damage,
            "does not hold .*: the shards are damaged, or were replaced, so restore them, or remove this one and "
            "prepare them again",
        ),
    ],
    ids=["lost", "damaged"],
)
def test_shards_that_can_no_longer_be_read(spoil, said, far, tmp_path, monkeypatch, whole):
    """Pictures are read batch by batch, and a shard is lost between two checkpoints."""
    monkeypatch.setattr(batches, "room_for_pictures", lambda *_: 0)
    monkeypatch.setenv("TUNIT_SHARD_CACHE_GB", "0")
    folder, run, undo = tmp_path / "shards", tmp_path / "run", []
    pack_shards(Search(whole[0], pack_settings(tiny_config())), folder, 4, workers=1)
    if far:
        pytest.importorskip("fsspec")
    source = f"file://{folder}" if far else folder
    sentence = start(source, run, lambda: undo.append(spoil(folder / "shard-000001.tar")))
    assert re.search(said + ", then resume", sentence)
    assert "same command" not in sentence
    last = int(re.search(r"after step (\d+)", sentence).group(1))
    assert last >= FULL_AFTER  # checkpoints are written every four steps
    undo[0]()
    check(run, whole, sentence, last)

"""What a rank does while it waits for rank 0."""

import subprocess
import sys

import pytest
import torch
from torch.distributed import HashStore

from tiny_run import tiny_config, write_pictures
from tunit.data.packing import packed
from tunit.distributed import collectives, launcher, process_group
from tunit.errors import ConfigError, EndedInOtherProcesses
from tunit.training import all_ranks
from tunit.training.launch import start_run
from tunit.training.run_folder import RunFolder

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch was built without its processes"
)


@pytest.fixture
def store(monkeypatch):
    """This process is rank 1 of two on the same machine."""
    store = HashStore()
    monkeypatch.setattr(process_group, "_store", store)
    monkeypatch.setattr(process_group, "_turns", 0)
    for module in (process_group, launcher):
        monkeypatch.setattr(module, "world_size", lambda: 2)
    monkeypatch.setattr(process_group, "rank", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    return store


def ended_process():
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return str(process.pid)


def test_the_wait_for_a_rank_0_that_has_died_ends(store, monkeypatch):
    store.set(process_group.RANK_ZERO_PROCESS, ended_process())
    with pytest.raises(process_group.RankZeroGoneError):
        process_group.wait_for_rank_zero()
    # its launcher has seen the death, so this rank does not wait to be ended
    monkeypatch.setattr(process_group.time, "sleep", lambda seconds: pytest.fail("waited"))
    monkeypatch.setenv(process_group.LAUNCHED, "1")
    reported = process_group._reported_by_one_rank(process_group.RankZeroGoneError("rank 0 has died"))
    assert isinstance(reported, EndedInOtherProcesses) and reported.exit_code == 2


def test_a_rank_0_on_another_machine_is_waited_for(store, monkeypatch):
    store.set(process_group.RANK_ZERO_PROCESS, ended_process())
    monkeypatch.setenv("LOCAL_RANK", "0")
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            store.set("turn/1", "done")

    monkeypatch.setattr(process_group.time, "sleep", sleep)
    process_group.wait_for_rank_zero()
    assert looks == pytest.approx([0.01, 0.011, 0.0121])


def test_without_a_gradient_there_is_nothing_to_sum(monkeypatch):
    """If all losses of a network have a weight of 0. The same on every rank, so none waits for another."""
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    parameter = torch.nn.Parameter(torch.zeros(2))
    collectives.reduce_gradients([parameter])
    assert parameter.grad is None


def test_the_other_ranks_do_not_check_the_pack_again(tmp_path, monkeypatch):
    """Rank 0 has just done so."""
    start_run(write_pictures(tmp_path / "p"), tmp_path / "run", tiny_config(steps=1), quiet=True)
    monkeypatch.setattr(packed, "hash_of", lambda picture: pytest.fail("hashed a picture"))
    monkeypatch.setattr(all_ranks, "train", lambda config, run, pictures, **_: pictures)
    plan = all_ranks.TrainingPlan(None, 0, quiet=True)
    assert len(all_ranks.follow_rank_zero(RunFolder(tmp_path / "run"), plan).images) == 20


def test_a_process_group_of_the_caller_is_refused(monkeypatch):
    """Ranks could not wait for rank 0 in it, and rank 0 could not work alone."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with (
        pytest.raises(ConfigError, match=r"call torch\.distributed\.destroy_process_group\(\) first"),
        process_group.process_group(torch.device("cpu")),
    ):
        pass

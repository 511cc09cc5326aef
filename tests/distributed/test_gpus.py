"""Which GPU each process takes, without a GPU."""

import pytest
import torch

from tiny_run import tiny_config
from tunit.distributed import process_group as group
from tunit.distributed.gpus import own_gpu
from tunit.distributed.process_group import process_group
from tunit.errors import ConfigError, EndedInOtherProcesses
from tunit.training import resources
from tunit.training.processes import check_processes

CONFIG = tiny_config(processes=4, device="cuda", batch_size=4, guide_only_batch_size=8)


@pytest.fixture
def launched(monkeypatch):
    """A function that makes this process one of four on a machine with so many GPUs; returns those it takes."""

    def launch(local, gpus, torchrun):
        about = {"WORLD_SIZE": 4, "RANK": local, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": 4}
        for name, value in about.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
        if torchrun:
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
        taken = []

        def set_device(number):
            assert number < gpus, "CUDA error: invalid device ordinal"
            taken.append(number)

        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "set_device", set_device)
        monkeypatch.setattr(group, "choose_interface", lambda: None)
        monkeypatch.setattr(group, "_end_with_launcher", lambda: None)
        monkeypatch.setattr(group, "_meet", lambda cuda: None)
        monkeypatch.setattr(group.dist, "destroy_process_group", lambda: None)
        return taken

    return launch


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its processes")
@pytest.mark.parametrize(
    ("local", "gpus", "torchrun", "own"),
    [(3, 4, True, 3), (3, 8, False, 3), (3, 1, False, 0), (0, 1, False, 0)],
    ids=["torchrun", "all are seen", "only one is seen", "only one is seen by the first"],
)
def test_each_process_takes_its_own_gpu(launched, monkeypatch, local, gpus, torchrun, own):
    taken = launched(local, gpus, torchrun)
    with process_group(torch.device("cuda")):
        check_processes(CONFIG)
    assert taken == [own] == [own_gpu()]
    monkeypatch.setattr(resources, "ranks_of_machine", lambda: 4)
    monkeypatch.setattr(resources, "choose_device", torch.device)
    assert resources.prepare_machine(CONFIG) == torch.device("cuda", own)


@pytest.mark.parametrize(("gpus", "said"), [(1, "1 GPU:"), (2, "2 GPUs:"), (0, "0 GPUs:")])
def test_fewer_gpus_than_processes_are_one_sentence_of_the_first_process(launched, gpus, said):
    launched(0, gpus, True)
    sentence = f"^4 processes train on this machine, but torch sees {said} start at most as many"
    with pytest.raises(ConfigError, match=sentence), process_group(torch.device("cuda")):
        pass
    with pytest.raises(ConfigError, match=f"torch sees {gpus} GPUs"):
        check_processes(CONFIG)
    for local in (1, 3):
        launched(local, gpus, True)
        with pytest.raises(EndedInOtherProcesses) as ended, process_group(torch.device("cuda")):
            pass
        assert ended.value.exit_code == 2


def test_without_the_number_of_local_processes_each_without_a_gpu_says_so(launched, monkeypatch):
    """The first process has a GPU and says nothing: it would wait for the others."""
    launched(3, 2, False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    with (
        pytest.raises(ConfigError, match="4 processes train on this machine, but torch sees 2 GPUs"),
        process_group(torch.device("cuda")),
    ):
        pass


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its processes")
@pytest.mark.parametrize("first", [True, False])
def test_processes_on_the_same_gpu_are_one_sentence(launched, monkeypatch, first):
    """srun without --gpus-per-task shows all processes of a machine its only GPU."""
    launched(0, 1, False)
    monkeypatch.setattr(group, "_is_first_to_report", lambda: first)
    error = torch.distributed.DistBackendError(
        "NCCL error, invalid usage\nLast error:\nDuplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"
    )
    expected = (
        pytest.raises(ConfigError, match="use the same GPU")
        if first
        else pytest.raises(EndedInOtherProcesses)
    )
    with expected, process_group(torch.device("cuda")):
        raise error

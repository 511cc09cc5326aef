"""The network interface of processes that train together."""

import os
import subprocess
import sys

import pytest
import torch

from tunit.distributed import process_group as group
from tunit.distributed.process_group import process_group
from tunit.errors import TrainingError

# Python puts None into sys.modules for a module that must not be found.
WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None
import tunit.demo, tunit.reporting.write, tunit.training.launch, tunit.translation.translator
"""


def test_windows_which_has_no_fcntl_can_import_everything():
    done = subprocess.run([sys.executable, "-c", WITHOUT_FCNTL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its processes")
@pytest.mark.parametrize("port", ["abc", "99999", "-5", "1e3"])
def test_an_impossible_port_is_one_sentence(monkeypatch, port):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    about = {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
    }
    for name, value in about.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(
            TrainingError, match=rf"did not find each other \(.*{port}.*: check the address and port"
        ),
        process_group(torch.device("cpu")),
    ):
        pass
    assert "GLOO_SOCKET_IFNAME" not in os.environ


@pytest.mark.skipif(sys.platform != "linux", reason="the interface is chosen only on Linux")
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its processes")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_interface_of_gloo_is_chosen_also_with_gpus(monkeypatch, device):
    """Numbers that all ranks must know go through gloo on any device."""
    done = []
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(group, "choose_interface", lambda: done.append("chosen"))
    monkeypatch.setattr(group, "_meet", lambda cuda: done.append("met"))
    monkeypatch.setattr(group.dist, "destroy_process_group", lambda: None)
    with process_group(torch.device(device)):
        pass
    assert done == ["chosen", "met"]

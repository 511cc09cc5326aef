import platform
import subprocess
import sys
import threading

import pytest
import torch

from tunit.config import Config
from tunit.errors import ConfigError
from tunit.machine import check_threads, choose_device, choose_precision
from tunit.training.resources import resolve_machine


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_one_sentence(name):
    with pytest.raises(ConfigError, match=f"device is '{name}'"):
        choose_device(name)


def test_auto_takes_a_gpu_where_there_is_one():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_machine_is_resolved_once_and_for_all():
    config = resolve_machine(Config())
    assert config.run.threads >= 1
    assert config.run.precision in ("float32", "bfloat16")
    assert resolve_machine(config) == config
    assert choose_precision("bfloat16", torch.device("cpu")) == "bfloat16"


KEPT = """
import resource, torch
from tunit.machine import keep_freed_memory
torch.set_num_threads(1)
keep_freed_memory()
found = []
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.full((1 << 22,), 1.0) for _ in range(8)]
    del tensors
    found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(found))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is a setting of glibc")
def test_freed_memory_is_kept():
    out = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True).stdout
    assert int(out) < 100  # of 32,768 pages


def test_threads_that_the_system_refuses_are_one_sentence(monkeypatch):
    begin = threading.Thread.start

    def refuse_after_3(thread, started=[]):  # noqa: B006 (counts the calls)
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_after_3)
    with pytest.raises(ConfigError, match=r"threads is 500, .* 3 more at most: lower --threads"):
        check_threads(500)
    monkeypatch.undo()
    check_threads(20)

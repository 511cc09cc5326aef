import platform
import subprocess
import sys
import threading

import pytest
import torch

from tunit.config import Config
from tunit.errors import ConfigError
from tunit.machine import (
    UNKNOWN,
    available_bytes,
    check_threads,
    choose_device,
    choose_precision,
    without_tf32,
)
from tunit.training.resources import resolve_machine


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", "cuda:99", "meta"])
def test_a_missing_device_is_one_sentence(name):
    with pytest.raises(ConfigError, match=f"device is '{name}'"):
        choose_device(name)


@pytest.mark.parametrize(
    ("number", "end"),
    [(1, "torch sees 1 xpu device: take xpu:0, or cpu"), (2, "2 xpu devices: take xpu:0 to xpu:1, or cpu")],
)
def test_a_device_number_that_is_too_large_is_told_with_those_that_exist(number, end, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("xpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: number)
    with pytest.raises(ConfigError, match=f"device is 'xpu:7', but .*{end}$"):
        choose_device("xpu:7")


@pytest.mark.parametrize("number", [2, 127, 128, 200, 255, 256, 257, 70_000])
def test_a_large_device_number_does_not_mean_another_gpu(number, monkeypatch):
    """torch keeps 8 bits of the number, so that its cuda:257 is cuda:1."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(
        ConfigError, match=f"device is 'cuda:{number}', but .*: take cuda:0 to cuda:1, or cpu$"
    ):
        choose_device(f"cuda:{number}")


@pytest.mark.parametrize("number", [128, 256])
def test_a_large_number_of_another_accelerator_is_refused_too(number, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("xpu"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert choose_device("xpu:1") == torch.device("xpu", 1)
    with pytest.raises(ConfigError, match=f"device is 'xpu:{number}'"):
        choose_device(f"xpu:{number}")


def test_auto_chooses_a_gpu_if_there_is_one():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_resolving_the_machine_twice_changes_nothing():
    config = resolve_machine(Config())
    assert config.run.threads >= 1
    assert config.run.precision in ("float32", "bfloat16")
    assert resolve_machine(config) == config
    assert choose_precision("bfloat16", torch.device("cpu")) == "bfloat16"


def write_system(root, cgroup, files, free=16_000_000):
    """A file system that reports this much memory; free in kB."""
    texts = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {free} kB\n", "proc/self/cgroup": cgroup}
    for name, text in (texts | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))
    return root


def version_2(limit, used, inactive=0, active=0):
    stat = f"anon 1\ninactive_file {inactive}\nactive_file {active}\n"
    return {"memory.max": f"{limit}\n", "memory.current": f"{used}\n", "memory.stat": stat}


def version_1(limit, used, inactive=0, active=0):
    stat = f"inactive_file 1\ntotal_inactive_file {inactive}\ntotal_active_file {active}\n"
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}


def within(folder, files):
    return {f"{folder}/{name}": text for name, text in files.items()}


@pytest.mark.parametrize(
    ("cgroup", "files", "left"),
    [
        ("", {}, 16_384_000_000),
        ("0::/\n", version_2("max", 7), 16_384_000_000),
        ("0::/\n", version_2(2000, 700, 50, 100), 1450),  # the cache of files counts as free
        ("0::/job/step\n", within("job/step", version_2(2000, 700)), 1300),
        # The limit of an outer group applies to everything in it.
        ("0::/job/step\n", within("job/step", version_2(9000, 0)) | within("job", version_2(5000, 4000)), 1000),
        ("0::/job\n", within("job", version_2(1000, 1200)), 0),
        ("4:memory:/job\n3:cpu:/job\n", within("memory/job", version_1(2000, 700, 0, 10)), 1310),
        # a path of the host that is not visible here
        ("4:cpu,memory:/job\n", within("memory", version_1(3000, 1000)), 2000),
        ("4:memory:/\n0::/\n", within("memory", version_1(2**63 - 4096, 7)), 16_384_000_000),
        ("0::/../../other\n", version_2(2000, 700), 1300),
        ("nonsense\n::::\n0::/\n", {"memory.max": "many", "memory.current": "", "memory.stat": "a"}, 16_384_000_000),
    ],
)  # fmt: skip
def test_available_memory_is_the_smallest_of_machine_and_cgroups(tmp_path, cgroup, files, left):
    assert available_bytes(write_system(tmp_path, cgroup, files)) == left


def test_if_no_file_reports_memory_a_default_is_assumed(tmp_path):
    assert available_bytes(tmp_path) == UNKNOWN
    assert available_bytes() > 0


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
def test_freed_memory_is_kept_by_the_process():
    out = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True).stdout
    assert int(out) < 100  # 32,768 pages are used


def test_threads_refused_by_the_system_are_one_sentence(monkeypatch):
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


TF32 = """
import torch
from tunit.machine import without_tf32

cudnn = torch.backends.cudnn


def now():
    try:
        return cudnn.allow_tf32, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    except RuntimeError:
        return None, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


def check():
    before = now()
    try:
        with without_tf32():
            assert cudnn.conv.fp32_precision != "tf32", before
            raise KeyError
    except KeyError:
        pass
    assert now() == before, (now(), before)


check()
cudnn.allow_tf32 = False
check()
cudnn.allow_tf32 = True
check()
cudnn.conv.fp32_precision = "ieee"
check()
cudnn.conv.fp32_precision = "tf32"
cudnn.rnn.fp32_precision = "ieee"
check()
"""


def test_tf32_is_off_inside_and_as_before_afterwards():
    subprocess.run(
        [sys.executable, "-c", TF32], check=True
    )  # another process, because the settings are global


def test_tf32_stays_off_until_the_last_of_several_threads_has_left(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    entered, may_leave, seen = threading.Event(), threading.Event(), []

    def second():
        with without_tf32():
            entered.set()
            may_leave.wait(60)
            seen.append(torch.backends.cudnn.allow_tf32)

    thread = threading.Thread(target=second)
    with without_tf32():
        thread.start()
        entered.wait(60)
    seen.append(torch.backends.cudnn.allow_tf32)  # the first has left, the second has not
    may_leave.set()
    thread.join(60)
    assert seen == [False, False]
    assert torch.backends.cudnn.allow_tf32

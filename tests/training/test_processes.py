"""Several processes that train together take the same steps as one, and leave no process behind."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from shared_steps import CASES, chosen_head, share_the_steps, three_steps
from tiny_run import STEPS, flags, tiny_config, write_pictures
from tunit.data.batches import Batches
from tunit.errors import ConfigError, TrainingError
from tunit.networks.tensor_file import read_tensors
from tunit.training import processes
from tunit.training.launch import resume_run, start_run
from tunit.training.processes import check_processes
from tunit.training.resources import resolve_machine

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its processes"),
]


@pytest.fixture(scope="module", params=[2, 3])
def shared(request, tmp_path_factory):
    """What each of several processes has at the end of each case."""
    folder, number = tmp_path_factory.mktemp("shared"), request.param
    spawn(share_the_steps, (number, str(folder)), number, daemon=True)  # raises what one of them does
    return [torch.load(folder / f"{rank}.pt") for rank in range(number)]


@pytest.mark.parametrize("name", CASES)
def test_steps_of_several_processes_equal_those_of_one_with_the_whole_batch(shared, name):
    expected = three_steps(name)
    for tensors in (each[name] for each in shared):
        assert tensors.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(tensors[key], value, rtol=1e-7, atol=1e-9, msg=key)


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_have_the_same_weights_to_the_last_bit(shared, name):
    first, *others = (each[name] for each in shared)
    for other in others:
        for key, value in first.items():
            assert torch.equal(other[key], value), key


def test_the_domain_head_that_they_choose_is_that_of_one_process(shared):
    expected = chosen_head()
    assert expected["information"].argmax() > 0  # heads change places
    for each in shared:
        for name, value in expected.items():
            torch.testing.assert_close(each["chosen head"][name], value, rtol=1e-9, atol=1e-12)


def latest(run):
    tensors, about = read_tensors(max((run / "checkpoints").iterdir()))
    return tensors, about["step"]


def test_a_run_of_two_goes_through_every_phase_and_writes_once(tmp_path):
    pictures = write_pictures(tmp_path / "pictures")
    state = start_run(pictures, tmp_path / "run", tiny_config(processes=2), quiet=True)
    assert state.step == STEPS
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"model.safetensors", "samples"}
    assert not multiprocessing.active_children()


def test_all_processes_stop_after_the_same_step_and_the_run_resumes_exactly(tmp_path):
    """SIGTERM to rank 0; then new processes take the rest of the steps."""
    pictures = write_pictures(tmp_path / "pictures")
    steps = {
        "steps": 400,
        "guide_only_until": 300,
        "average_from": 350,
        "checkpoint_every": 500,
        "sample_every": 0,
    }
    words = [
        sys.executable,
        "-m",
        "tunit",
        "train",
        str(pictures),
        "--preset",
        "paper",
        *flags(processes=2, **steps),
    ]
    process = subprocess.Popen([*words, "--out", str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "run/metrics.jsonl"
    while not (metrics.is_file() and metrics.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "all saved" in said
    step = latest(tmp_path / "run")[1]
    assert 3 <= step < 400
    resume_run(tmp_path / "run", overrides={"steps": str(step + 2)}, quiet=True)
    start_run(
        pictures, tmp_path / "through", tiny_config(processes=2, **steps | {"steps": step + 2}), quiet=True
    )
    for name, tensor in latest(tmp_path / "through")[0].items():
        assert torch.equal(latest(tmp_path / "run")[0][name], tensor), name


def test_the_number_of_processes_may_change_when_a_run_resumes(tmp_path):
    pictures = write_pictures(tmp_path / "pictures")
    start_run(pictures, tmp_path / "run", tiny_config(processes=2, steps=5), quiet=True)
    state = resume_run(tmp_path / "run", overrides={"processes": "1", "steps": "7"}, quiet=True)
    assert state.step == 7


def test_a_worker_that_dies_ends_the_training_with_one_sentence(tmp_path):
    pictures = write_pictures(tmp_path / "pictures")
    killed = []

    def kill_one(state):
        (victim,) = multiprocessing.active_children()
        os.kill(victim.pid, signal.SIGKILL)
        killed.append(victim)
        return {}

    with pytest.raises(TrainingError, match=r"process 2 of 2 ended early \(exit code -9\): .* --resume"):
        start_run(
            pictures,
            tmp_path / "run",
            tiny_config(processes=2, steps=50, guide_only_until=50, average_from=50),
            evaluate=kill_one,
            evaluate_every=8,
            quiet=True,
        )
    assert not killed[0].is_alive()
    assert not torch.distributed.is_initialized()
    assert latest(tmp_path / "run")[1] == 5


def test_rank_zero_exits_when_a_worker_has_failed(monkeypatch, capfd, tmp_path):
    ended = []
    process = multiprocessing.get_context("spawn").Process(target=os._exit, args=(3,))
    process.start()
    process.join()
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(processes.os, "_exit", lambda code: ended.append(code) or sys.exit(code))
    with pytest.raises(SystemExit):
        processes.exit_when_worker_fails(
            [process], processes.RunFolder(tmp_path), processes.threading.Event()
        )
    assert ended == [2]
    assert "process 2 of 2 ended early (exit code 3)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            {"batch_size": 5},
            "batch_size is 5, which 2 processes cannot share evenly: set --batch-size to a multiple of 2",
        ),
        ({"guide_only_batch_size": 7}, "guide_only_batch_size is 7"),
        ({"compile": 1}, "set --compile false, or --processes 1"),
        ({"method": "funit"}, "method 'funit' supports only one"),
        ({"device": "cuda"}, "torch sees 0 GPUs"),
    ],
)
def test_configs_that_several_processes_cannot_train_are_refused(overrides, sentence, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=sentence):
        check_processes(tiny_config(processes=2, **overrides))
    check_processes(tiny_config(**overrides))


def test_processes_0_means_one_per_gpu(monkeypatch):
    assert resolve_machine(tiny_config(processes=0)).run.processes == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    config = tiny_config(processes=0, device="cuda", precision="float32")
    assert resolve_machine(config).run.processes == 3


def test_each_rank_draws_its_part_of_the_same_batch(monkeypatch):
    images = torch.randint(0, 256, (12, 32, 32, 3), dtype=torch.uint8).numpy()
    labels = torch.arange(12).numpy()
    batches = Batches(images, labels, tiny_config().augment, seed=0, device=torch.device("cpu"))
    whole, parts = batches.draw(3, 6, {}), []
    monkeypatch.setattr("tunit.distributed.world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr("tunit.distributed.rank", lambda rank=rank: rank)
        parts.append(batches.draw(3, 6, {}))
    assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
    assert torch.equal(torch.cat([part.x_plus for part in parts]), whole.x_plus)
    assert all(torch.equal(part.y, whole.y) for part in parts)

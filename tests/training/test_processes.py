"""Several processes that train together take the same steps as one process."""

import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import spawn

import shared_steps
from shared_steps import (
    BASELINES,
    CASES,
    SPOILT,
    chosen_head,
    found_neighbours,
    kept_domains,
    neighbours_by_features,
    share_the_steps,
    three_steps,
    three_steps_of_each_phase,
)
from spoilt import PLACES
from tiny_run import STEPS, tiny_config, write_pictures
from tunit.data.batching import augment
from tunit.data.batching.augment import jitter
from tunit.data.batching.batches import Batches
from tunit.errors import ConfigError
from tunit.networks.tensor_file import read_tensors
from tunit.training.checkpoint import checkpoints
from tunit.training.processes import check_processes
from tunit.training.resources import resolve_machine

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its processes"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", params=[2, 3])
def shared(request, tmp_path_factory):
    """The final state of each process, for each case."""
    folder, number = tmp_path_factory.mktemp("shared"), request.param
    write_pictures(folder / "pictures")
    spawn(
        share_the_steps, (number, free_port(), str(folder)), number, daemon=True
    )  # raises the error of any of them
    return [torch.load(folder / f"{rank}.pt") | {"folder": str(folder)} for rank in range(number)]


alone = functools.cache(three_steps)  # by one process, for either number of processes


def compared(found, expected):
    for tensors in found:
        assert tensors.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(tensors[key], value, rtol=1e-7, atol=1e-9, msg=key)


@pytest.mark.parametrize("name", [*CASES, *BASELINES])
def test_steps_of_several_processes_equal_those_of_one_with_the_whole_batch(shared, name):
    compared([each[name] for each in shared], alone(name))


def test_compiled_steps_of_several_processes_equal_uncompiled_ones_of_one(shared):
    if "compiled" in shared[0]:
        compared([each["compiled"] for each in shared], alone("no labels"))


@pytest.mark.parametrize("name", [*CASES, *BASELINES])
def test_all_ranks_have_identical_weights(shared, name):
    first, *others = (each[name] for each in shared)
    for other in others:
        for key, value in first.items():
            assert torch.equal(other[key], value), key


def test_the_processes_choose_the_same_domain_head_as_one_process(shared):
    expected = chosen_head()
    assert expected["information"].argmax() > 0  # heads are exchanged
    for each in shared:
        for name, value in expected.items():
            torch.testing.assert_close(each["chosen head"][name], value, rtol=1e-9, atol=1e-12)


def test_all_ranks_take_the_neighbours_that_rank_0_finds(shared):
    expected, measures = found_neighbours()
    assert [torch.equal(each["neighbours"][0], expected) for each in shared] == [True] * len(shared)
    assert measures and [each["neighbours"][1] for each in shared] == [measures] + [[]] * (len(shared) - 1)


def test_only_rank_0_loads_the_feature_network_and_all_take_its_neighbours(shared):
    expected, measures = neighbours_by_features()
    assert "features" in measures
    found = [each["neighbours by features"] for each in shared]
    assert [torch.equal(table, expected) for table, _ in found] == [True] * len(shared)
    assert [names for _, names in found] == [measures] + [[]] * (len(shared) - 1)


def test_all_ranks_keep_the_domains_that_e_has_on_rank_0(shared):
    expected = kept_domains()
    assert len(expected.unique()) > 1
    assert [torch.equal(each["kept domains"], expected) for each in shared] == [True] * len(shared)


def test_all_ranks_start_with_the_weights_of_rank_0(shared):
    if "first weights" not in shared[0]:
        pytest.skip("of three it would not tell more")
    first, other = (each["first weights"] for each in shared)
    assert [name for name, value in first.items() if not torch.equal(other[name], value)] == []


@pytest.fixture(scope="module")
def spoilt(shared):
    """From two processes: the folder of the trainings with a NaN on one rank, and what each rank has."""
    if "spoilt" not in shared[0]:
        pytest.skip("of three it would not tell more")
    return Path(shared[0]["folder"]), [each["spoilt"] for each in shared]


@pytest.mark.parametrize("place", [place for place, on_nan in SPOILT if on_nan == "stop"])
def test_a_nan_on_one_rank_stops_all_and_is_in_no_file(spoilt, place):
    folder, ranks = spoilt
    run = folder / "spoilt" / f"{place}, stop"
    first, *others = (each[run.name] for each in ranks)
    assert others == [first]
    assert re.match(rf"{PLACES[place][1]} at step 8; .*step_00000005", first)
    assert_finite(run)
    (kept,) = (run / "non_finite").glob("*.safetensors")
    assert str(kept) in first
    tensors, about = read_tensors(kept)
    assert (about["step"], about["checkpoint"]) == (8, "step_00000005.safetensors")
    assert tensors["x"].shape == tensors["x_plus"].shape == (4, 3, 32, 32)  # the pictures of all ranks
    wrong = [i for i, picture in enumerate(tensors["x_plus"]) if not picture.isfinite().all()]
    assert wrong == ([2] if place == "picture" else [])


@pytest.mark.parametrize("place", [place for place, on_nan in SPOILT if on_nan == "rollback"])
def test_all_ranks_go_back_together_and_continue_with_the_same_weights(spoilt, place):
    folder, ranks = spoilt
    run = folder / "spoilt" / f"{place}, rollback"
    first, other = (each[run.name] for each in ranks)
    # Six pictures per step for four steps, then four per step. The pictures of steps 6 to 8 are not drawn again.
    assert first["counters"] == other["counters"]
    assert first["counters"] == {"step": STEPS, "rollbacks": 1, "drawn": 4 * 6 + (4 + 7) * 4}
    assert_finite(run)
    last = read_tensors(checkpoints(run / "checkpoints")[-1])[0]
    assert last.keys() == first["tensors"].keys() == other["tensors"].keys()
    for tensors in (first["tensors"], other["tensors"]):
        assert [name for name, value in last.items() if not torch.equal(tensors[name], value)] == []


def test_pictures_that_one_rank_cannot_read_end_all_after_a_checkpoint(shared):
    if "unreadable" not in shared[0]:
        pytest.skip("of three it would not tell more")
    run = Path(shared[0]["folder"]) / "unreadable"
    sentence = (
        "process 2 of 2: the shard cannot be used: check the disk, then resume after step 7 with "
        f"`tunit train --resume {run}`"
    )
    assert shared[0]["unreadable"] == sentence
    kept = checkpoints(run / "checkpoints")[-1]
    # Six pictures per step for four steps, then four per step: those of step 8 will be drawn again.
    assert (kept.stem, read_tensors(kept)[1]["cursors"]) == ("step_00000007", {"all": 4 * 6 + 3 * 4})


def assert_finite(run):
    for path in (*checkpoints(run / "checkpoints"), run / "model.safetensors"):
        tensors = read_tensors(path)[0]
        assert all(value.isfinite().all() for value in tensors.values() if value.is_floating_point()), path


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            {"batch_size": 5},
            "batch_size is 5, which 2 processes cannot share evenly: set --batch-size to a multiple of 2",
        ),
        ({"guide_only_batch_size": 7}, "guide_only_batch_size is 7"),
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


@pytest.mark.parametrize("resident_bytes", [None, 0])
def test_each_rank_draws_and_transforms_only_its_part_of_the_same_batch(monkeypatch, resident_bytes):
    images = torch.randint(0, 256, (12, 32, 32, 3), dtype=torch.uint8).numpy()
    labels = torch.arange(12).numpy() % 4 - 1
    settings = tiny_config(random_operations=2, random_magnitude=8).augment
    transformed = []

    def drawn(step):
        def counted(x, *rest):
            transformed.append(len(x))
            return jitter(x, *rest)

        monkeypatch.setattr(augment, "jitter", counted)
        source = Batches(
            images, labels, settings, seed=0, device=torch.device("cpu"), resident_bytes=resident_bytes
        )
        table = (torch.arange(12)[:, None] + torch.tensor([1, 2])) % 12
        cursors = {"all": 4}
        return [source.draw(step + i, 6, cursors, neighbours=table, both=True) for i in range(2)]

    wholes, parts = drawn(3), []
    assert transformed == [6] * 4  # two batches with two views each
    monkeypatch.setattr("tunit.distributed.collectives.world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr("tunit.distributed.collectives.rank", lambda rank=rank: rank)
        transformed.clear()
        parts.append(drawn(3))
        assert transformed == [2] * 4
    for whole, shares in zip(wholes, zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat([part.x for part in shares]), whole.x)
        assert torch.equal(torch.cat([part.x_plus for part in shares]), whole.x_plus)
        assert all(torch.equal(part.y, whole.y) for part in shares)
        assert all(torch.equal(part.index, whole.index) for part in shares)


@pytest.fixture
def two_machines():
    """(address of the first machine, the words before each machine's command).

    The machines are network namespaces, or loopback addresses if those are not allowed.
    """
    names = [f"tunit-{uuid.uuid4().hex[:6]}" for _ in range(2)]

    def ip(*words):
        return subprocess.run(["ip", *words], capture_output=True).returncode == 0

    linked = shutil.which("ip") and all(ip("netns", "add", name) for name in names)
    veth = ("link", "add", names[0], "netns", names[0], "type", "veth", "peer", names[1], "netns", names[1])
    linked = linked and ip(*veth)
    for i, name in enumerate(names if linked else ()):
        linked = linked and ip("-n", name, "addr", "add", f"10.77.0.{i + 1}/24", "dev", name)
        linked = linked and ip("-n", name, "link", "set", name, "up")
        linked = linked and ip("-n", name, "link", "set", "lo", "up")
    try:
        if linked:
            yield "10.77.0.1", [["ip", "netns", "exec", name] for name in names]
        else:
            yield "127.0.0.1", [[], []]
    finally:
        for name in names if shutil.which("ip") else ():
            ip("netns", "del", name)


def test_two_machines_with_two_processes_each_equal_one_process(two_machines, tmp_path):
    """Three steps of each phase, in float64."""
    address, before = two_machines
    words = ["--nnodes=2", "--nproc-per-node=2", "--rdzv-backend=c10d", f"--rdzv-id={uuid.uuid4().hex}"]
    words += [f"--rdzv-endpoint={address}:{free_port()}"]
    agents = []
    for i, where in enumerate(before):
        own = f"10.77.0.{i + 1}" if where else f"127.0.0.{i + 2}"
        own_words = [
            f"--local-addr={own}",
            f"--rdzv-conf=is_host={i == 0}",
        ]  # torchrun cannot tell from the address which is the host
        command = [*where, sys.executable, "-m", "torch.distributed.run", *words, *own_words]
        agents.append(
            subprocess.Popen(
                [*command, shared_steps.__file__, str(tmp_path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        )
    expected = three_steps_of_each_phase()
    try:
        for agent in agents:
            said, _ = agent.communicate(timeout=300)
            assert agent.returncode == 0, said
    finally:
        for agent in agents:
            agent.kill()
            agent.communicate()
    ranks = [torch.load(tmp_path / f"{i}.pt") for i in range(4)]
    for tensors in ranks:
        assert tensors.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(tensors[key], value, rtol=1e-7, atol=1e-9, msg=key)
            assert torch.equal(tensors[key], ranks[0][key]), key
    assert any("generator" in key for key in expected)
    assert len(list(Path(tmp_path).iterdir())) == 4

"""Memory: which batch fits, the error if none fits, and recomputed activations, which do not change the result."""

import dataclasses

import pytest
import torch

from tiny_run import flags, tiny_config, write_pictures
from tiny_step import step_bytes
from tunit import machine
from tunit.cli import main
from tunit.config import read_config
from tunit.data.batching.batches import make_batch
from tunit.data.packing.pack_settings import pack_settings
from tunit.data.packing.search import Search
from tunit.data.packing.shards import pack_shards
from tunit.errors import TrainingError
from tunit.failures import sentence_of
from tunit.machine import is_out_of_memory
from tunit.methods import registry
from tunit.methods.method import Phase
from tunit.methods.tunit import TUNIT, tunit_step
from tunit.training.initial_state import new_state
from tunit.training.launch import start_run
from tunit.training.left_open import number_of_pictures, with_batches_of
from tunit.training.memory import fitting
from tunit.training.memory.fitting import (
    checkpoint_activations,
    fits_in,
    fitting_batch,
    fitting_batches,
    largest_batch,
)
from tunit.training.memory.saved_tensors import SavedTensorBytes
from tunit.training.run_folder import RunFolder

CPU = torch.device("cpu")
# As cuDNN, cuBLAS, and the driver say it.
WITHOUT_ROOM = (
    "GET was unable to find an engine to execute this computation",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
    "CUDA driver error: out of memory",
)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("room", "expected"), [(100, 32), (32, 32), (31, 16), (9, 8), (2, 2), (1, None)])
def test_the_batch_is_halved_until_it_fits_and_nothing_smaller_is_tried(room, expected):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= room

    assert largest_batch(fits, 32) == expected
    assert tried == [32, 16, 8, 4, 2][: len(tried)]
    assert tried[-1] == (expected or 2)


def test_a_batch_that_is_not_a_power_of_two_is_halved_too():
    assert largest_batch(lambda size: size <= 11, 48) == 6
    assert largest_batch(lambda size: False, 1) is None


def test_out_of_memory_errors_are_recognised():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    for words in WITHOUT_ROOM:
        assert is_out_of_memory(RuntimeError(words))
        assert "not enough memory" in str(sentence_of(RuntimeError(words)))


@pytest.mark.parametrize("words", WITHOUT_ROOM)
def test_a_batch_for_which_a_library_of_the_gpu_finds_no_room_does_not_fit(words, monkeypatch):
    def tried(config, device, size, joint=True):
        if size > 4:
            raise RuntimeError(words)

    monkeypatch.setattr(fitting, "try_step", tried)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert fitting.fitting_batch(tiny_config(batch_size=16), torch.device("cuda")) == 4
    monkeypatch.setattr(fitting, "try_step", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fitting.fitting_batch(tiny_config(), torch.device("cuda"))


def test_on_a_cpu_the_need_is_proportional_to_the_batch(monkeypatch):
    config = tiny_config()
    need = {size: step_bytes(config, size) for size in (2, 4, 8)}
    line = need[2] + (need[4] - need[2]) * 3
    assert need[8] == pytest.approx(line, rel=0.01)
    for size in (4, 8):
        monkeypatch.setattr(fitting, "available_bytes", lambda size=size: need[size] * 1.02 / fitting.ROOM)
        fits = fits_in(config, CPU)
        assert fits(size)
        assert not fits(2 * size)
        assert fitting_batch(config.with_overrides({"batch_size": 16}), CPU) == size
        assert fitting_batch(config.with_overrides({"batch_size": 2}), CPU) == 2


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 16])
def test_on_a_cpu_the_batch_is_as_large_as_fits_with_micro_batches(micro_batch, monkeypatch):
    """Whether a micro-batch is smaller than the batches that are tried, or as large, or larger than all."""
    config = tiny_config(micro_batch=micro_batch, batch_size=32)
    need = {size: step_bytes(config, size) for size in (8, 16, 32)}
    for size, bytes_ in need.items():
        for share in (1.05, 0.95):
            monkeypatch.setattr(fitting, "available_bytes", lambda free=bytes_ * share: free / fitting.ROOM)
            assert fits_in(config, CPU)(size) == (share > 1)


@pytest.fixture
def tried(monkeypatch):
    """The numbers of pictures of all steps that are tried."""
    sizes, step = [], fitting.try_step

    def noted(config, device, size, joint=True):
        sizes.append(size)
        return step(config, device, size, joint=joint)

    monkeypatch.setattr(fitting, "try_step", noted)
    return sizes


def test_a_micro_batch_larger_than_the_batch_is_never_tried(tried):
    fitting_batch(tiny_config(micro_batch=512, batch_size=8), CPU)
    assert max(tried) == 4


def test_with_little_memory_no_step_of_more_than_a_micro_batch_is_tried(tried, monkeypatch):
    monkeypatch.setattr(fitting, "available_bytes", lambda: 1 << 20)
    assert not fits_in(tiny_config(micro_batch=64, batch_size=256), CPU)(256)
    assert max(tried) == 4


def test_the_batch_of_E_alone_is_halved_until_it_fits(monkeypatch):
    config = tiny_config(batch_size=4, guide_only_batch_size=256)
    room = step_bytes(config, 64, joint=False)
    assert room > step_bytes(config, 4)
    monkeypatch.setattr(fitting, "available_bytes", lambda: room * 1.1 / fitting.ROOM)
    assert fitting_batches(config, CPU) == {"batch_size": 4, "guide_only_batch_size": 64}
    for settings in ({"guide_only_batch_size": 0}, {"guide_only_until": 0}):
        assert fitting_batches(config.with_overrides(settings), CPU) == {"batch_size": 4}


def test_a_step_of_E_alone_that_never_fits_is_one_sentence(monkeypatch):
    monkeypatch.setattr(
        fitting, "fits_in", lambda config, device, joint=True, picture_bytes=0: lambda size: joint
    )
    with pytest.raises(TrainingError, match="while E trains alone, not even 2 pictures of 32 px fit the"):
        fitting_batches(tiny_config(guide_only_batch_size=6), CPU)


def test_processes_on_one_cpu_share_its_memory(monkeypatch):
    need = {size: step_bytes(tiny_config(), size) for size in (4, 8)}
    monkeypatch.setattr(fitting, "available_bytes", lambda: 2 * need[4] * 1.02 / fitting.ROOM)
    fits = fits_in(tiny_config(processes=2), CPU)
    assert fits(8)
    assert not fits(10)


@pytest.mark.parametrize("processes", [1, 2])
def test_on_a_cpu_the_pictures_need_memory_beside_the_step(processes, monkeypatch):
    config = tiny_config(batch_size=16 * processes, processes=processes)
    need = {size: step_bytes(config, size) for size in (8, 16)}
    # Room for the larger step of each process. Pictures that take more than a quarter of this stay on the disk.
    free = need[16] * 1.02 / fitting.ROOM * processes
    monkeypatch.setattr(machine, "available_bytes", lambda: free)
    monkeypatch.setattr(fitting, "available_bytes", lambda: free)
    quarter = int(free / 4 / processes)
    assert need[8] < fitting.ROOM * free / processes - quarter < need[16]
    sizes = [fitting_batch(config, CPU, pictures) for pictures in (0, quarter // 100, quarter, quarter + 1)]
    assert sizes == [16 * processes, 16 * processes, 8 * processes, 16 * processes]


def test_on_a_gpu_a_step_is_tried_beside_the_memory_of_the_pictures(monkeypatch):
    class Held:
        bytes = 0  # now

        def __init__(self, size, dtype, device):
            self.size = size
            Held.bytes += size

        def __del__(self):
            Held.bytes -= self.size

    def tried(config, device, size, joint=True):
        if 100 * size + Held.bytes > 1600:
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(fitting, "try_step", tried)
    monkeypatch.setattr(torch, "empty", Held)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1600, 1600))
    config, gpu = tiny_config(batch_size=16, guide_only_batch_size=16), torch.device("cuda")
    for pictures, size in ((0, 16), (1, 8), (400, 8), (401, 16)):
        assert fitting_batches(config, gpu, pictures) == {"batch_size": size, "guide_only_batch_size": size}
        assert Held.bytes == 0


def test_the_number_of_pictures_is_known_before_they_are_packed(tmp_path):
    source, config = write_pictures(tmp_path / "pictures", 7), tiny_config()
    assert number_of_pictures(source, config) == 7
    pack_shards(Search(source, pack_settings(config)), tmp_path / "shards", 4, workers=1)
    assert number_of_pictures(tmp_path / "shards", config) == 7


def test_recomputed_activations_need_less_memory():
    config = tiny_config(image_size=64)
    again = config.with_overrides({"checkpoint_activations": True})
    assert step_bytes(again, 4) < step_bytes(config, 4)
    grows, grows_again = (step_bytes(each, 4) - step_bytes(each, 2) for each in (config, again))
    assert grows_again < 0.6 * grows


def test_saved_tensors_are_counted_once_and_only_while_saved():
    kept = SavedTensorBytes()
    x = torch.rand(1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
        for _ in range(5):  # a new graph may reuse the addresses of the last one
            y = x.exp()  # saves its result, 4,000 bytes
            (y * y).sum().backward()  # saves the same tensor twice more
            del y
        assert kept.most == 4000
        assert kept.now == 0
        held = [x.exp() for _ in range(3)]
        assert kept.now == kept.most == 12000
    held.clear()
    assert kept.now == 0


def trained(config, again):
    """The state after three joint steps with R1 in float64."""
    state = new_state(config, CPU)
    for network in state.networks.named().values():
        network.double()
    state.queue = state.queue.double()
    if again:
        checkpoint_activations(TUNIT.recomputed_parts(state.networks))
    torch.manual_seed(0)
    for _ in range(3):
        x = torch.rand(4, 3, 32, 32, dtype=torch.float64) * 2 - 1
        tunit_step(
            state,
            make_batch(x, x.flip(3), torch.full((4,), -1)),
            torch.tensor([2, 3, 1, 0]),
            Phase(joint=True, average_generator=True, penalise=True),
            config,
        )
    return state


@pytest.mark.parametrize("adversarial_trains", ["generator and guide", "generator"])
def test_recomputed_activations_give_the_same_weights_also_with_r1(adversarial_trains):
    config = tiny_config(adversarial_trains=adversarial_trains, r1_weight=10.0, average_decay=0.9)
    kept, again = trained(config, False).networks.named(), trained(config, True).networks.named()
    fresh = new_state(config, CPU).networks.named()
    for name, network in kept.items():
        values = again[name].state_dict()
        assert values.keys() == network.state_dict().keys()
        for key, value in network.state_dict().items():
            torch.testing.assert_close(values[key], value, rtol=1e-9, atol=1e-12)
    moved = [
        not torch.equal(value.double(), fresh["discriminator"].state_dict()[key].double())
        for key, value in kept["discriminator"].state_dict().items()
    ]
    assert all(moved)


def out_of_memory_beyond(monkeypatch, room):
    """As if steps with more than `room` pictures ran out of memory."""

    def step(state, batch, *rest):
        if len(batch.x) > room:
            raise torch.OutOfMemoryError("out of memory: tried to allocate 20.00 GiB")
        return tunit_step(state, batch, *rest)

    monkeypatch.setitem(registry._methods, "tunit", dataclasses.replace(TUNIT, step=step))
    monkeypatch.setattr(
        fitting, "fits_in", lambda config, device, joint=True, picture_bytes=0: lambda size: size <= room
    )


def test_out_of_memory_is_one_sentence_with_a_batch_that_fits(tmp_path, monkeypatch, capsys):
    pictures, run = write_pictures(tmp_path / "pictures"), tmp_path / "run"
    out_of_memory_beyond(monkeypatch, 3)
    words = ["train", str(pictures), "--out", str(run), "--preset", "paper", "--quiet"]
    words += flags(batch_size=8, guide_only_batch_size=0, guide_only_until=0)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith(
        "tunit: a step of 8 pictures does not fit the memory of cpu: start a new run with --batch-size 2"
    )
    assert "resume the run with --resume and --micro-batch 2 or --checkpoint-activations true" in err
    assert len(err.splitlines()) == 1
    assert main([*words, "--overwrite", "--batch", "auto"]) == 0
    assert read_config(str(run / "config.toml")).optimisers.batch_size == 2
    alone = "--guide-only-until", "4", "--guide-only-batch-size", "16"
    assert main([*words, "--overwrite", "--batch", "auto", *alone]) == 0
    optimisers = read_config(str(run / "config.toml")).optimisers
    assert (optimisers.batch_size, optimisers.guide_only_batch_size) == (2, 2)


@pytest.mark.parametrize(
    ("own", "advice"),
    [
        (0, "start a new run with --batch-size 2, which fits"),  # E takes as many pictures as a joint step: 8
        (6, "start a new run with --batch-size 3 --guide-only-batch-size 3, which fit"),
        (8, "start a new run with --batch-size 2 --guide-only-batch-size 4, which fit"),
        (12, "start a new run with --guide-only-batch-size 3, which fits"),
    ],
)
def test_out_of_memory_while_E_trains_alone_names_only_what_helps_E(own, advice, tmp_path, monkeypatch):
    """Micro-batches and checkpointing act on G and D. own: E's batch size; 0 for that of joint steps."""

    def step(state, batch, permutation, phase, *rest):
        if not phase.joint:
            raise torch.OutOfMemoryError("out of memory: tried to allocate 20.00 GiB")
        return tunit_step(state, batch, permutation, phase, *rest)

    monkeypatch.setitem(registry._methods, "tunit", dataclasses.replace(TUNIT, step=step))
    room = {True: 3, False: 5}  # in a joint step, and in one of E alone
    monkeypatch.setattr(fitting, "fits_in", lambda c, d, joint=True, **_: lambda size: size <= room[joint])
    config = tiny_config(batch_size=8, guide_only_batch_size=own)
    with pytest.raises(TrainingError) as caught:
        start_run(write_pictures(tmp_path / "pictures"), tmp_path / "run", config, quiet=True)
    assert str(caught.value) == f"a step of {own or 8} pictures does not fit the memory of cpu: {advice}"


def test_batch_auto_counts_the_pictures_of_the_run(tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(
        fitting,
        "fits_in",
        lambda c, d, joint=True, picture_bytes=0: lambda _: counted.append(picture_bytes) or True,
    )
    pictures, run = write_pictures(tmp_path / "pictures", 5), tmp_path / "run"
    start_run(pictures, run, tiny_config(steps=1, guide_only_until=0), fit_batch=True, quiet=True)
    assert counted == [5 * 32 * 32 * 3]


@pytest.mark.parametrize(
    ("number", "processes", "sizes"),
    [
        (100, 1, (16, 64)),
        (20, 1, (16, 20)),
        (7, 1, (7, 7)),
        (7, 2, (6, 6)),
        (1, 1, (16, 64)),
        (2, 4, (16, 64)),
    ],
)
def test_a_batch_has_no_more_pictures_than_there_are(number, processes, sizes):
    config = tiny_config(batch_size=16, guide_only_batch_size=64, processes=processes)
    found = with_batches_of(config, number).optimisers
    assert (found.batch_size, found.guide_only_batch_size) == sizes
    as_batch_size = with_batches_of(config.with_overrides({"guide_only_batch_size": 0}), number)
    assert as_batch_size.optimisers.guide_only_batch_size == 0


@pytest.mark.parametrize("copies", [0, 2])
def test_batch_auto_goes_down_to_the_number_of_pictures(tmp_path, monkeypatch, copies):
    """Of copies, which are found only when pictures are read, one is used."""
    monkeypatch.setattr(fitting, "fits_in", lambda *_, **__: lambda size: size <= 7)
    pictures, run = write_pictures(tmp_path / "pictures", 5), tmp_path / "run"
    for i in range(copies):
        (pictures / f"copy-{i}.png").write_bytes(next(pictures.glob("*.png")).read_bytes())
    given = tiny_config(batch_size=32, guide_only_batch_size=64, steps=1, guide_only_until=1)
    start_run(pictures, run, given, fit_batch=True, quiet=True)
    sizes = RunFolder(run).read_config().optimisers
    assert (sizes.batch_size, sizes.guide_only_batch_size) == (5, 5)


def test_other_errors_are_not_changed(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setitem(registry._methods, "tunit", dataclasses.replace(TUNIT, step=broken))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        start_run(write_pictures(tmp_path / "pictures"), tmp_path / "run", tiny_config(), quiet=True)

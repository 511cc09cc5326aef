"""Batches: each picture comes once per epoch; batch size, storage and interruptions do not change the order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tunit import machine
from tunit.config import AugmentConfig
from tunit.data.batching import batches as batching
from tunit.data.batching.augment import to_float
from tunit.data.batching.batches import Batch, Batches, batch_permutation, make_batch
from tunit.data.batching.randomness import numpy_generator, seed_of, torch_generator
from tunit.errors import DataError

CPU = torch.device("cpu")
N = 13
# No geometry and no jitter, so that x and x+ equal the stored picture.
STILL = AugmentConfig(
    flip=0, rotation=0, translation=0, shear=0, crop_area=(1, 1), crop_aspect=(1, 1),
    brightness=0, contrast=0, saturation=0, hue=0,
)  # fmt: skip


def images(n: int = N, size: int = 8) -> NDArray[np.uint8]:
    """Pictures whose colour encodes their number."""
    noise = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    noise[:, :, :, 0] = np.arange(n)[:, None, None]
    return noise


def labels(n: int = N) -> NDArray[np.int64]:
    """Every third picture has a label."""
    return np.where(np.arange(n) % 3 == 0, np.arange(n) % 4, -1)


def batches(seed: int = 0, augment: AugmentConfig = STILL, **settings: Any) -> Batches:
    return Batches(
        settings.pop("images", images()),
        settings.pop("labels", labels()),
        augment,
        seed=seed,
        device=CPU,
        **settings,
    )


def numbers(batch: Batch) -> list[int]:
    """The numbers of these pictures."""
    return ((batch.x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.x, b.x) and torch.equal(a.x_plus, b.x_plus) and torch.equal(a.y, b.y)


@pytest.mark.parametrize("stream", ["all", "labelled", "unlabelled"])
def test_every_epoch_has_each_picture_exactly_once(stream: str) -> None:
    members = [i for i in range(N) if stream == "all" or (labels()[i] >= 0) == (stream == "labelled")]
    source, cursors = batches(), {}
    drawn = [n for step in range(30) for n in numbers(source.draw(step, 4, cursors, stream))]
    assert cursors == {stream: 120}
    epochs = [drawn[i : i + len(members)] for i in range(0, 120 - len(members), len(members))]
    assert len(epochs) >= 9
    for epoch in epochs:
        assert sorted(epoch) == members
    assert len({tuple(epoch) for epoch in epochs}) > len(epochs) / 2  # each epoch has a new order


def test_a_batch_is_the_stored_pictures_with_their_labels() -> None:
    batch = batches().draw(0, 6, {})
    chosen = numbers(batch)
    expected = to_float(torch.from_numpy(images()[chosen]))
    torch.testing.assert_close(batch.x, expected, atol=0, rtol=0)
    torch.testing.assert_close(batch.x_plus, expected, atol=1e-5, rtol=0)
    assert batch.y.tolist() == labels()[chosen].tolist()
    assert batch.y.dtype == torch.int64


@pytest.mark.parametrize("sizes", [[4] * 9, [1] * 36, [36], [5, 7, 1, 13, 10], [30, 6]])
def test_the_order_does_not_depend_on_batch_sizes(sizes: list[int]) -> None:
    expected = batches().rows("all", 0, 36).tolist()
    source, cursors = batches(), {}
    assert [n for i, size in enumerate(sizes) for n in numbers(source.draw(i, size, cursors))] == expected


def test_a_batch_may_be_larger_than_the_data_set() -> None:
    drawn = numbers(batches().draw(0, 2 * N + 3, {}))
    assert len(drawn) == 2 * N + 3
    assert sorted(drawn[:N]) == sorted(drawn[N : 2 * N]) == list(range(N))
    assert drawn[:N] != drawn[N : 2 * N]


def test_resuming_from_cursors_equals_continuing() -> None:
    streams = ["all", "labelled", "unlabelled", "all", "all", "unlabelled"] * 3
    source, cursors = batches(augment=AugmentConfig()), {}
    whole = [source.draw(i, 5, cursors, stream) for i, stream in enumerate(streams)]
    before, cursors = batches(augment=AugmentConfig()), {}
    for i, stream in enumerate(streams[:7]):
        before.draw(i, 5, cursors, stream)
    saved = dict(cursors)
    after = batches(augment=AugmentConfig())
    for i, stream in enumerate(streams[7:], start=7):
        assert same(after.draw(i, 5, saved, stream), whole[i]), i


def test_an_older_cursor_gives_the_same_batches_again() -> None:
    source = batches()
    first = source.rows("all", 3, 9).tolist()
    source.rows("all", 100, 9)
    assert source.rows("all", 3, 9).tolist() == first


def test_memory_mapped_equals_pictures_in_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images())
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    resident = batches(augment=AugmentConfig())
    streamed = batches(augment=AugmentConfig(), images=mapped, resident_bytes=0)
    mine: dict[str, int] = {}
    theirs: dict[str, int] = {}
    for step in range(6):
        # batches of 17 from 13 pictures, so some pictures appear twice
        size, stream = (17, "all") if step % 2 else (4, "unlabelled")
        assert same(resident.draw(step, size, mine, stream), streamed.draw(step, size, theirs, stream))
    assert np.array_equal(mapped, images())


class Counting(np.ndarray):
    """Pictures that count how often each of them is read."""

    reads: list[list[int]] = []  # noqa: RUF012

    def __getitem__(self, rows: Any) -> Any:
        self.reads.append(list(rows))
        return np.asarray(self)[rows]


def test_batches_read_ahead_are_the_next_ones_and_read_once() -> None:
    pictures = images().view(Counting)
    Counting.reads.clear()
    source, cursors = batches(images=pictures, resident_bytes=0), {}
    for step in range(5):
        drawn = numbers(source.draw(step, 4, cursors))
        assert drawn == batches().rows("all", 4 * step, 4).tolist()
        assert cursors == {"all": 4 * (step + 1)}  # the batch read ahead does not count
    source._reader.shutdown()  # type: ignore[union-attr]
    assert len(Counting.reads) == 6  # five batches returned, one read ahead
    assert all(
        sorted(batches().rows("all", 4 * i, 4).tolist()) == read for i, read in enumerate(Counting.reads)
    )


def test_alternating_streams_are_read_once_too() -> None:
    """As in few-label training."""
    Counting.reads.clear()
    source, cursors = batches(images=images().view(Counting), resident_bytes=0), {}
    streams = ["labelled", "unlabelled", "unlabelled"] * 4
    drawn = [numbers(source.draw(step, 2, cursors, stream)) for step, stream in enumerate(streams)]
    source._reader.shutdown()  # type: ignore[union-attr]
    resident, cursors = batches(), {}
    assert drawn == [numbers(resident.draw(i, 2, cursors, stream)) for i, stream in enumerate(streams)]
    assert len(Counting.reads) == len(streams) + 2  # for each stream, one batch is read ahead


def test_a_wrong_prefetch_changes_nothing() -> None:
    """The caller asks for sizes, streams, cursors and steps that were not expected, and resumes in between."""
    asked = [(0, 4, "all"), (1, 4, "all"), (2, 6, "all"), (3, 6, "labelled"), (4, 6, "all"), (9, 17, "all")]
    resident, mine = batches(augment=AugmentConfig()), {"all": 0}
    streamed = batches(augment=AugmentConfig(), resident_bytes=0)
    theirs: dict[str, int] = {"all": 0}
    for step, size, stream in asked:
        assert same(resident.draw(step, size, mine, stream), streamed.draw(step, size, theirs, stream))
        assert mine == theirs
        streamed = batches(augment=AugmentConfig(), resident_bytes=0) if step == 3 else streamed
    assert same(resident.draw(1, 4, {"all": 4}), streamed.draw(1, 4, {"all": 4}))  # back to an older cursor


def test_a_rank_that_draws_a_whole_batch_draws_its_part_of_the_next_one(monkeypatch: Any) -> None:
    """As when a batch is kept because of a NaN, and training then goes on."""
    expected = batches().rows("all", 4, 4).tolist()[2:]
    source, cursors = batches(resident_bytes=0), {"all": 0}
    assert len(source.draw(0, 4, cursors).x) == 4  # reads the next batch in advance, as a whole
    monkeypatch.setattr("tunit.distributed.collectives.world_size", lambda: 2)
    monkeypatch.setattr("tunit.distributed.collectives.rank", lambda: 1)
    assert numbers(source.draw(1, 4, cursors)) == expected


def test_pictures_stay_on_the_device_if_they_fit_in_a_share_of_its_memory(monkeypatch: Any) -> None:
    monkeypatch.setattr(machine, "available_bytes", lambda: 4 * images().nbytes)
    assert isinstance(batches()._images, torch.Tensor)
    monkeypatch.setattr(machine, "available_bytes", lambda: 4 * images().nbytes - 1)
    assert isinstance(batches()._images, np.ndarray)
    gpu = torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (800, 10**9) if device == gpu else None)
    assert machine.room_for_pictures(gpu) == 200


def test_the_processes_of_a_machine_divide_its_memory_for_pictures(monkeypatch: Any) -> None:
    """Each has a copy of all pictures, and on GPUs each has the memory of its own."""
    monkeypatch.setattr(batching, "ranks_of_machine", lambda: 3)
    monkeypatch.setattr(machine, "available_bytes", lambda: 12 * images().nbytes)
    assert isinstance(batches()._images, torch.Tensor)
    monkeypatch.setattr(machine, "available_bytes", lambda: 12 * images().nbytes - 1)
    assert isinstance(batches()._images, np.ndarray)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (800, 10**9))
    assert machine.room_for_pictures(torch.device("cuda:0"), 3) == 200


def test_pictures_are_copied_to_the_device_a_few_at_a_time(monkeypatch: Any) -> None:
    monkeypatch.setattr(batching, "COPIED", 5 * 8 * 8 * 3)
    pictures = images().view(Sliced)
    Sliced.lengths.clear()
    copied = batches(images=pictures)._images
    assert torch.equal(copied, torch.from_numpy(images()))  # type: ignore[arg-type]
    assert Sliced.lengths == [5, 5, 3]


class Sliced(np.ndarray):
    """Pictures that note how many of them are read at a time."""

    lengths: list[int] = []  # noqa: RUF012

    def __getitem__(self, rows: Any) -> Any:
        some = np.asarray(self)[rows]
        self.lengths.append(len(some))
        return some


def test_pictures_in_memory_are_a_copy() -> None:
    pictures = images()
    source = batches(images=pictures)
    expected = source.draw(0, 6, {}).x
    pictures[:] = 0
    assert torch.equal(source.draw(0, 6, {}).x, expected)


def test_each_stream_has_its_own_pictures() -> None:
    source = batches()
    labelled, unlabelled = source.draw(0, 8, {}, "labelled"), source.draw(0, 8, {}, "unlabelled")
    assert (labelled.y >= 0).all()
    assert (unlabelled.y == -1).all()
    assert (labelled.any_labelled, labelled.any_unlabelled) == (True, False)
    assert (unlabelled.any_labelled, unlabelled.any_unlabelled) == (False, True)
    mixed = source.draw(0, N, {})
    assert (mixed.any_labelled, mixed.any_unlabelled) == (True, True)


def test_each_stream_has_its_own_cursor() -> None:
    source, cursors = batches(), {}
    alone = [numbers(batches().draw(0, 8, {"labelled": i}, "labelled")) for i in (0, 8)]
    mixed = []
    for step, stream in enumerate(["all", "labelled", "unlabelled", "all", "labelled"]):
        found = numbers(source.draw(step, 8, cursors, stream))
        mixed += [found] if stream == "labelled" else []
    assert mixed == alone
    assert cursors == {"all": 16, "labelled": 16, "unlabelled": 8}


def test_without_labels_y_is_minus_1() -> None:
    batch = batches(labels=np.full(N, -1)).draw(0, 6, {})
    assert batch.y.tolist() == [-1] * 6
    assert (batch.any_labelled, batch.any_unlabelled) == (False, True)


@pytest.mark.parametrize(
    ("stream", "given", "said"),
    [
        ("labelled", -1, "no picture has a label, .*: give labels by --labels, or set both to 0"),
        ("unlabelled", 2, "all pictures have labels, .*: set --labelled-ratio 0"),
    ],
)
def test_an_empty_stream_is_refused_with_the_settings_to_change(stream: str, given: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        batches(labels=np.full(N, given)).draw(0, 2, {}, stream)


def test_seeds_change_order_and_views() -> None:
    a, b = batches(0, AugmentConfig()), batches(1, AugmentConfig())
    assert a.rows("all", 0, N).tolist() != b.rows("all", 0, N).tolist()
    rows = {"all": 0}
    assert not torch.equal(a.draw(0, 4, dict(rows)).x_plus, b.draw(0, 4, dict(rows)).x_plus)


def test_the_same_pictures_look_different_at_each_step() -> None:
    source = batches(augment=AugmentConfig())
    first, again, later = (source.draw(step, 4, {}) for step in (0, 0, 1))
    assert same(first, again)
    assert not torch.equal(first.x_plus, later.x_plus)


def test_make_batch_knows_its_labels() -> None:
    x = torch.zeros(3, 3, 4, 4)
    for y, expected in (
        ([-1, -1, -1], (False, True)),
        ([0, -1, 2], (True, True)),
        ([0, 1, 2], (True, False)),
    ):
        batch = make_batch(x, x, torch.tensor(y))
        assert (batch.any_labelled, batch.any_unlabelled) == expected


def test_batch_permutation() -> None:
    drawn = [batch_permutation(seed, step, 32).tolist() for seed in (0, 1) for step in range(5)]
    assert all(sorted(p) == list(range(32)) for p in drawn)
    assert len({tuple(p) for p in drawn}) == 10
    assert drawn[0] == batch_permutation(0, 0, 32).tolist()


def test_different_names_give_independent_seeds() -> None:
    keys = [
        (s, p, c) for s in (0, 1, 2**40) for p in ("views", "permutation", "order/all") for c in range(50)
    ]
    seeds = {seed_of(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**64 for seed in seeds)
    # As uniform 64-bit numbers: each bit is set in about half of 450 (standard deviation 10.6; allow five).
    for bit in range(64):
        assert abs(sum(seed >> bit & 1 for seed in seeds) - 225) < 53, bit


def test_generators_are_functions_of_their_arguments() -> None:
    torch.manual_seed(5)
    first = torch.rand(3, generator=torch_generator(1, "views", 2))
    torch.manual_seed(6)
    assert torch.equal(torch.rand(3, generator=torch_generator(1, "views", 2)), first)
    assert not torch.equal(torch.rand(3, generator=torch_generator(1, "views", 3)), first)
    draws = [numpy_generator(1, "a", 0).random(), numpy_generator(1, "a", 0).random()]
    assert draws[0] == draws[1]


def number_of(x: torch.Tensor) -> list[int]:
    """The numbers of these pictures, which their colours encode."""
    return ((x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


@pytest.mark.parametrize("resident_bytes", [None, 0])
def test_second_views_come_from_neighbours_unless_there_is_a_label(resident_bytes: int | None) -> None:
    table = (torch.arange(N)[:, None] + torch.tensor([1, 2, 3])) % N
    batch = batches(resident_bytes=resident_bytes).draw(0, N, {}, neighbours=table)
    chosen = set()
    for row, partner, label in zip(
        number_of(batch.x), number_of(batch.x_plus), batch.y.tolist(), strict=True
    ):
        if label >= 0:
            assert partner == row
        else:
            assert partner in table[row]
            chosen.add((partner - row) % N)
    assert chosen == {1, 2, 3}  # a random neighbour, not always the first


def test_neighbours_do_not_change_the_other_random_numbers() -> None:
    moving = AugmentConfig()
    without = batches(augment=moving).draw(4, 6, {"all": 5})
    itself = torch.arange(N)[:, None]
    with_itself = batches(augment=moving).draw(4, 6, {"all": 5}, neighbours=itself)
    assert torch.equal(without.x, with_itself.x)
    assert torch.equal(without.x_plus, with_itself.x_plus)


def test_pictures_of_a_batch_with_labels_only_are_read_once() -> None:
    table = (torch.arange(N)[:, None] + torch.tensor([1, 2, 3])) % N
    read: list[int] = []

    class Counting(np.ndarray):  # type: ignore[type-arg]
        """Pictures that count the rows which are read."""

        def __getitem__(self, rows: Any) -> Any:
            read.append(len(rows))
            return np.asarray(self)[rows]

    for stream, times in (
        ("labelled", 2),
        ("unlabelled", 3),
    ):  # the batch, the next one in advance, the partners
        read.clear()
        source = batches(images=images().view(Counting), resident_bytes=0)
        batch = source.draw(0, 3, {}, stream, neighbours=table)
        source._reader.shutdown()  # waits for what is read in advance
        assert read == [3] * times
        if stream == "labelled":
            torch.testing.assert_close(batch.x_plus, batch.x, atol=1e-5, rtol=0)


def test_random_views_are_as_large_as_e_sees_them() -> None:
    source = batches(augment=AugmentConfig(), view_side=4)
    alone, joint = source.draw(0, 4, {}, both=True), source.draw(0, 4, {})
    assert [view.shape[-1] for view in (alone.x, alone.x_plus)] == [4, 4]
    assert [view.shape[-1] for view in (joint.x, joint.x_plus)] == [8, 4]

"""Settings that cannot fit into memory are refused by calculation, before anything is allocated or replaced."""

import pytest
import torch

from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.errors import ConfigError
from tunit.training.initial_state import new_state
from tunit.training.launch import start_run
from tunit.training.memory import fitting, footprint
from tunit.training.memory.footprint import check_footprint, least_bytes

CPU = torch.device("cpu")


@pytest.fixture
def room(monkeypatch):
    monkeypatch.setattr(footprint, "available_bytes", lambda: 2 * 10**9)


def test_the_calculated_size_equals_that_of_a_real_state():
    # a queue and heads so large that the check is made
    config = tiny_config(queue_length=200_000, domains=1500)
    state = new_state(config, CPU)
    weights = {name: sum(w.numel() for w in n.parameters()) for name, n in state.networks.named().items()}
    learning = sum(weights[name] for name in ("guide", "generator", "discriminator"))
    average = sum(weights[name] for name in ("guide_average", "generator_average"))
    maps = 6 * 4 * 32 * 32 * 4 * 4  # E alone uses 6 pictures of 32 px in 4 channels
    assert least_bytes(config) == 4 * (3 * learning + average + 200_000 * 8) + maps


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"queue_length": 2**24, "style_width": 8192}, "--queue-length, which is 16777216"),
        ({"guide_width": 8192}, "--guide-width, which is 8192"),
        ({"generator_width": 8192}, "--generator-width, which is 8192"),
        ({"discriminator_width": 8192}, "--discriminator-width, which is 8192"),
        ({"overclusters": 100_000, "guide_width": 128}, "--overclusters, which is 100000"),
        ({"candidate_heads": 100, "domains": 90_000, "guide_width": 64}, "--domains, which is 90000"),
        ({"batch_size": 1_000_000}, "--batch-size, which is 1000000"),
        ({"guide_only_batch_size": 1_000_000}, "--guide-only-batch-size, which is 1000000"),
        ({"image_size": 4096, "batch_size": 16}, "--image-size, which is 4096"),
        ({"processes": 200, "guide_width": 64}, "--processes, which is 200"),
    ],
)
def test_settings_that_cannot_fit_are_refused_with_the_flag_that_helps(settings, flag, room):
    with pytest.raises(ConfigError, match=r"at least [0-9,.]+ GB .* than the 2.0 GB that are free") as caught:
        check_footprint(tiny_config(**settings), CPU)
    assert str(caught.value).endswith("lower " + flag)


@pytest.mark.parametrize(("guide_image_size", "side"), [(0, 128), (256, 128), (32, 32)])
def test_a_batch_is_as_large_as_e_sees_it(guide_image_size, side):
    config = tiny_config(image_size=128, guide_only_batch_size=600, guide_image_size=guide_image_size)
    assert least_bytes(config) == 600 * 4 * side**2 * 4 * 4


SEMIT = tiny_config("semit", domains=1000)


def test_soft_labels_of_many_pictures_are_refused(room):
    """SEMIT keeps two rows of 1,000 numbers for each picture."""
    check_footprint(SEMIT, CPU, 200_000)
    assert least_bytes(SEMIT, 300_000) - least_bytes(SEMIT) == 300_000 * 2 * 1000 * 4
    with pytest.raises(
        ConfigError, match=r"method 'semit' keeps data for each of the 300,000 pictures.*at least 2\.4 GB"
    ):
        check_footprint(SEMIT, CPU, 300_000)


def test_soft_labels_leave_less_memory_for_a_batch(monkeypatch):
    config = SEMIT.with_overrides({"batch_size": 8})
    monkeypatch.setattr(fitting, "predicted_bytes", lambda config, joint: lambda size: size * 10**6)
    monkeypatch.setattr(fitting, "room_for_pictures", lambda *_: 0)  # pictures stay on the disk
    monkeypatch.setattr(fitting, "available_bytes", lambda: 9 * 10**6 / fitting.ROOM)
    for pictures, fits in ((10, True), (1000, False)):
        assert fitting.fits_in(config, CPU, picture_bytes=pictures * 3 * 32**2)(8) is fits


def test_neighbours_are_not_in_the_memory_of_a_gpu():
    config = tiny_config(neighbours=50)
    assert footprint.bytes_of_own_state(config, 1000) == 1000 * 50 * 8
    assert footprint.bytes_of_own_state(config, 1000, on_gpu=True) == 0
    on_gpu = config.with_overrides({"device": "cuda"})
    assert least_bytes(on_gpu, 10**6) == least_bytes(on_gpu)
    assert least_bytes(on_gpu, 10**6, all_of_it=True) == least_bytes(on_gpu, all_of_it=True)
    assert footprint.bytes_of_own_state(SEMIT, 1000, on_gpu=True) == 1000 * 2 * 1000 * 4


def test_a_set_with_more_pictures_than_fit_is_refused_before_the_run_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(
        footprint, "bytes_of_own_state", lambda _, pictures, **__: 10**15 if pictures == 20 else 0
    )
    with pytest.raises(ConfigError, match="20 pictures"):
        start_run(write_pictures(tmp_path / "p"), tmp_path / "run", tiny_config(), quiet=True)
    assert not (tmp_path / "run").exists()


def test_usual_settings_fit(room):
    check_footprint(tiny_config(), CPU)
    check_footprint(tiny_config("paper", domains=149, batch_size=16), CPU)


def test_a_run_is_not_replaced_by_one_that_cannot_fit(tmp_path, room, capsys):
    pictures, out = write_pictures(tmp_path / "pictures", 4), tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text("{}")
    words = ["train", str(pictures), "--out", str(out), "--overwrite"]
    assert main([*words, *flags(queue_length=2**24, style_width=8192)]) == 2
    error = capsys.readouterr().err
    assert "lower --queue-length" in error
    assert len(error.strip().splitlines()) == 1
    assert [path.name for path in out.iterdir()] == ["run.json"]

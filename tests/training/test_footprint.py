"""Settings that cannot fit into memory are refused by calculation, before anything is allocated or replaced."""

import pytest
import torch

from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.errors import ConfigError
from tunit.training import footprint
from tunit.training.footprint import check_footprint, least_bytes
from tunit.training.initial_state import new_state

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

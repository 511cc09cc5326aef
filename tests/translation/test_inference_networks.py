"""How a translator runs its networks: in parts, fast on a CPU, compiled on request."""

import pytest
import torch

from tiny_model import WIDTH, noise, save_tiny, tiny_model, to_input, write
from tunit.cli import main
from tunit.errors import ConfigError
from tunit.machine import check_compiler
from tunit.translation.inference_networks import networks_for

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_layout_is_channels_last_and_pictures_are_the_same():
    model = tiny_model()
    x, s = torch.cat([to_input(noise(i)) for i in range(3)]), torch.randn(3, WIDTH)
    with torch.inference_mode():
        expected = model.generator(x, s)
        found = networks_for(model, CPU, compiled=False)
        y = found.decode(found.encode(x), s)
    weight = model.generator.content_encoder.down[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert (y - expected).abs().max() * 127.5 < 0.02  # grey levels
    assert expected.std() > 0.05


def test_a_batch_is_split_into_parts_in_order():
    found = networks_for(tiny_model(), CPU, compiled=False)
    assert [len(part) for part in found.split(list(range(35)))] == [16, 16, 3]
    assert torch.equal(torch.cat(list(found.split(torch.arange(35)))), torch.arange(35))


def test_networks_are_compiled_by_torch(monkeypatch):
    compiled = []

    def compile_(function):
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    model = tiny_model()
    found = networks_for(model, CPU, compiled=True)
    assert compiled[1:] == [model.generator.encode, model.generator.decode, model.guide]
    assert found.guide is model.guide


def test_without_a_compiler_there_is_one_sentence_and_nothing_is_written(monkeypatch, tmp_path, capsys):
    def broken(function):
        def call(*_):
            raise RuntimeError("no C++ compiler found\nwith a long story")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ConfigError, match="compiler found"):
        check_compiler(CPU)
    save_tiny(tmp_path / "run")
    words = ["translate", str(tmp_path / "run"), str(write(tmp_path / "a.png")), "--domain", "0"]
    assert main([*words, "--out", str(tmp_path / "out"), "--compile", "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert "or leave out --compile" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()

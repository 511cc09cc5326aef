import json

import pytest
import torch

from tiny_model import save_tiny
from tunit.errors import RunError
from tunit.methods.model_file import load_model
from tunit.networks.tensor_file import read_tensors, write_tensors


def test_a_model_is_loaded_equal_frozen_and_in_evaluation_mode(tmp_path):
    saved = save_tiny(tmp_path, fit="pad")
    loaded = load_model(tmp_path)
    for ours, theirs in ((loaded.guide, saved.guide), (loaded.generator, saved.generator)):
        assert not ours.training
        assert not any(p.requires_grad for p in ours.parameters())
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value)
    assert torch.equal(loaded.domain_styles, saved.domain_styles)
    assert (loaded.fit, loaded.image_size, loaded.step) == ("pad", 32, 7)
    assert json.loads((tmp_path / "model.json").read_text())["networks"]["domains"] == 3


def test_a_model_is_float32_whatever_the_default_dtype(tmp_path, default_float64):
    torch.set_default_dtype(torch.float32)
    save_tiny(tmp_path)
    torch.set_default_dtype(torch.float64)
    model = load_model(tmp_path)
    assert {p.dtype for p in (*model.guide.parameters(), *model.generator.parameters())} == {torch.float32}


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match=r"holds no model\.safetensors"):
        load_model(tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    save_tiny(tmp_path)
    tensors, about = read_tensors(tmp_path / "model.safetensors")
    write_tensors(tmp_path / "model.safetensors", tensors, about | {"format": 99})
    with pytest.raises(RunError, match="of format 99"):
        load_model(tmp_path)


ABOUT = {
    "a style code of gigabytes": lambda a: a["networks"].update(style_width=8000),
    "a width out of bounds": lambda a: a["networks"].update(style_width=10**7),
    "domains without end": lambda a: a["networks"].update(domains=10**12),
    "a width that is text": lambda a: a["networks"].update(guide_width="four"),
    "a truth for a number": lambda a: a["networks"].update(guide_width=True),
    "a setting that there is not": lambda a: a["networks"].update(colour=3),
    "networks as a list": lambda a: a.update(networks=[1]),
    "networks null": lambda a: a.update(networks=None),
    "no networks": lambda a: a.pop("networks"),
    "a size that is no power": lambda a: a.update(image_size=33),
    "no size": lambda a: a.pop("image_size"),
    "a size of 0": lambda a: a.update(image_size=0),
    "a size without end": lambda a: a.update(image_size=2**40),
    "a fit that there is not": lambda a: a.update(fit="guess"),
    "a background of two": lambda a: a.update(background=[1, 2]),
    "a background of text": lambda a: a.update(background="red"),
    "a negative step": lambda a: a.update(step=-1),
    "a step as text": lambda a: a.update(step="7"),
}


@pytest.mark.parametrize("case", ABOUT)
def test_a_model_whose_header_does_not_match_its_tensors_is_refused(tmp_path, case):
    save_tiny(tmp_path)
    tensors, about = read_tensors(tmp_path / "model.safetensors")
    ABOUT[case](about)
    write_tensors(tmp_path / "model.safetensors", tensors, about)
    with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("domain_styles"),
        lambda t: t.update(domain_sizes=torch.zeros(3)),
        lambda t: t.update(domain_styles=torch.zeros(3, 9)),
        lambda t: t.update(more=torch.zeros(1)),
        lambda t: t.pop("guide.style_head.weight"),
        lambda t: t.update({"guide.style_head.weight": t["guide.style_head.weight"].int()}),
    ],
)
def test_a_model_whose_tensors_do_not_fit_is_refused(tmp_path, change):
    save_tiny(tmp_path)
    tensors, about = read_tensors(tmp_path / "model.safetensors")
    change(tensors)
    write_tensors(tmp_path / "model.safetensors", tensors, about)
    with pytest.raises(RunError, match=r"is damaged \(it does not fit"):
        load_model(tmp_path)

import json

import pytest
import torch

from tiny_model import save_tiny
from tunit.errors import RunError
from tunit.networks.model_file import load_model
from tunit.networks.tensor_file import read_tensors, write_tensors


def test_a_model_comes_back_equal_frozen_and_in_evaluation_mode(tmp_path):
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


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match=r"holds no model\.safetensors"):
        load_model(tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    save_tiny(tmp_path)
    tensors, about = read_tensors(tmp_path / "model.safetensors")
    write_tensors(tmp_path / "model.safetensors", tensors, about | {"format": 99})
    with pytest.raises(RunError, match="of format 99"):
        load_model(tmp_path)

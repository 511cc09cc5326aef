"""The check of a device at the start: what passes, and an error that names the difference."""

import pytest
import torch

from tunit.errors import ConfigError
from tunit.training.self_check import check_device, small_step

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_cpu_passes():
    found = small_step(torch.device("cpu"))
    assert {
        "the gradient of guide",
        "the gradient of generator",
        "the gradient of discriminator",
    } < found.keys()
    assert all(value.norm() > 0 for name, value in found.items() if name.startswith("the gradient"))
    check_device(torch.device("cpu"), lambda device: found)


@pytest.mark.parametrize("name", ["the gradient of generator", "generator/reconstruction"])
@pytest.mark.parametrize("spoilt", [lambda v: v * 1.1, lambda v: v * torch.nan])
def test_a_device_with_other_results_is_refused_by_name(name, spoilt):
    right = {"the gradient of generator": torch.ones(5), "generator/reconstruction": torch.tensor(0.3)}
    wrong = right | {name: spoilt(right[name])}
    device = torch.device("meta")
    with pytest.raises(ConfigError, match=f"device meta computes {name} differently"):
        check_device(device, lambda where: wrong if where == device else right)


def test_a_device_that_cannot_take_a_step_is_one_sentence():
    def step(device):
        if device.type == "cpu":
            return {}
        raise NotImplementedError("no kernel for aten::roll\nmore lines")

    with pytest.raises(
        ConfigError, match=r"cannot take a training step \(no kernel for aten::roll\): use --device cpu"
    ):
        check_device(torch.device("meta"), step)


def test_devices_that_every_release_is_tested_on_are_not_checked():
    check_device(torch.device("cpu"))

"""The published names of tensors, their order and their shapes, computed by rule; compared with the published list
and with a second, independent list.
"""

from dataclasses import replace

import pytest
import torch

from golden import GOLDEN, shapes
from release_checkpoint import all_shapes
from tunit.config import Config, NetworkConfig
from tunit.methods.tunit import TUNIT
from tunit.networks.guide import Guide
from tunit.released.tensor_names import (
    is_adain_statistic,
    published_names,
    published_order,
    published_shapes,
)


def networks(size, settings):
    config = replace(Config(), networks=settings).with_overrides({"image_size": size})
    with torch.device("meta"):  # only names and shapes are needed, no values
        return {
            "C": TUNIT.guide(config),
            "D": TUNIT.discriminator(config),
            "G": TUNIT.generator(config),
        }


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden values at {GOLDEN}")
@pytest.mark.parametrize("letter", ["C", "D", "G"])
def test_names_order_and_shapes_are_those_of_the_release(letter):
    network = networks(64, NetworkConfig())[letter]
    ours = [(name, list(shape)) for name, shape in published_shapes(network).items()]
    assert ours == list(shapes()[letter].items())


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden values at {GOLDEN}")
def test_the_independent_list_is_correct_too():
    paper = all_shapes(64, 10, guide=64, generator=64, discriminator=64, style=128)
    assert {k: [(n, list(s)) for n, s in v.items()] for k, v in paper.items()} == {
        k: list(v.items()) for k, v in shapes().items()
    }


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("domains", [1, 7, 10])
def test_any_size_and_number_of_domains(size, domains):
    settings = NetworkConfig(
        domains=domains, style_width=6, guide_width=2, generator_width=3, discriminator_width=2
    )
    expected = all_shapes(size, domains, guide=2, generator=3, discriminator=2)
    for letter, network in networks(size, settings).items():
        assert list(published_shapes(network).items()) == list(expected[letter].items())


def test_some_names_and_their_positions():
    settings = NetworkConfig(guide_width=2, generator_width=2, discriminator_width=2)
    guide, discriminator, generator = networks(64, settings).values()
    names = published_names(discriminator)
    assert names["blocks.1.shortcut.weight"] == "main.2.conv1x1.weight"
    assert (names["gather.bias"], names["head.bias"]) == ("main.10.bias", "main.12.bias")
    order = list(published_shapes(discriminator))
    assert order[:5] == [
        "main.0.weight",
        "main.0.bias",
        *(f"main.1.norm1.{x}" for x in ("tau", "gamma", "beta")),
    ]
    assert published_shapes(discriminator)["main.1.norm1.tau"] == (1, 2, 1, 1)
    order = list(published_shapes(generator))
    i = order.index("decoder.model.2.conv.weight")
    assert order[i - 2 : i] == ["decoder.model.2.norm.running_mean", "decoder.model.2.norm.running_var"]
    assert not any(
        "norm" in name for name in order if name.startswith(("cnt_encoder", "decoder.model.5", "mlp"))
    )
    assert list(published_shapes(guide))[-4:] == ["disc.weight", "disc.bias", "cont.weight", "cont.bias"]


def test_order_contains_every_name_once():
    for network in networks(
        32, NetworkConfig(guide_width=2, generator_width=2, discriminator_width=2)
    ).values():
        assert sorted(published_order(network)) == sorted(network.state_dict())


def test_batch_norm_statistics_are_not_taken_for_those_of_adain():
    assert not any(map(is_adain_statistic, published_shapes(Guide(3, width=2))))


def test_networks_that_the_release_lacks_have_no_names():
    with pytest.raises(TypeError, match="the published implementation has no Linear"):
        published_names(torch.nn.Linear(2, 2))

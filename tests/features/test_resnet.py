"""ResNet-50, compared with its published layout and with a block written out; MoCo's checkpoints: good, wrong and
hostile.
"""

import math
import os

import numpy as np
import pytest
import torch

from tunit.errors import ConfigError
from tunit.features.feature_networks import load_feature_network
from tunit.features.imagenet import IMAGENET_MEAN, IMAGENET_STD
from tunit.features.resnet import Bottleneck, ResNet50, load_moco

pytestmark = pytest.mark.usefixtures("one_thread")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def published_layout():
    """Names and shapes of the published ResNet-50, copied by hand from table 1 of He et al. 2016."""
    shapes = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name, width):
        shapes.update({f"{name}.{part}": (width,) for part in BATCH_NORM})
        shapes[f"{name}.num_batches_tracked"] = ()

    norm("bn1", 64)
    channels = 64
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            shapes[f"{at}.conv1.weight"] = (width, channels, 1, 1)
            shapes[f"{at}.conv2.weight"] = (width, width, 3, 3)
            shapes[f"{at}.conv3.weight"] = (4 * width, width, 1, 1)
            for number, size in ((1, width), (2, width), (3, 4 * width)):
                norm(f"{at}.bn{number}", size)
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (4 * width, channels, 1, 1)
                norm(f"{at}.downsample.1", 4 * width)
            channels = 4 * width
    return shapes


def checkpoint(seed=0):
    """A random checkpoint in MoCo's layout, with small values so that all results are finite."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in published_layout().items():
        value = torch.randn(shape, generator=generator) * (2 / max(1, math.prod(shape[1:]))) ** 0.5
        if name.endswith("num_batches_tracked"):
            value = torch.tensor(7)
        elif len(shape) == 1:
            value = value.abs() * 0.1 + 0.5
        weights[f"module.encoder_q.{name}"] = value
        weights[f"module.encoder_k.{name}"] = torch.zeros(shape)
    weights["module.encoder_q.fc.0.weight"] = torch.zeros(2048, 8)
    weights["module.queue"] = torch.zeros(128, 4)
    return {
        "epoch": 800,
        "arch": "resnet50",
        "state_dict": weights,
        "optimizer": {"param_groups": [{"lr": 0.1}]},
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("moco") / "moco_v2_800ep_pretrain.pth.tar"
    # The published file has torch's older format.
    torch.save(checkpoint(), path, _use_new_zipfile_serialization=False)
    return path


def test_names_shapes_and_number_of_parameters_are_the_published_ones():
    network = ResNet50()
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == published_layout()
    number = sum(parameter.numel() for parameter in network.parameters())
    assert number == 23_508_032
    assert number + 2048 * 1000 + 1000 == 25_557_032


def literal_convolution(x, weight, stride, padding):
    """Convolution of (C, H, W) with (O, C, k, k), by definition."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    k = weight.shape[2]
    height, width = ((side - k) // stride + 1 for side in x.shape[1:])
    out = np.zeros((len(weight), height, width))
    for o in range(len(weight)):
        for i in range(height):
            for j in range(width):
                patch = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
                out[o, i, j] = (patch * weight[o]).sum()
    return out


@pytest.mark.parametrize(("channels", "stride"), [(6, 2), (8, 1)])
def test_a_bottleneck_follows_the_formula(channels, stride):
    torch.manual_seed(0)
    block = Bottleneck(channels, 2, stride).double().eval()
    for value in block.state_dict().values():
        if value.dtype == torch.float64 and value.dim() == 1:
            value.uniform_(0.5, 1.5)
    w = {name: value.numpy() for name, value in block.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(channels, 5, 5))

    def norm(y, name):
        scale, shift, mean, variance = (w[f"{name}.{part}"][:, None, None] for part in BATCH_NORM)
        return (y - mean) / np.sqrt(variance + 1e-5) * scale + shift

    y = np.maximum(norm(literal_convolution(x, w["conv1.weight"], 1, 0), "bn1"), 0)
    y = np.maximum(norm(literal_convolution(y, w["conv2.weight"], stride, 1), "bn2"), 0)
    y = norm(literal_convolution(y, w["conv3.weight"], 1, 0), "bn3")
    if channels != 8 or stride != 1:
        shortcut = norm(literal_convolution(x, w["downsample.0.weight"], stride, 0), "downsample.1")
    else:
        shortcut = x
    found = block(torch.from_numpy(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(found, np.maximum(y + shortcut, 0), rtol=1e-9, atol=1e-12)


def test_the_checkpoint_is_loaded_and_pictures_are_normalised_at_224(file):
    network = load_feature_network(str(file))
    assert network.name.startswith("moco-v2 (moco_v2_800ep_pretrain.pth.tar ")
    plain = ResNet50()
    weights = checkpoint()["state_dict"]
    plain.load_state_dict({name: weights[f"module.encoder_q.{name}"] for name in published_layout()})
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    normal = torch.stack([(x[:, i] - IMAGENET_MEAN[i]) / IMAGENET_STD[i] for i in range(3)], 1)
    with torch.no_grad():
        expected = plain.eval()(normal)
    assert expected.shape == (1, 2048)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    assert network(x[:, :, :32, :32]).shape == (1, 2048)


def test_the_network_is_float32_whatever_the_default_dtype(file, default_float64):
    assert {p.dtype for p in load_moco(file).parameters()} == {torch.float32}


def without(name):
    content = checkpoint()
    del content["state_dict"][name]
    return content


def with_tensor(name, value):
    content = checkpoint()
    content["state_dict"][name] = value
    return content


class Hostile:
    """Creates a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


WRONG = {
    "one tensor is missing": (lambda: without("module.encoder_q.layer3.5.bn3.weight"), "layer3.5.bn3.weight"),
    "one has another shape": (
        lambda: with_tensor("module.encoder_q.conv1.weight", torch.zeros(64, 3, 3, 3)),
        "conv1.weight is missing, of another shape",
    ),
    "a deeper network": (
        lambda: with_tensor("module.encoder_q.layer3.6.conv1.weight", torch.zeros(256, 1024, 1, 1)),
        "not of a ResNet-50",
    ),
    "not finite": (
        lambda: with_tensor("module.encoder_q.bn1.bias", torch.full((64,), float("nan"))),
        "not finite",
    ),
    "another training's": (
        lambda: {"state_dict": {"conv1.weight": torch.zeros(1)}},
        "has no module.encoder_q",
    ),
    "no table": (lambda: [1, 2], "has no module.encoder_q"),
    "a table of something else": (lambda: {"state_dict": 5}, "has no module.encoder_q"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_checkpoint_is_one_sentence(tmp_path, case):
    content, message = WRONG[case]
    torch.save(content(), tmp_path / "a.pth.tar")
    with pytest.raises(ConfigError, match=message) as caught:
        load_feature_network(str(tmp_path / "a.pth.tar"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("newer", [True, False])
def test_a_hostile_checkpoint_is_refused_and_not_executed(tmp_path, newer):
    trace = tmp_path / "trace"
    content = checkpoint() | {"more": Hostile(str(trace))}
    torch.save(content, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=newer)
    with pytest.raises(ConfigError, match="holds more than tensors and numbers"):
        load_moco(tmp_path / "a.pth.tar")
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    (tmp_path / "a.pth.tar").write_bytes(content)
    with pytest.raises(ConfigError, match="give the published MoCo v2 checkpoint"):
        load_moco(tmp_path / "a.pth.tar")


def test_a_missing_file_is_an_error_that_says_where_to_download_it():
    with pytest.raises(
        ConfigError, match=r"is not downloaded.*moco_v2_800ep_pretrain\.pth\.tar.*--features FILE"
    ):
        load_feature_network("moco-v2")

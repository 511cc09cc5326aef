"""The SEMIT baseline's networks: octave convolution against plain and dense ones, and whole forward passes."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiny_model import assert_translates
from tunit.config import Config
from tunit.methods.model_file import Model, load_model, save_model
from tunit.methods.semit import SEMIT
from tunit.networks.funit_networks import ClassEncoder, FunitGenerator, PatchDiscriminator
from tunit.networks.semit_networks import (
    OctaveConv2d,
    OctaveGenerator,
    SemitEncoder,
    octaves_to_tensor,
    split_width,
    tensor_to_octaves,
)
from tunit.translation.translator import Translator

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_of(network: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(1)
    for parameter in network.double().parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 0, 0.2)
    return network.state_dict()


def conv(h: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """A convolution with mirrored borders, computed for one output position at a time."""
    k = weight.shape[-1]
    pad = (k - stride + 1) // 2
    mirror = [abs(i) if i < h.shape[2] else 2 * h.shape[2] - 2 - i for i in range(-pad, h.shape[2] + pad)]
    h = h[:, :, mirror][:, :, :, mirror]
    places = range(0, h.shape[2] - k + 1, stride)
    rows = [
        torch.stack([torch.einsum("bcij,ocij->bo", h[:, :, i : i + k, j : j + k], weight) for j in places], 2)
        for i in places
    ]
    y = torch.stack(rows, 2)
    return y if bias is None else y + bias[:, None, None]


def pool(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def repeat(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


# ---- octave convolution ----


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (7, 1), (4, 2)])
@pytest.mark.parametrize(("inputs", "outputs"), [((3, 2), (4, 5)), ((3, 0), (4, 5)), ((3, 2), (4, 0))])
def test_octave_convolution_for_each_path(inputs, outputs, kernel: int, stride: int) -> None:
    layer = OctaveConv2d(inputs, outputs, kernel, stride)
    values = random_of(layer)
    high, low = noise(2, inputs[0], 16, 16), noise(2, inputs[1], 8, 8, seed=3) if inputs[1] else None

    def path(name: str, x: Tensor) -> Tensor:
        return conv(x, values[f"{name}.weight"], values.get(f"{name}.bias"), stride)

    y_high = path("high_to_high", high)
    if low is not None:
        y_high = y_high + repeat(path("low_to_high", low))
    found_high, found_low = layer((high, low))
    torch.testing.assert_close(found_high, y_high, atol=1e-12, rtol=0)
    if not outputs[1]:
        assert found_low is None
    else:
        y_low = path("high_to_low", pool(high))
        if low is not None:
            y_low = y_low + path("low_to_low", low)
        torch.testing.assert_close(found_low, y_low, atol=1e-12, rtol=0)
    # One bias for each output, not one per path.
    biases = [v.shape[0] for k, v in values.items() if k.endswith("bias")]
    assert sorted(biases) == sorted(n for n in outputs if n)


def test_octave_convolution_equals_one_dense_matrix() -> None:
    """Inputs with a single 1 give the matrix; it is also built directly from the four kernels, entry by entry."""
    layer = OctaveConv2d((1, 1), (1, 1), 3)
    w = {k: v[0, 0] for k, v in random_of(layer).items() if v.dim() == 4}
    for bias in (layer.high_to_high.bias, layer.low_to_low.bias):
        nn.init.zeros_(bias)
    n = 4
    m = n // 2

    def mirror(i: int, size: int) -> int:
        return -i if i < 0 else 2 * size - 2 - i if i >= size else i

    def entries(kernel: Tensor, size: int) -> Tensor:
        """A plain 3 x 3 convolution of a map of `size` as a matrix."""
        matrix = torch.zeros(size, size, size, size, dtype=torch.float64)
        for i in range(size):
            for j in range(size):
                for a in range(3):
                    for b in range(3):
                        matrix[i, j, mirror(i + a - 1, size), mirror(j + b - 1, size)] += kernel[a, b]
        return matrix.reshape(size * size, size * size)

    spread = torch.zeros(n, n, m, m, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            spread[i, j, i // 2, j // 2] = 1
    spread = spread.reshape(n * n, m * m)
    gather = spread.T / 4
    top = [entries(w["high_to_high.weight"], n), spread @ entries(w["low_to_high.weight"], m)]
    bottom = [entries(w["high_to_low.weight"], m) @ gather, entries(w["low_to_low.weight"], m)]
    dense = torch.cat([torch.cat(top, 1), torch.cat(bottom, 1)])

    x = noise(1, n * n + m * m)[0]
    high, low = layer((x[: n * n].view(1, 1, n, n), x[n * n :].view(1, 1, m, m)))
    found = torch.cat([high.flatten(), low.flatten()])
    torch.testing.assert_close(found, dense @ x, atol=1e-12, rtol=0)


def test_without_a_low_frequency_it_is_a_plain_convolution() -> None:
    layer, x = OctaveConv2d((3, 0), (4, 0), 3).double(), noise(2, 3, 8, 8)
    high, low = layer((x, None))
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    plain = F.conv2d(padded, layer.high_to_high.weight, layer.high_to_high.bias)
    torch.testing.assert_close(high, plain, atol=1e-12, rtol=0)
    assert low is None
    assert [name for name, _ in layer.named_parameters()] == ["high_to_high.weight", "high_to_high.bias"]


def test_join_and_separate_are_exact_inverses() -> None:
    high, low = torch.randn(2, 3, 8, 8), torch.randn(2, 2, 4, 4)
    joined = octaves_to_tensor((high, low))
    assert joined.shape == (2, 5, 8, 8)
    back = tensor_to_octaves(joined, 3)
    assert torch.equal(back[0], high)
    assert torch.equal(back[1], low)
    assert tensor_to_octaves(octaves_to_tensor((high, None)), 3)[1] is None


def test_split_width() -> None:
    assert split_width(64, 0.5) == (32, 32)
    assert split_width(64, 0.25) == (48, 16)
    assert split_width(64, 0.0) == (64, 0)
    assert split_width(64, 1.0) == (1, 63)


# ---- G ----


@pytest.mark.parametrize("size", [32, 64])
def test_without_a_low_frequency_g_equals_funits(size: int) -> None:
    ours, theirs = (
        OctaveGenerator(size, 3, width=2, style_width=5, share=0.0),
        FunitGenerator(size, width=2, style_width=5),
    )
    values = random_of(ours)
    renamed = {k.replace("high_to_high.", ""): v for k, v in values.items() if "content_head" not in k}
    theirs.double().load_state_dict(renamed)
    x, s = noise(2, 3, size, size), noise(2, 5)
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(ours(x, s), theirs(x, s), atol=1e-12, rtol=0)


def normal(h: Tensor) -> Tensor:
    mean, var = h.mean((2, 3), keepdim=True), h.var((2, 3), unbiased=False, keepdim=True)
    return (h - mean) / (var + 1e-5).sqrt()


class Literal:
    """G written out, with pairs of maps and plain convolutions with the named weights."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        self.values = values

    def plain(self, name: str, x: Tensor, pad: int, stride: int) -> Tensor:
        x = F.pad(x, (pad, pad, pad, pad), mode="reflect")
        return F.conv2d(x, self.values[f"{name}.weight"], self.values.get(f"{name}.bias"), stride)

    def octave(self, name: str, high: Tensor, low: Tensor | None, pad: int, stride: int = 1):
        y_high = self.plain(f"{name}.high_to_high", high, pad, stride)
        if low is not None:
            y_high = y_high + repeat(self.plain(f"{name}.low_to_high", low, pad, stride))
        if f"{name}.high_to_low.weight" not in self.values:
            return y_high, None
        y_low = self.plain(f"{name}.high_to_low", pool(high), pad, stride)
        if low is not None:
            y_low = y_low + self.plain(f"{name}.low_to_low", low, pad, stride)
        return y_high, y_low


@pytest.mark.parametrize(("size", "halvings"), [(32, 1), (64, 2)])
def test_generator_layer_by_layer(size: int, halvings: int) -> None:
    generator = OctaveGenerator(size, 3, width=4, style_width=5, share=0.25)
    net = Literal(random_of(generator))
    x, s = noise(2, 3, size, size), noise(2, 5)
    high, low = (normal(h).relu() for h in net.octave("content_encoder.stem", x, None, 3))
    for i in range(halvings):
        pair = net.octave(f"content_encoder.down.{i}", high, low, 1, stride=2)
        high, low = (normal(h).relu() for h in pair)
    for i in (0, 2):
        inner = [normal(h).relu() for h in net.octave(f"content_encoder.residual.{i}", high, low, 1)]
        outer = [normal(h) for h in net.octave(f"content_encoder.residual.{i + 1}", *inner, 1)]
        high, low = high + 0.1 * outer[0], low + 0.1 * outer[1]
    wide = 4 * 2**halvings
    assert (high.shape[1], low.shape[1]) == (wide * 3 // 4, wide // 4)
    c = torch.cat([high, repeat(low)], 1)
    torch.testing.assert_close(generator.encode(x), c, atol=1e-11, rtol=0)

    table = s
    for i in (0, 2, 4):
        table = table @ net.values[f"style_mlp.{i}.weight"].T + net.values[f"style_mlp.{i}.bias"]
        table = table.relu() if i < 4 else table
    layers = iter(table.chunk(4, dim=1))

    def adain(pair: tuple[Tensor, Tensor]) -> list[Tensor]:
        shift, scale = next(layers)[:, :, None, None].chunk(2, dim=1)
        n = pair[0].shape[1]
        return [
            scale[:, :n] * normal(pair[0]) + shift[:, :n],
            scale[:, n:] * normal(pair[1]) + shift[:, n:],
        ]

    for i in (0, 2):
        inner = [h.relu() for h in adain(net.octave(f"decoder.residual.{i}", high, low, 1))]
        outer = adain(net.octave(f"decoder.residual.{i + 1}", *inner, 1))
        high, low = high + 0.1 * outer[0], low + 0.1 * outer[1]
    for i in range(halvings):
        pair = net.octave(f"decoder.up.{i}", repeat(high), repeat(low), 2)
        high, low = (normal(h).relu() for h in pair)
    picture, nothing = net.octave("decoder.to_picture", high, low, 3)
    assert nothing is None
    torch.testing.assert_close(generator(x, s), picture.tanh(), atol=1e-11, rtol=0)


@pytest.mark.parametrize(("size", "halvings"), [(32, 1), (128, 3), (256, 3)])
def test_shapes_and_sizes(size: int, halvings: int) -> None:
    """Content codes have the shape of FUNIT's: half of the channels are at half of the size, and there are as many
    weights.
    """
    with torch.device("meta"):
        ours, theirs = OctaveGenerator(size, 7), FunitGenerator(size)
        c = ours.encode(torch.empty(2, 3, size, size))
        image = ours.decode(c, torch.empty(2, 64))
    wide = 64 * 2**halvings
    assert c.shape == (2, wide, size // 2**halvings, size // 2**halvings)
    assert image.shape == (2, 3, size, size)
    count = [sum(p.numel() for p in network.parameters()) for network in (ours, theirs)]
    assert count[0] - count[1] == wide * 7 + 7  # the content head


def test_initialisation_has_one_fan_in_per_output() -> None:
    torch.manual_seed(0)
    generator = OctaveGenerator(64, 3, width=32, share=0.25)
    layer = generator.content_encoder.residual[0]
    widths = split_width(128, 0.25)
    for path in (layer.high_to_high, layer.low_to_high, layer.high_to_low, layer.low_to_low):
        expected = math.sqrt(2 / (9 * sum(widths)))
        assert path.weight.std().item() == pytest.approx(expected, rel=0.1)
    stem = generator.content_encoder.stem
    for path in (stem.high_to_high, stem.high_to_low):
        assert path.weight.std().item() == pytest.approx(math.sqrt(2 / (49 * 3)), rel=0.1)


def test_content_is_used_twice_with_separate_gradients() -> None:
    generator = OctaveGenerator(32, 3, width=2, style_width=5).double()
    nn.init.normal_(generator.content_head.weight)
    c = noise(2, 4, 16, 16).requires_grad_()
    of_head, of_encoder = generator.read_content(c)
    expected = c.mean((2, 3)) @ generator.content_head.weight.T + generator.content_head.bias
    torch.testing.assert_close(of_head, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(of_encoder, expected, atol=1e-12, rtol=0)
    of_head.square().sum().backward()
    assert c.grad is None
    assert generator.content_head.weight.grad.abs().sum() > 0
    generator.zero_grad(set_to_none=True)
    of_encoder.square().sum().backward()
    assert c.grad.abs().sum() > 0
    assert generator.content_head.weight.grad is None


# ---- the class encoder ----


def test_the_encoders_logits_are_its_classifier_applied_to_the_style() -> None:
    encoder = SemitEncoder(3, width=2, style_width=5)
    values, x = random_of(encoder), noise(2, 3, 32, 32)
    plain = ClassEncoder(3, width=2, style_width=5).double()
    plain.load_state_dict({k: v for k, v in values.items() if not k.startswith("classifier")})
    guidance = encoder(x)
    torch.testing.assert_close(guidance.style, plain(x).style, atol=1e-12, rtol=0)
    hidden = (guidance.style @ values["classifier.0.weight"].T + values["classifier.0.bias"]).relu()
    expected = hidden @ values["classifier.2.weight"].T + values["classifier.2.bias"]
    torch.testing.assert_close(guidance.logits, expected, atol=1e-12, rtol=0)


def test_at_the_start_every_class_is_about_equally_likely() -> None:
    torch.manual_seed(0)
    p = SemitEncoder(4)(torch.randn(8, 3, 32, 32)).logits.softmax(1)
    assert p.amin() > 0.15
    assert p.amax() < 0.4


def test_style_and_logits_are_float32_under_autocast() -> None:
    encoder, x = SemitEncoder(4, width=2), torch.randn(2, 3, 32, 32)
    generator = OctaveGenerator(32, 4, width=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {encoder(x).style.dtype, encoder(x).logits.dtype} == {torch.float32}
        c = generator.encode(x)
        assert {logits.dtype for logits in generator.read_content(c)} == {torch.float32}


# ---- used as E, G and D ----


def test_the_config_creates_them() -> None:
    config = Config().with_overrides(
        {
            "method": "semit",
            "domains": 3,
            "style_width": 5,
            "guide_width": 2,
            "octave_share": 0.25,
            "image_size": 256,
        }
    )
    with torch.device("meta"):
        guide, generator = SEMIT.guide(config), SEMIT.generator(config)
        discriminator = SEMIT.discriminator(config)
    assert [type(n) for n in (guide, generator, discriminator)] == [
        SemitEncoder,
        OctaveGenerator,
        PatchDiscriminator,
    ]
    assert guide.classifier[2].out_features == generator.content_head.out_features == 3
    stem = generator.content_encoder.stem
    assert (stem.high_to_high.out_channels, stem.high_to_low.out_channels) == (48, 16)


def test_a_model_file_and_the_translator_accept_them(tmp_path) -> None:
    torch.manual_seed(0)
    config = Config().with_overrides(
        {
            "method": "semit",
            "domains": 3,
            "style_width": 5,
            "guide_width": 2,
            "generator_width": 2,
            "image_size": 32,
        }
    )
    guide, generator = SEMIT.guide(config).eval(), SEMIT.generator(config).eval()
    for a, b in pairwise(guide.classifier):  # logits that differ clearly
        nn.init.normal_((a if isinstance(a, nn.Linear) else b).weight)
    styles, sizes = torch.randn(3, 5), torch.tensor([3, 4, 5])
    save_model(tmp_path, Model(guide, generator, config, styles, sizes, step=1))
    assert type(load_model(tmp_path).generator) is OctaveGenerator
    translator = Translator.load(tmp_path, device="cpu")
    x = torch.rand(6, 3, 32, 32) * 2 - 1
    x[::2] *= 0.1
    p = guide(x).logits.softmax(1)
    found = translator.classify(list(x))
    assert found.domains.tolist() == p.argmax(1).tolist()
    torch.testing.assert_close(found.confidences, p.amax(1).detach(), atol=1e-5, rtol=1e-5)
    assert found.confidences.max() > 0.4  # FUNIT's class encoder would give every class the same probability
    assert_translates(translator, (guide, generator), x)

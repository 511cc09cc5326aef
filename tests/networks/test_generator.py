"""G: its size and shapes, and both halves written out layer by layer."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.generator import Generator, default_width


def count(size: int, width: int) -> int:
    """The number of G's parameters in the paper's architecture, added layer by layer."""
    n = int(math.log2(size // 16))
    wide = width * 2**n

    def conv(a: int, b: int, k: int) -> int:
        return a * b * k * k + b

    encoder = conv(3, width, 7) + sum(conv(width * 2**i, width * 2 ** (i + 1), 4) for i in range(n))
    residual = 4 * conv(wide, wide, 3)
    decoder = sum(conv(width * 2 ** (i + 1), width * 2**i, 5) for i in range(n)) + conv(width, 3, 7)
    adain = 4 * wide + sum(width * 2**i for i in range(n))
    mlp = 128 * 256 + 256 + 256 * 256 + 256 + 256 * 2 * adain + 2 * adain
    return encoder + 2 * residual + decoder + mlp


@pytest.mark.parametrize(("size", "millions"), [(32, None), (64, 7.1), (128, 27.3), (256, None)])
def test_number_of_parameters_equals_the_papers(size: int, millions: float | None) -> None:
    with torch.device("meta"):
        generator = Generator(size)
    found = sum(p.numel() for p in generator.parameters())
    assert found == count(size, 64 if size < 256 else 32)
    assert millions is None or round(found / 1e6, 1) == millions


def test_default_width() -> None:
    assert [default_width(s) for s in (32, 64, 128, 256, 512)] == [64, 64, 64, 32, 32]


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_shapes(size: int) -> None:
    with torch.device("meta"):
        generator = Generator(size, width=8, style_width=5)
        c = generator.encode(torch.empty(2, 3, size, size))
        image = generator.decode(c, torch.empty(2, 5))
    assert c.shape == (2, 8 * size // 16, 16, 16)
    assert image.shape == (2, 3, size, size)


def normal(h: Tensor) -> Tensor:
    mean, var = h.mean((2, 3), keepdim=True), h.var((2, 3), unbiased=False, keepdim=True)
    return (h - mean) / (var + 1e-5).sqrt()


def conv(h: Tensor, values: dict[str, Tensor], name: str, pad: int, stride: int = 1) -> Tensor:
    h = F.pad(h, (pad, pad, pad, pad), mode="reflect")
    return F.conv2d(h, values[f"{name}.weight"], values[f"{name}.bias"], stride)


def random_generator(size: int) -> tuple[Generator, dict[str, Tensor]]:
    torch.manual_seed(0)
    generator = Generator(size, width=4, style_width=6).double()
    for parameter in generator.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 0, 0.2)
    return generator, generator.state_dict()


@pytest.mark.parametrize("size", [32, 64])
def test_content_encoder_layer_by_layer(size: int) -> None:
    generator, values = random_generator(size)
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    h = normal(conv(x, values, "content_encoder.stem", 3)).relu()
    for i in range({32: 1, 64: 2}[size]):
        h = normal(conv(h, values, f"content_encoder.down.{i}", 1, stride=2)).relu()
    for i in (0, 2):
        inner = normal(conv(h, values, f"content_encoder.residual.{i}", 1)).relu()
        h = h + 0.1 * normal(conv(inner, values, f"content_encoder.residual.{i + 1}", 1))
    torch.testing.assert_close(generator.encode(x), h, atol=1e-11, rtol=0)


@pytest.mark.parametrize("size", [32, 64])
def test_decoder_layer_by_layer(size: int) -> None:
    """Checks also the order of the AdaIN parameters: layers in network order, each with its shifts before its
    scales.
    """
    generator, values = random_generator(size)
    c = torch.randn(2, 4 * size // 16, 16, 16, dtype=torch.float64)
    s = torch.randn(2, 6, dtype=torch.float64)
    table = s
    for i in (0, 2, 4):
        table = table @ values[f"style_mlp.{i}.weight"].T + values[f"style_mlp.{i}.bias"]
        table = table.relu() if i < 4 else table
    used = 0

    def adain(h: Tensor) -> Tensor:
        nonlocal used
        width = h.shape[1]
        shift, scale = table[:, used : used + width], table[:, used + width : used + 2 * width]
        used += 2 * width
        return scale[:, :, None, None] * normal(h) + shift[:, :, None, None]

    h = c
    for i in (0, 2):
        inner = adain(conv(h, values, f"decoder.residual.{i}", 1)).relu()
        h = h + 0.1 * adain(conv(inner, values, f"decoder.residual.{i + 1}", 1))
    for i in range({32: 1, 64: 2}[size]):
        h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        h = adain(conv(h, values, f"decoder.up.{i}", 2)).relu()
    expected = conv(h, values, "decoder.to_picture", 3).tanh()
    assert used == table.shape[1]
    torch.testing.assert_close(generator.decode(c, s), expected, atol=1e-11, rtol=0)


def test_adain_parameters_are_shifts_first_then_scales() -> None:
    """If every scale of layer `up` is 0, the result must not depend on the content, except through the
    residual path.
    """
    generator, _ = random_generator(32)
    widths = generator.decoder.adain_widths
    assert widths == [8, 8, 8, 8, 4]
    start = 2 * sum(widths[:4])
    table = torch.randn(2, 2 * sum(widths), dtype=torch.float64)
    c = torch.randn(2, 8, 16, 16, dtype=torch.float64)
    table[:, start + 4 :] = 0  # the scales of the last layer
    table[:, start : start + 4] = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)  # its shifts
    flat = torch.tensor([1.0, 0.0, 3.0, 0.5], dtype=torch.float64).view(1, 4, 1, 1).expand(2, 4, 32, 32)
    expected = generator.decoder.to_picture(flat).tanh()
    torch.testing.assert_close(generator.decoder(c, table), expected, atol=1e-12, rtol=0)


def test_a_picture_does_not_depend_on_its_batch() -> None:
    generator, _ = random_generator(32)
    x, s = torch.randn(3, 3, 32, 32, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    whole = generator(x, s)
    for i in range(3):
        torch.testing.assert_close(
            generator(x[i : i + 1], s[i : i + 1]), whole[i : i + 1], atol=1e-12, rtol=0
        )


def test_initialisation() -> None:
    torch.manual_seed(0)
    generator = Generator(32, width=16)
    layers = [m for m in generator.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 1 + 1 + 4 + 4 + 1 + 1 + 3
    for layer in layers:
        fan_in = layer.weight[0].numel()
        tolerance = 5 / (2 * layer.weight.numel()) ** 0.5
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=tolerance)
        assert not layer.bias.any()

"""D: its size and shapes, its forward pass written out, and the choice of the label's logit."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunit.networks.discriminator import ActivationFirstBlock, Discriminator


def count(size: int, width: int, domains: int) -> int:
    """The number of D's parameters in the paper's architecture, added layer by layer."""
    total, w = 3 * width * 9 + width, width
    for _ in range(int(math.log2(size)) - 2):
        wider = min(2 * w, 1024)
        total += 2 * (3 * w) + 2 * (9 * w * w + w)
        total += 2 * (3 * w) + 9 * w * w + w + 9 * w * wider + wider + (w * wider if wider != w else 0)
        w = wider
    return total + 16 * w * w + w + w * domains + domains


@pytest.mark.parametrize(("size", "millions"), [(32, None), (64, 33.2), (128, 70.9), (256, None)])
def test_number_of_parameters_equals_the_papers(size: int, millions: float | None) -> None:
    with torch.device("meta"):
        discriminator = Discriminator(size, 10)
    found = sum(p.numel() for p in discriminator.parameters())
    assert found == count(size, 64 if size < 256 else 32, 10)
    assert millions is None or round(found / 1e6, 1) == millions


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("domains", [1, 7])
def test_shapes(size: int, domains: int) -> None:
    with torch.device("meta"):
        discriminator = Discriminator(size, domains, width=4)
        assert discriminator(torch.empty(2, 3, size, size)).shape == (2, domains)


def frn(h: Tensor, values: dict[str, Tensor], name: str) -> Tensor:
    gamma, beta, tau = (values[f"{name}.{k}"].view(-1, 1, 1) for k in ("gamma", "beta", "tau"))
    normal = h / (h.square().mean((2, 3), keepdim=True) + 1e-6).sqrt()
    return torch.where(gamma * normal + beta > tau, gamma * normal + beta, tau)


def pool(h: Tensor) -> Tensor:
    return (h[:, :, ::2, ::2] + h[:, :, 1::2, ::2] + h[:, :, ::2, 1::2] + h[:, :, 1::2, 1::2]) / 4


def block(h: Tensor, values: dict[str, Tensor], name: str, halve: bool) -> Tensor:
    """As the paper describes it: shortcut convolution first, then pooling."""

    def conv(h: Tensor, which: str) -> Tensor:
        return F.conv2d(h, values[f"{name}.{which}.weight"], values[f"{name}.{which}.bias"], padding=1)

    residual = conv(frn(h, values, f"{name}.norm1"), "conv1")
    residual = pool(residual) if halve else residual
    residual = conv(frn(residual, values, f"{name}.norm2"), "conv2")
    shortcut = values.get(f"{name}.shortcut.weight")
    if shortcut is not None:
        h = F.conv2d(h, shortcut)
    h = pool(h) if halve else h
    return (h + residual) / math.sqrt(2)


def randomise(network: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(1)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return network.state_dict()


@pytest.mark.parametrize("halve", [False, True])
@pytest.mark.parametrize("wider", [4, 6])
def test_activation_first_block(halve: bool, wider: int) -> None:
    network = ActivationFirstBlock(4, wider, halve=halve).double()
    values = {f"b.{k}": v for k, v in randomise(network).items()}
    assert ("b.shortcut.weight" in values) == (wider != 4)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(network(x), block(x, values, "b", halve), atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [32, 64])
def test_forward_pass_layer_by_layer(size: int) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(size, 3, width=2).double()
    values = randomise(discriminator)
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    h = F.conv2d(x, values["stem.weight"], values["stem.bias"], padding=1)
    for i in range({32: 6, 64: 8}[size]):
        h = block(h, values, f"blocks.{i}", halve=i % 2 == 1)
    assert h.shape[2:] == (4, 4)
    h = torch.where(h > 0, h, 0.2 * h)
    h = torch.einsum("bchw,ochw->bo", h, values["gather.weight"]) + values["gather.bias"]
    h = torch.where(h > 0, h, 0.2 * h)
    expected = h @ values["head.weight"][:, :, 0, 0].T + values["head.bias"]
    torch.testing.assert_close(discriminator(x), expected, atol=1e-11, rtol=0)


def test_width_is_at_most_1024() -> None:
    with torch.device("meta"):
        discriminator = Discriminator(256, 1, width=128)
    assert [b.conv2.out_channels for b in discriminator.blocks] == [
        128, 256, 256, 512, 512, 1024, 1024, 1024, 1024, 1024, 1024, 1024,
    ]  # fmt: skip


def test_judge_returns_the_logit_of_each_pictures_label() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(32, 4, width=2).double()
    x, y = torch.randn(5, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 0, 2, 1, 0])
    logits, judged = discriminator(x), discriminator.judge(x, y)
    assert judged.shape == (5,)
    assert judged.tolist() == pytest.approx([logits[i, label].item() for i, label in enumerate(y)])


def test_only_the_column_of_the_label_gets_a_gradient() -> None:
    discriminator = Discriminator(32, 4, width=2)
    discriminator.judge(torch.randn(2, 3, 32, 32), torch.tensor([1, 3])).sum().backward()
    assert discriminator.head.bias.grad is not None
    assert discriminator.head.bias.grad.tolist() == [0, 1, 0, 1]


def test_judge_is_float32_under_autocast() -> None:
    discriminator = Discriminator(32, 4, width=2)
    x, y = torch.randn(2, 3, 32, 32), torch.tensor([1, 3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert discriminator(x).dtype == torch.bfloat16
        assert discriminator.judge(x, y).dtype == torch.float32
        assert discriminator.judge(x.bfloat16(), y).dtype == torch.float32


def test_initialisation() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(32, 10, width=16)
    layers = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert len(layers) == 1 + 3 * 5 + 2
    for layer in layers:
        fan_in = layer.weight[0].numel()
        tolerance = 5 / (2 * layer.weight.numel()) ** 0.5
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=tolerance)
        assert layer.bias is None or not layer.bias.any()

"""The FUNIT baseline's networks: sizes, shapes, and each forward pass written out layer by layer."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiny_model import assert_translates
from tunit.config import Config
from tunit.methods.funit import FUNIT
from tunit.methods.model_file import Model, load_model, save_model
from tunit.networks import padding
from tunit.networks.funit_networks import ClassEncoder, FunitGenerator, PatchDiscriminator
from tunit.translation.translator import Translator

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = [32, 64, 128, 256]


def parameters_of(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def conv_size(a: int, b: int, k: int) -> int:
    return a * b * k * k + b


# ---- sizes and shapes ----


def test_the_class_encoder_has_as_many_parameters_as_section_10_says() -> None:
    with torch.device("meta"):
        encoder = ClassEncoder(10)
    down = conv_size(64, 128, 4) + conv_size(128, 256, 4) + 2 * conv_size(256, 256, 4)
    expected = conv_size(3, 64, 7) + down + conv_size(256, 64, 1)
    assert parameters_of(encoder) == expected == 2_779_328


@pytest.mark.parametrize(("size", "halvings"), [(32, 1), (64, 2), (128, 3), (256, 3)])
def test_the_generator_halves_the_side_three_times_at_most(size: int, halvings: int) -> None:
    with torch.device("meta"):
        generator = FunitGenerator(size)
        c = generator.encode(torch.empty(2, 3, size, size))
        image = generator.decode(c, torch.empty(2, 64))
    wide = 64 * 2**halvings
    assert c.shape == (2, wide, size // 2**halvings, size // 2**halvings)
    assert image.shape == (2, 3, size, size)
    scales = [(64 * 2**i, 64 * 2 ** (i + 1)) for i in range(halvings)]
    encoder = conv_size(3, 64, 7) + sum(conv_size(a, b, 4) for a, b in scales)
    decoder = sum(conv_size(b, a, 5) for a, b in scales) + conv_size(64, 3, 7)
    adain = 2 * 4 * wide  # shift and scale of the four layers in two residual blocks
    mlp = 64 * 256 + 256 + 256 * 256 + 256 + 256 * adain + adain
    assert parameters_of(generator) == encoder + 8 * conv_size(wide, wide, 3) + decoder + mlp


def block_size(a: int, b: int) -> int:
    return conv_size(a, a, 3) + conv_size(a, b, 3) + (a * b if a != b else 0)


def test_the_discriminator_has_as_many_parameters_as_section_10_says() -> None:
    pairs = [(64, 128), (128, 256), (256, 512), (512, 1024), (1024, 1024)]
    expected = conv_size(3, 64, 7) + sum(block_size(a, a) + block_size(a, b) for a, b in pairs)
    for size in SIZES:
        with torch.device("meta"):
            assert parameters_of(PatchDiscriminator(size, 7)) == expected + conv_size(1024, 7, 1)


@pytest.mark.parametrize(("size", "side"), [(32, 8), (64, 8), (128, 8), (256, 16)])
def test_the_discriminator_returns_patches(size: int, side: int) -> None:
    with torch.device("meta"):
        discriminator = PatchDiscriminator(size, 7, width=4)
        x = torch.empty(2, 3, size, size)
        assert discriminator(x).shape == (2, 7, side, side)
        assert discriminator.features(x).shape == (2, 128, side, side)
        assert discriminator.judge(x, torch.empty(2, dtype=torch.int64)).shape == (2, side, side)


@pytest.mark.parametrize("size", SIZES)
def test_a_style_code_has_the_requested_width(size: int) -> None:
    guidance = ClassEncoder(7, width=1, style_width=5)(torch.zeros(2, 3, size, size))
    assert (guidance.logits.shape, guidance.style.shape) == ((2, 7), (2, 5))


# ---- forward passes ----


def random_of(network: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(1)
    for parameter in network.double().parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 0, 0.2)
    return network.state_dict()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def reflect_conv(h: Tensor, values: dict[str, Tensor], name: str, pad: int, stride: int = 1) -> Tensor:
    h = F.pad(h, (pad, pad, pad, pad), mode="reflect")
    return F.conv2d(h, values[f"{name}.weight"], values[f"{name}.bias"], stride)


def normal(h: Tensor) -> Tensor:
    mean, var = h.mean((2, 3), keepdim=True), h.var((2, 3), unbiased=False, keepdim=True)
    return (h - mean) / (var + 1e-5).sqrt()


@pytest.mark.parametrize("size", [32, 64])
def test_class_encoder_layer_by_layer(size: int) -> None:
    encoder = ClassEncoder(3, width=2, style_width=5)
    values, x = random_of(encoder), noise(2, 3, size, size)
    h = reflect_conv(x, values, "stem", 3).relu()
    for i in range(4):
        h = reflect_conv(h, values, f"down.{i}", 1, stride=2).relu()
    assert h.shape == (2, 8, size // 16, size // 16)
    expected = h.mean((2, 3)) @ values["style_head.weight"].T + values["style_head.bias"]
    guidance = encoder(x)
    torch.testing.assert_close(guidance.style, expected, atol=1e-12, rtol=0)
    assert not guidance.logits.any()


@pytest.mark.parametrize(("size", "halvings"), [(32, 1), (64, 2)])
def test_generator_layer_by_layer(size: int, halvings: int) -> None:
    generator = FunitGenerator(size, width=2, style_width=5)
    values, x, s = random_of(generator), noise(2, 3, size, size), noise(2, 5)
    h = normal(reflect_conv(x, values, "content_encoder.stem", 3)).relu()
    for i in range(halvings):
        h = normal(reflect_conv(h, values, f"content_encoder.down.{i}", 1, stride=2)).relu()
    for i in (0, 2):
        inner = normal(reflect_conv(h, values, f"content_encoder.residual.{i}", 1)).relu()
        h = h + 0.1 * normal(reflect_conv(inner, values, f"content_encoder.residual.{i + 1}", 1))
    torch.testing.assert_close(generator.encode(x), h, atol=1e-11, rtol=0)

    table = s
    for i in (0, 2, 4):
        table = table @ values[f"style_mlp.{i}.weight"].T + values[f"style_mlp.{i}.bias"]
        table = table.relu() if i < 4 else table
    layers = iter(table.chunk(4, dim=1))  # all four AdaIN layers have the same width

    def adain(h: Tensor) -> Tensor:
        shift, scale = next(layers).chunk(2, dim=1)
        return scale[:, :, None, None] * normal(h) + shift[:, :, None, None]

    for i in (0, 2):
        inner = adain(reflect_conv(h, values, f"decoder.residual.{i}", 1)).relu()
        h = h + 0.1 * adain(reflect_conv(inner, values, f"decoder.residual.{i + 1}", 1))
    assert next(layers, None) is None
    for i in range(halvings):
        h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        h = normal(reflect_conv(h, values, f"decoder.up.{i}", 2)).relu()
    expected = reflect_conv(h, values, "decoder.to_picture", 3).tanh()
    torch.testing.assert_close(generator(x, s), expected, atol=1e-11, rtol=0)


def test_up_sampling_layers_do_not_depend_on_the_style() -> None:
    """Up-sampled features have mean 0 and variance 1 before their ReLU, for every style."""
    generator = FunitGenerator(64, width=4, style_width=5)
    random_of(generator)
    seen: list[Tensor] = []
    # The input of the next layer: the ReLU of normalised features, up-sampled except for the last.
    for layer in (generator.decoder.up[1], generator.decoder.to_picture):
        layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    generator.decode(noise(1, 16, 16, 16), 100 * noise(1, 5))
    for h in seen:
        assert h.amin() == 0
        # a variance of 1, from which the ReLU has removed the negative half
        assert (h.square().mean((2, 3)) < 1).all()
    # In the paper's G the style scales them.
    assert sum(generator.decoder.adain_widths) == 4 * 16


def average_pool(h: Tensor) -> Tensor:
    """3 x 3 means at every second position, with mirrored borders, computed by shifts."""
    size = h.shape[2]
    mirror = [1, *range(size), size - 2]
    h = h[:, :, mirror][:, :, :, mirror]
    shifted = [h[:, :, i : i + size : 2, j : j + size : 2] for i in range(3) for j in range(3)]
    return sum(shifted[1:], shifted[0]) / 9


@pytest.mark.parametrize(("size", "poolings"), [(32, 2), (64, 3)])
def test_discriminator_layer_by_layer(size: int, poolings: int) -> None:
    discriminator = PatchDiscriminator(size, 3, width=2)
    values, x = random_of(discriminator), noise(2, 3, size, size)

    def leaky(h: Tensor) -> Tensor:
        return torch.where(h > 0, h, 0.2 * h)

    def conv(h: Tensor, name: str, pad: int) -> Tensor:
        return F.conv2d(h, values[f"{name}.weight"], values[f"{name}.bias"], padding=pad)

    h = conv(x, "stem", 3)
    for i in range(5):
        for j in range(2):
            name = f"pairs.{i}.{j}"
            residual = conv(leaky(conv(leaky(h), f"{name}.conv1", 1)), f"{name}.conv2", 1)
            shortcut = values.get(f"{name}.shortcut.weight")
            assert (shortcut is None) == (j == 0)
            h = ((h if shortcut is None else F.conv2d(h, shortcut)) + residual) / math.sqrt(2)
        h = average_pool(h) if i < poolings else h
    torch.testing.assert_close(discriminator.features(x), h, atol=1e-11, rtol=0)
    logits = torch.einsum("bchw,oc->bohw", leaky(h), values["head.weight"][:, :, 0, 0])
    logits = logits + values["head.bias"][:, None, None]
    torch.testing.assert_close(discriminator(x), logits, atol=1e-11, rtol=0)
    expected = torch.stack([logits[0, 2], logits[1, 0]])
    torch.testing.assert_close(discriminator.judge(x, torch.tensor([2, 0])), expected, atol=1e-11, rtol=0)


def test_the_reproducible_padding_of_gpus_gives_the_discriminator_the_same_values_and_gradients(
    monkeypatch,
) -> None:
    """PyTorch's own padding would add up gradients in a varying order there."""
    discriminator, y = PatchDiscriminator(32, 3, width=2), torch.tensor([2, 0])
    random_of(discriminator)
    x = noise(2, 3, 32, 32).requires_grad_()

    def computed() -> list[Tensor]:
        """The logits, and the gradient of R1, which is a second derivative, by each weight."""
        logits = discriminator.judge(x, y)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        weights = [w for name, w in discriminator.named_parameters() if name.endswith("weight")]
        return [logits, *torch.autograd.grad(gradient.square().sum(), weights)]

    expected = computed()
    monkeypatch.setattr(padding, "by_pytorch", lambda x: False)
    monkeypatch.setattr(F, "pad", None)
    for ours, theirs in zip(computed(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_only_the_column_of_the_class_gets_a_gradient() -> None:
    discriminator = PatchDiscriminator(32, 4, width=2)
    discriminator.judge(torch.randn(2, 3, 32, 32), torch.tensor([1, 3])).sum().backward()
    assert discriminator.head.bias.grad is not None
    assert discriminator.head.bias.grad.tolist() == [0, 64, 0, 64]


def test_style_and_logits_are_float32_under_autocast() -> None:
    x, y = torch.randn(2, 3, 32, 32), torch.tensor([1, 3])
    discriminator, encoder = PatchDiscriminator(32, 4, width=2), ClassEncoder(4, width=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert discriminator.features(x).dtype == torch.bfloat16
        assert discriminator.judge(x, y).dtype == torch.float32
        assert {encoder(x).style.dtype, encoder(x).logits.dtype} == {torch.float32}


def test_initialisation() -> None:
    torch.manual_seed(0)
    for network in (ClassEncoder(3, width=16), PatchDiscriminator(32, 3, width=8)):
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                fan_in = layer.weight[0].numel()
                tolerance = 5 / (2 * layer.weight.numel()) ** 0.5
                assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=tolerance)
                assert layer.bias is None or not layer.bias.any()


# ---- used as E, G and D ----


def test_the_config_creates_them() -> None:
    config = Config().with_overrides(
        {"method": "funit", "domains": 3, "style_width": 5, "guide_width": 2, "image_size": 256}
    )
    with torch.device("meta"):
        networks = (
            FUNIT.guide(config),
            FUNIT.generator(config),
            FUNIT.discriminator(config),
        )
    assert [type(n) for n in networks] == [ClassEncoder, FunitGenerator, PatchDiscriminator]
    assert networks[0].stem.out_channels == 2
    assert [n.out_channels for n in (networks[1].content_encoder.stem, networks[2].stem)] == [64, 64]


def test_a_model_file_and_the_translator_accept_them(tmp_path) -> None:
    torch.manual_seed(0)
    config = Config().with_overrides(
        {
            "method": "funit",
            "domains": 2,
            "style_width": 5,
            "guide_width": 2,
            "generator_width": 2,
            "image_size": 32,
        }
    )
    guide, generator = FUNIT.guide(config).eval(), FUNIT.generator(config).eval()
    styles, sizes = torch.randn(2, 5), torch.tensor([3, 4])
    save_model(tmp_path, Model(guide, generator, config, styles, sizes, step=1))
    assert type(load_model(tmp_path).generator) is FunitGenerator
    translator = Translator.load(tmp_path, device="cpu")
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(translator.style(x[1]), guide(x[1:]).style[0], atol=1e-6, rtol=1e-5)
    assert_translates(translator, (guide, generator), x)
    assert translator.translate(x[0], domain=1).size == (32, 32)

"""The operators in PyTorch: what they refuse, and a whole training step with and without them."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tunit import native
from tunit.config import Config, preset_names, read_config
from tunit.data.batching.batches import make_batch
from tunit.methods.method import Phase
from tunit.methods.registry import method_of
from tunit.methods.state import Optimisers
from tunit.methods.tunit import tunit_step
from tunit.networks import convolution, filter_response, winograd
from tunit.training.initial_state import new_state

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not native.is_available(), reason="compiled code is not there, or turned off"),
]


def draw(*shape: int, trained: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).requires_grad_(trained)


def trained(*shape: int) -> Tensor:
    return draw(*shape, trained=True)


PICTURES = (2, 16, 4, 4)
OPERATORS = {
    "convolve": lambda: (
        winograd.convolve,
        (trained(8, 32, 4, 4), trained(32, 32, 3, 3), trained(32), "reflect"),
    ),
    "convolution_gradients": lambda: (
        winograd.convolution_gradients,
        (draw(8, 32, 4, 4), draw(8, 16, 4, 4), draw(16, 32, 3, 3), "zeros", True, True, True),
    ),
    "convolution_picture_gradient": lambda: (
        winograd.picture_gradient,
        (trained(8, 32, 4, 4), trained(32, 16, 3, 3), "zeros"),
    ),
    "convolution_kernel_gradient": lambda: (
        winograd.kernel_gradient,
        (trained(8, 32, 4, 4), trained(8, 16, 4, 4), "replicate"),
    ),
    "filter_response_norm": lambda: (
        filter_response.filter_response_norm,
        (trained(*PICTURES), trained(16), trained(16), trained(16)),
    ),
    "filter_response_gradients": lambda: (
        filter_response.filter_response_gradients,
        (draw(*PICTURES), draw(*PICTURES), draw(16), draw(16), draw(2, 16)),
    ),
    "filter_response_picture_gradient": lambda: (
        filter_response.picture_gradient,
        (trained(*PICTURES), trained(*PICTURES), trained(16), draw(16), draw(2, 16)),
    ),
    "filter_response_second_gradients": lambda: (
        filter_response.second_gradients,
        (draw(*PICTURES), draw(*PICTURES), draw(*PICTURES), draw(16), draw(16), draw(2, 16)),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_schema_fake_tensors_and_gradients_pass_pytorchs_checks(name):
    called, arguments = OPERATORS[name]()
    torch.library.opcheck(called.operator, arguments)


@pytest.mark.parametrize("name", ["convolve", "convolution_picture_gradient", "filter_response_norm"])
def test_results_can_be_changed_in_place_like_pytorchs(name):
    operator, arguments = OPERATORS[name]()
    inputs = [value for value in arguments if isinstance(value, Tensor) and value.requires_grad]
    gradients = []
    for change in (lambda y: y.mul_(3), lambda y: y * 3):
        y = operator(*arguments)
        gradients.append(
            torch.autograd.grad(change(y if isinstance(y, Tensor) else y[0]).square().sum(), inputs)
        )
    for found, expected in zip(*gradients, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("kind", ["another type", "fewer channels", "no whole vectors of channels"])
def test_tensors_of_another_type_do_not_reach_c(name, kind):
    """One tensor at a time is changed: a parameter in its only dimension, others in the channels."""
    spoil = {
        "another type": lambda x: x.double(),
        "fewer channels": lambda x: x[:, :-1],
        "no whole vectors of channels": lambda x: torch.cat([x, x[:, :8]], dim=1),
    }[kind]
    operator, arguments = OPERATORS[name]()
    for i, value in enumerate(arguments):
        if isinstance(value, Tensor):
            wrong = spoil(value[None])[0] if value.dim() == 1 else spoil(value)
            with pytest.raises(ValueError, match=r"must be|multiple"):
                operator(*arguments[:i], wrong.detach(), *arguments[i + 1 :])


@pytest.mark.parametrize("name", ["convolution_gradients", "filter_response_gradients"])
def test_a_gradient_for_fewer_pictures_does_not_reach_c(name):
    operator, arguments = OPERATORS[name]()
    with pytest.raises(ValueError, match="must be"):
        operator(arguments[0], arguments[1][:1], *arguments[2:])


@pytest.mark.parametrize(
    ("x", "weight", "edge"),
    [
        ((1, 32, 6, 8), (32, 32, 3, 3), "zeros"),  # not a multiple of the tile size
        ((1, 32, 8, 8), (32, 32, 4, 4), "zeros"),
        ((1, 32, 8, 8), (32, 32, 5, 5), "zeros"),
        ((1, 32, 8, 8), (32, 32, 3, 3), "circular"),
        ((1, 24, 8, 8), (32, 24, 3, 3), "zeros"),
        ((1, 32, 8, 8), (32, 48, 3, 3), "zeros"),
        ((1, 32, 8, 8), (32, 32, 3, 4), "zeros"),
        ((0, 32, 8, 8), (32, 32, 3, 3), "zeros"),
        ((1, 0, 8, 8), (32, 0, 3, 3), "zeros"),
        ((1, 32, 8, 8), (0, 32, 3, 3), "zeros"),
        ((1, 32, 0, 8), (32, 32, 3, 3), "zeros"),
        ((1, 32, 8, 0), (32, 32, 3, 3), "zeros"),
    ],
)
def test_convolutions_that_the_code_does_not_support_are_refused(x, weight, edge):
    with pytest.raises(ValueError, match=r"compiled|multiples|must be|may be 0"):
        winograd.convolve(torch.zeros(x), torch.zeros(weight), None, edge)


def test_the_gradient_of_kernels_of_no_pictures_is_refused():
    """Nothing would be written to its memory."""
    with pytest.raises(ValueError, match="none may be 0"):
        winograd.kernel_gradient(torch.zeros(0, 32, 8, 8), torch.zeros(0, 32, 8, 8), "zeros")


def gradient_of(network: nn.Module) -> Tensor:
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    return torch.cat([gradient.double().flatten() for gradient in gradients])


def one_step(config: Config) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The losses of a joint step with R1, and the gradient of each network as one vector.

    The learning rate is 0, so that all gradients belong to the same weights.
    """
    size, number = config.data.image_size, config.optimisers.batch_size
    state = new_state(config, torch.device("cpu"), number)
    state.optimisers = Optimisers(
        **{
            name: torch.optim.SGD(state.networks.named()[name].parameters(), lr=0.0)
            for name in ("guide", "generator", "discriminator")
        }
    )
    x, x_plus = draw(number, 3, size, size).tanh(), draw(number, 3, size, size + 1)[..., 1:].tanh()
    y = torch.arange(number) if config.data.labels != "none" else torch.full((number,), -1)
    batch = make_batch(x, x_plus, y, torch.arange(number))
    terms = tunit_step(state, batch, torch.arange(number).flip(0), Phase(True, True, True), config)
    trained = ("guide", "generator", "discriminator")
    return terms, {name: gradient_of(state.networks.named()[name]) for name in trained}


# One preset of those with the same networks.
PRESETS = {read_config(name).networks: name for name in preset_names()}


@pytest.mark.parametrize("preset", PRESETS.values())
def test_a_step_equals_the_one_without_compiled_code(preset, monkeypatch):
    """With the preset's own widths; 32 px and 4 pictures, so that it is fast."""
    config = read_config(preset).with_overrides(
        {"image_size": 32, "batch_size": 4, "device": "cpu", "precision": "float32"}
    )
    found = []
    for switch in ("1", "0"):
        monkeypatch.setenv(native.SWITCH, switch)
        found.append(one_step(config))
    (losses, gradients), (losses_without, gradients_without) = found
    assert losses.keys() == losses_without.keys()
    for name, value in losses_without.items():
        # Because of rounding by 1e-5, some pixels cross the threshold of a ReLU, which changes gradients by up to 0.8
        # % here.
        close = 0.03 if "gradient" in name else 1e-3
        torch.testing.assert_close(losses[name], value, rtol=close, atol=1e-5, msg=name)
    for name, value in gradients_without.items():
        assert value.norm() > 0, name
        assert (gradients[name] - value).norm() < 0.03 * value.norm(), name


@pytest.fixture(scope="module")
def shapes_of_presets():
    """The (C, H, W, O, edge) of every convolution that the C code may compute, and the (C, H, W) of every norm."""
    convolutions, norms = set(), set()

    def see_convolution(x, weight, edge):
        convolutions.add((*x.shape[1:], len(weight), edge))
        return False

    def see_norm(x):
        norms.add(tuple(x.shape[1:]))
        return False

    with pytest.MonkeyPatch.context() as patch, FakeTensorMode():
        patch.setattr(convolution, "is_worth_it", see_convolution)
        patch.setattr(filter_response, "supports", see_norm)
        presets = [read_config(name) for name in preset_names()]
        for config in {(c.method.method, c.networks, c.data.image_size): c for c in presets}.values():
            size = config.data.image_size or 128  # "default" takes up to 128 px
            config = config.with_overrides({"image_size": size, "domains": config.networks.domains or 10})
            method, x = method_of(config), torch.empty(2, 3, size, size)
            style = method.guide(config)(x).style
            method.discriminator(config)(method.generator(config)(x, style))
    return convolutions, norms


def compare_with_reference(operator, reference, inputs: list[Tensor], what: object) -> None:
    found, dy = [], None
    for function in (operator, reference):
        values = [value.clone().requires_grad_() for value in inputs]
        y = function(*values)
        dy = draw(*y.shape) if dy is None else dy
        found.append([y, *torch.autograd.grad(y, values, dy)])
    for ours, exact in zip(*found, strict=True):
        assert (ours - exact).abs().max() < 2e-4 * exact.abs().max(), what


def test_every_convolution_and_norm_of_the_presets_equals_its_reference(shapes_of_presets):
    """At the presets' own widths and picture sizes, with as few pictures as the C code is used for."""
    convolutions, norms = shapes_of_presets
    assert {shape[1] for shape in convolutions} >= {4, 8, 16, 32, 64, 128}
    used = 0
    for channels, height, width, kernels, edge in sorted(convolutions):
        batch = -(-winograd.FEWEST_TILES * winograd.OUT**2 // (height * width))
        x, weight = draw(batch, channels, height, width), draw(kernels, channels, 3, 3) / (3 * channels**0.5)
        if winograd.is_worth_it(x, weight, edge):
            used += 1
            compare_with_reference(
                lambda *values, edge=edge: winograd.convolve(*values, edge),
                lambda *values, edge=edge: winograd.reference(*values, edge),
                [x, weight, draw(kernels)],
                (x.shape, weight.shape, edge),
            )
    assert used > 20
    taken = [shape for shape in sorted(norms) if native.supports(draw(1, *shape))]
    for channels, height, width in taken:
        parameters = [draw(channels) + i for i in range(3)]
        compare_with_reference(
            lambda *values: filter_response.filter_response_norm(*values)[0],
            filter_response.reference,
            [draw(1, channels, height, width), *parameters],
            (channels, height, width),
        )
    assert len(taken) > 5

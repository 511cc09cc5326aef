"""Check with one small step, at the start of a training, that a device computes the same as the CPU."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tunit.config import Config
from tunit.data.batching.batches import make_batch
from tunit.distributed.collectives import without_process_group
from tunit.errors import ConfigError
from tunit.methods.method import Phase
from tunit.methods.registry import method_of
from tunit.methods.state import Optimisers
from tunit.training.initial_state import new_state

TRUSTED = "cpu", "cuda"  # device types that need no check
# Largest relative error of a loss or gradient. Rounding can flip a ReLU, so errors are larger than rounding alone.
TOLERANCE = 0.02
SMALL = {
    "image_size": 32,
    "batch_size": 4,
    "domains": 4,
    "guide_width": 4,
    "generator_width": 4,
    "discriminator_width": 4,
    "queue_length": 8,
}
Outcome = dict[str, Tensor]  # losses, and gradients of whole networks, by name


def check_device(device: torch.device, step: Callable[[torch.device], Outcome] | None = None) -> None:
    """Compare a small step of `device` with the CPU's. Raises ConfigError, which names what differs most.

    step: computes the values to compare; by default the losses and gradients of a joint step with R1.
    """
    if device.type in TRUSTED and step is None:
        return
    step = step or small_step
    expected = step(torch.device("cpu"))
    try:
        found = step(device)
    except (RuntimeError, TypeError) as error:
        # For an operator that the device lacks it is NotImplementedError, a RuntimeError, too.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"device {device} cannot take a training step ({reason}): use --device cpu"
        ) from None
    errors = {
        name: float((found[name].cpu() - value).norm() / (value.norm() + 1e-3))
        for name, value in expected.items()
    }
    name = max(errors, key=lambda name: float("inf") if errors[name] != errors[name] else errors[name])
    if not errors[name] <= TOLERANCE:
        raise ConfigError(
            f"device {device} computes {name} differently from the CPU, by {errors[name]:.1%}: use --device cpu, "
            "or another version of PyTorch"
        )


def small_step(device: torch.device) -> Outcome:
    """The losses of a joint step of narrow networks on fixed noise, and each network's gradient as one vector."""
    config = Config().with_overrides(SMALL | {"device": str(device), "precision": "float32"})
    size, number = config.data.image_size, config.optimisers.batch_size
    state = new_state(config, device, number)
    # With a learning rate of 0 no weight changes, so both devices compute all gradients at the same weights.
    frozen = partial(torch.optim.SGD, lr=0.0)
    trained = {name: state.networks.named()[name] for name in ("guide", "generator", "discriminator")}
    state.optimisers = Optimisers(**{name: frozen(network.parameters()) for name, network in trained.items()})
    noise = torch.rand(2, number, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x, x_plus = noise.to(device)
    batch = make_batch(x, x_plus, torch.full((number,), -1), torch.arange(number))
    phase = Phase(joint=True, average_generator=True, penalise=True)
    with without_process_group():
        terms = method_of(config).step(
            state, batch, torch.arange(number, device=device).flip(0), phase, config
        )
    gradients = {
        f"the gradient of {name}": torch.cat(
            [p.grad.detach().flatten().cpu() for p in network.parameters() if p.grad is not None]
        )
        for name, network in trained.items()
    }
    return {name: value.detach().cpu() for name, value in terms.items()} | gradients

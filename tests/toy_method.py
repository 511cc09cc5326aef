"""An autoencoder: G learns to return each picture unchanged, with the style code that E gives it; no translation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunit.config import Config, setting
from tunit.data.batching.batches import Batch
from tunit.methods import losses
from tunit.methods.descent import backward, descent, mixed_precision
from tunit.methods.losses import Terms
from tunit.methods.method import Method, Phase
from tunit.methods.registry import register
from tunit.methods.state import Networks, Optimisers, TrainingState
from tunit.methods.tunit import TUNIT, update_averages


@dataclass(frozen=True)
class AutoencoderConfig:
    """A section of the config; its settings become flags of `tunit train`."""

    autoencoder_rate: float = setting(0.01, "learning rate of plain gradient descent", low=0)


def step(state: TrainingState, batch: Batch, permutation: Tensor, phase: Phase, config: Config) -> Terms:
    """E and G learn only equation 5."""
    networks, optimisers = state.networks, state.optimisers
    with mixed_precision(batch.x, config), descent(optimisers.guide, optimisers.generator):
        x_rec = networks.generator(batch.x, networks.guide(batch.x).style)
        loss = losses.reconstruction(x_rec, batch.x)
        backward(loss)
    update_averages(networks, phase, config)
    state.step += 1
    return {"generator/reconstruction": loss.detach()}


def optimisers(networks: Networks, config: Config) -> Optimisers:
    """Gradient descent with momentum for all three networks; D never takes a step."""
    rate = config.of(AutoencoderConfig).autoencoder_rate
    all_three = networks.guide, networks.generator, networks.discriminator
    return Optimisers(*(torch.optim.SGD(network.parameters(), rate, momentum=0.9) for network in all_three))


AUTOENCODER = register(
    Method(
        name="autoencoder",
        guide=TUNIT.guide,
        generator=TUNIT.generator,
        discriminator=TUNIT.discriminator,
        optimisers=optimisers,
        step=step,
        settings={"autoencoder": AutoencoderConfig},
        trains_guide_first=False,
    )
)

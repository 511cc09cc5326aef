"""Everything that training changes, in one object: networks, averages, optimisers, key queue, positions."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tunit.config import Config
from tunit.networks.average import frozen_copy_of
from tunit.networks.build import (
    AnyDiscriminator,
    AnyGenerator,
    AnyGuide,
    build_discriminator,
    build_generator,
    build_guide,
)
from tunit.training.soft_labels import SoftLabels, new_soft_labels


@dataclass
class Networks:
    """E (in the baselines the class encoder), its average, G, its average, and D."""

    guide: AnyGuide
    guide_average: AnyGuide
    generator: AnyGenerator
    generator_average: AnyGenerator
    discriminator: AnyDiscriminator

    def named(self) -> dict[str, nn.Module]:
        """The five networks by name."""
        return dict(vars(self))


@dataclass
class Optimisers:
    """Adam for E, RMSprop for G and D; in the baselines RMSprop for all three."""

    guide: torch.optim.Optimizer
    generator: torch.optim.Optimizer
    discriminator: torch.optim.Optimizer

    def named(self) -> dict[str, torch.optim.Optimizer]:
        """The three optimisers by the name of their network."""
        return dict(vars(self))


@dataclass
class TrainingState:
    """All that a checkpoint holds.

    `cursors` counts the pictures drawn so far from each stream of the data; with the seed and the step it
    determines everything random to come, so there is no generator state to save.
    """

    networks: Networks
    optimisers: Optimisers
    queue: Tensor  # (queue length, style width): the last keys
    step: int = 0
    cursors: dict[str, int] = field(default_factory=dict)
    soft_labels: SoftLabels | None = None  # in the SEMIT baseline alone


def build_optimisers(networks: Networks, config: Config) -> Optimisers:
    """Method section 4: Adam and RMSprop, both with L2 (not decoupled) weight decay.

    In the baselines (section 10) the class encoder is a part of G: RMSprop with G's rate. As RMSprop works
    on each parameter by itself, two of them are one over both networks.
    """
    settings = config.optimisers

    def rmsprop(network: nn.Module, rate: float) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(
            network.parameters(),
            lr=rate,
            alpha=settings.rmsprop_alpha,
            eps=settings.rmsprop_eps,
            weight_decay=settings.weight_decay,
            foreach=True,
        )

    def adam(network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            network.parameters(),
            lr=settings.guide_rate,
            betas=settings.guide_betas,
            weight_decay=settings.guide_weight_decay,
            foreach=True,
        )

    baseline = config.networks.architecture != "tunit"
    return Optimisers(
        rmsprop(networks.guide, settings.generator_rate) if baseline else adam(networks.guide),
        rmsprop(networks.generator, settings.generator_rate),
        rmsprop(networks.discriminator, settings.discriminator_rate),
    )


def new_state(config: Config, device: torch.device, pictures: int = 0) -> TrainingState:
    """A fresh state, initialised from the config's seed alone (the same on every device).

    pictures: how many there are to train with; only the SEMIT baseline, which keeps a label of each, must know.
    """
    size = config.data.image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        guide = build_guide(config.networks)
        generator = build_generator(config.networks, size)
        discriminator = build_discriminator(config.networks, size)
        guide_average = frozen_copy_of(guide, build_guide(config.networks))
        generator_average = frozen_copy_of(generator, build_generator(config.networks, size))
    networks = Networks(guide, guide_average, generator, generator_average, discriminator)
    for network in networks.named().values():
        # Channels last is what both oneDNN and cuDNN convolve fastest.
        network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.train()
    queue = torch.zeros(config.optimisers.queue_length, config.networks.style_width, device=device)
    semit = config.networks.architecture == "semit"
    soft_labels = new_soft_labels(pictures, config.networks.domains, device) if semit else None
    return TrainingState(networks, build_optimisers(networks, config), queue, soft_labels=soft_labels)

"""Everything that training changes, in one object: networks, EMAs, optimisers, queue, step, positions in the data."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from tunit.clustering.choice import Choice
from tunit.methods.adversarial_memory import AdversarialMemory
from tunit.networks.discriminator import DomainDiscriminator
from tunit.networks.generator import StyledGenerator
from tunit.networks.guide import GuidingNetwork


@dataclass
class Networks:
    """E (in the baselines the class encoder) and its EMA, G and its EMA, and D."""

    guide: GuidingNetwork
    guide_average: GuidingNetwork
    generator: StyledGenerator
    generator_average: StyledGenerator
    discriminator: DomainDiscriminator

    def named(self) -> dict[str, nn.Module]:
        """The five networks by name."""
        return dict(vars(self))


@dataclass
class Optimisers:
    """One for each network that learns."""

    guide: torch.optim.Optimizer
    generator: torch.optim.Optimizer
    discriminator: torch.optim.Optimizer

    def named(self) -> dict[str, torch.optim.Optimizer]:
        """The three optimisers by the name of their network."""
        return dict(vars(self))


class OwnState(Protocol):
    """What one method alone keeps from step to step."""

    def named(self) -> dict[str, Tensor]:
        """Its tensors by their names in checkpoints; loading fills them in place."""


@dataclass
class TrainingState:
    """All that a checkpoint holds.

    `cursors` counts the pictures drawn so far from each stream of the data. Seed, step, `cursors` and `rollbacks`
    determine all further random numbers, so no generator state is saved.
    """

    networks: Networks
    optimisers: Optimisers
    queue: Tensor  # (queue length, style width): the last keys
    step: int = 0
    cursors: dict[str, int] = field(default_factory=dict)
    own: OwnState | None = None
    adversarial_memory: AdversarialMemory | None = None
    rollbacks: int = 0  # how often training went back to a checkpoint; each time random numbers change
    choice: Choice | None = None  # the number of domains that was found, with reasons; None before

    def own_tensors(self) -> dict[str, Tensor]:
        """The tensors of `own` and `adversarial_memory`, by name; loading fills them in place."""
        return {
            name: t
            for part in (self.own, self.adversarial_memory)
            if part
            for name, t in part.named().items()
        }

    def set_domains(self, domains: int, seed: int = 0) -> None:
        """Give E, its EMA and D new last layers for this many domains, without the optimisers' moments."""
        networks = self.networks
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for network in (networks.guide, networks.guide_average, networks.discriminator):
                network.set_domains(domains)
        for name, optimiser in self.optimisers.named().items():
            _follow(optimiser, networks.named()[name])


def _follow(optimiser: torch.optim.Optimizer, network: nn.Module) -> None:
    """Replace the parameters of an optimiser by those that the network has now."""
    (group,) = optimiser.param_groups
    group["params"] = list(network.parameters())
    there = {id(parameter) for parameter in group["params"]}
    for parameter in [p for p in optimiser.state if id(p) not in there]:
        del optimiser.state[parameter]

"""Everything that training changes, in one object: networks, averages, optimisers, key queue, positions."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from tunit.clustering.choice import Choice
from tunit.methods.adversary import Adversary
from tunit.networks.discriminator import DomainDiscriminator
from tunit.networks.generator import StyledGenerator
from tunit.networks.guide import GuidingNetwork


@dataclass
class Networks:
    """E (in the baselines the class encoder), its average, G, its average, and D."""

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
        """Its tensors by the names that they have in checkpoints; filled from there in place."""


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
    own: OwnState | None = None
    adversary: Adversary | None = None
    rollbacks: int = 0  # to a checkpoint; after each, all draws are others
    choice: Choice | None = None  # of the number of domains, once made where it was to be found

    def own_tensors(self) -> dict[str, Tensor]:
        """What the method and its adversarial game keep, by name, to be filled in place."""
        return {name: t for part in (self.own, self.adversary) if part for name, t in part.named().items()}

    def set_domains(self, domains: int, seed: int = 0) -> None:
        """Give E, its EMA and D new last layers of so many domains; optimisers keep no moments of these."""
        networks = self.networks
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for network in (networks.guide, networks.guide_average, networks.discriminator):
                network.set_domains(domains)
        for name, optimiser in self.optimisers.named().items():
            _follow(optimiser, networks.named()[name])


def _follow(optimiser: torch.optim.Optimizer, network: nn.Module) -> None:
    """Let an optimiser of all parameters of a network have those that it has now."""
    (group,) = optimiser.param_groups
    group["params"] = list(network.parameters())
    there = {id(parameter) for parameter in group["params"]}
    for parameter in [p for p in optimiser.state if id(p) not in there]:
        del optimiser.state[parameter]

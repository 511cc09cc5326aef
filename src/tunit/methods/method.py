"""What a method is, in one record: all that the rest of tunit asks of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, nn

from tunit.config import Config
from tunit.data.batches import Batch, Batches
from tunit.data.pack import PackedPictures
from tunit.methods.losses import Terms
from tunit.methods.state import Networks, Optimisers, OwnState, TrainingState
from tunit.networks.discriminator import DomainDiscriminator
from tunit.networks.generator import StyledGenerator
from tunit.networks.guide import GuidingNetwork


class Labels(Enum):
    """The labels that a method learns from."""

    OPTIONAL = "none, some or all pictures may have one"
    SOME = "some pictures must have one"
    ALL = "every picture must have one"


@dataclass(frozen=True)
class Phase:
    """What one step does, as the schedule says."""

    joint: bool  # G and D train too
    generator_average_follows: bool  # else the average of G is G itself
    penalise: bool  # this step computes R1


# (state, batch, permutation, phase, config) to the unweighted losses by name, on the device; updates the state.
# permutation: (B,) int64; x[permutation] are the references.
Step = Callable[[TrainingState, Batch, Tensor, Phase, Config], Terms]
# (state, batches, config), once, before the first step of a run.
Begin = Callable[[TrainingState, Batches, Config], None]
# (state, batches, pictures, config), before or after each step; state.step is that of the step to come.
Between = Callable[[TrainingState, Batches, PackedPictures, Config], None]


@dataclass(frozen=True)
class Method:
    """A way to train E, G and D: its networks, its optimisers, its step, and what it needs and can do.

    A new method is one file that makes such a record and hands it to `tunit.methods.registry.register`
    (docs/methods.md). What is left out here the method does not need, or cannot do.
    """

    name: str
    guide: Callable[[Config], GuidingNetwork]
    generator: Callable[[Config], StyledGenerator]
    discriminator: Callable[[Config], DomainDiscriminator]
    optimisers: Callable[[Networks, Config], Optimisers]
    step: Step

    settings: dict[str, type] = field(default_factory=dict)  # its own sections of the config, by name
    network_settings: tuple[str, ...] = ()  # of these, the ones that shapes of weights depend on
    labels: Labels = Labels.OPTIONAL
    trains_guide_first: bool = True  # E may train alone until `guide_only_until`
    finds_domains: bool = True  # else E is told them, and its own answer means nothing
    micro_batches: bool = False  # the step may take G's and D's part of a batch in several turns
    processes: bool = False  # several processes may share a batch
    in_release: bool = False  # checkpoints of the authors' release have a place for its networks

    # The modules that torch.compile makes faster. D is never among them: R1 differentiates its gradient.
    compiled_parts: Callable[[Networks], Sequence[nn.Module]] | None = None
    # The modules whose activations may be computed again instead of kept, each by itself.
    recomputed_parts: Callable[[Networks], Sequence[nn.Module]] | None = None

    own_state: Callable[[int, Config, torch.device], OwnState] | None = None  # of so many pictures
    begin: Begin | None = None
    before_step: Between | None = None
    after_step: Between | None = None

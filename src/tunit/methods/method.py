"""A method as one record: everything that the rest of tunit needs to know about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, nn

from tunit.config import Config
from tunit.data.batching.batches import Batch, Batches
from tunit.data.packing.packed import PackedPictures
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
    """What the schedule prescribes for one step."""

    joint: bool  # G and D train too
    average_generator: bool  # update the EMA of G; if False, it is a copy of G
    penalise: bool  # this step computes the R1 penalty
    learns_domains: bool = True  # E learns domains from unlabelled pictures; if False, only styles


# One training step: (state, batch, permutation, phase, config) -> scalars to log, by name, on the device: its
# unweighted losses and other figures. A value that is not finite ends the training, except for names with "gradient"
# in them (training/logs/window.py). Updates state. permutation: (B,) int64; x[permutation] are the references.
Step = Callable[[TrainingState, Batch, Tensor, Phase, Config], Terms]
# Called once, before the first step of a run: (state, batches, config).
Begin = Callable[[TrainingState, Batches, Config], None]
# Called when E, or E, G and D, were copied from another run, if there are labels: (state, pictures of the new run).
Adopt = Callable[[TrainingState, PackedPictures], None]
# Called before or after each step: (state, batches, pictures, config). state.step is the number of the next step.
Between = Callable[[TrainingState, Batches, PackedPictures, Config], None]


@dataclass(frozen=True)
class Method:
    """A way to train E, G and D: its networks, its optimisers, its step, and what it needs and can do.

    A new method is one file that makes such a record and hands it to `tunit.methods.registry.register`
    (docs/methods.md). A field left at its default is something that the method does not need or does not support;
    exceptions are `trains_guide_first` and `learns_domains`, which are True by default.
    """

    name: str
    guide: Callable[[Config], GuidingNetwork]
    generator: Callable[[Config], StyledGenerator]
    discriminator: Callable[[Config], DomainDiscriminator]
    optimisers: Callable[[Networks, Config], Optimisers]
    step: Step

    settings: dict[str, type] = field(default_factory=dict)  # the method's own config sections, by name
    # Single settings in these sections that change shapes of weights, such as "octave_share".
    network_settings: tuple[str, ...] = ()
    labels: Labels = Labels.OPTIONAL
    trains_guide_first: bool = True  # E may train alone until `guide_only_until`
    learns_domains: bool = True  # False: the domains are the given labels, and E's logits have no meaning
    finds_number_of_domains: bool = False  # the method can find the number of domains (--domains auto)
    takes_adversarial_settings: bool = False  # the method accepts [adversarial] and adversarial_trains
    # Shared settings that it does not read: they are warned about if given.
    unused_settings: tuple[str, ...] = ()
    # Settings of its own sections that act only on pictures without a label.
    settings_for_unlabelled: tuple[str, ...] = ()
    micro_batches: bool = False  # the step can split the batch into micro-batches for G and D
    processes: bool = False  # several processes may share a batch
    has_published_format: bool = False  # `tunit convert` can write its networks as a published checkpoint
    source: str = ""  # where it was published, in Markdown, for the cards of its models

    # The modules that --compile compiles. D cannot be among them, because R1 differentiates D's gradient.
    compiled_parts: Callable[[Networks], Sequence[nn.Module]] | None = None
    # The modules to which activation checkpointing is applied, each separately.
    recomputed_parts: Callable[[Networks], Sequence[nn.Module]] | None = None

    # Makes the method's own state, from the number of pictures, the config and the device.
    own_state: Callable[[int, Config, torch.device], OwnState | None] | None = None
    # For the next step: (N, k), the k neighbours of each picture; the second view of an unlabelled picture is then a
    # view of one of them.
    neighbours: Callable[[TrainingState, Config], Tensor | None] | None = None
    # After `before_step`: by which measures neighbours were just searched; empty without a search, and on other ranks
    # than 0. The user is told.
    neighbours_by: Callable[[TrainingState], list[str]] | None = None
    adopt: Adopt | None = None
    begin: Begin | None = None
    # A sentence for the user, if what comes with the next step takes long; else an empty one.
    announce: Callable[[TrainingState, PackedPictures, Config], str] | None = None
    before_step: Between | None = None
    after_step: Between | None = None
    # Whether `after_step` replaces E's domain head when E has trained alone without labels; None: never.
    replaces_head: Callable[[Config], bool] | None = None

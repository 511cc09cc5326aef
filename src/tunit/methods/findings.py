"""What TUNIT finds out about each picture while E trains alone: its neighbours and, at the end, its domain.

Both are part of the training state, so that a resumed run goes on with the same ones.
"""

import math
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from tunit.config import AUTO, Config
from tunit.config.fields import AUTO_WORD, check_chosen
from tunit.data.batching.batches import Batch
from tunit.data.packing.packed import PackedPictures
from tunit.distributed.collectives import tensor_from_rank_zero
from tunit.distributed.process_group import on_rank_zero
from tunit.methods.inference import (
    for_whole_pictures,
    guidance_over,
    in_fitting_batches,
    some_whole_pictures,
)
from tunit.methods.method import Phase
from tunit.methods.state import TrainingState

ENCODED = 256  # pictures through E at a time, of up to 128 px
# A neighbour before the first search; the domain of a picture before E's domains are decided, which the cross-entropy
# leaves out.
UNKNOWN = -1


@dataclass
class Findings:
    """The neighbours and the domain of each of N pictures. What the settings do not ask for is None."""

    table: Tensor | None = None  # (N, k) int64, on the CPU: UNKNOWN until the first search
    domains: Tensor | None = None  # (N,) int64, on E's device: UNKNOWN until after E's last step alone
    # These two only on rank 0, which searches for all processes:
    cues: dict[str, Tensor] = field(default_factory=dict)  # the pictures' cues, which never change
    # By which similarity was measured, if there was a search just before the next step; otherwise empty.
    measures: list[str] = field(default_factory=list)

    @property
    def neighbours(self) -> Tensor | None:
        """The table; None before the first search.

        It is enough to look at the first picture. In checkpoints of former versions every picture was its own
        neighbour until then, so there a 0 means the same as UNKNOWN: a search never gives a picture itself.
        """
        return self.table if self.table is not None and bool(self.table[0, 0] > 0) else None

    def named(self) -> dict[str, Tensor]:
        """The tensors by their names in checkpoints."""
        both = {"neighbours": self.table, "found_domains": self.domains}
        return {name: tensor for name, tensor in both.items() if tensor is not None}


def first_step_with_domains(config: Config) -> int:
    """The step from which E learns domains, too. config: after `resolved_schedule`.

    Before it E learns only styles. Raises ConfigError if that has not been chosen yet.
    """
    check_chosen(config.clustering, "domains_from")
    return math.ceil(config.guide_domains_from * config.schedule.guide_only_until)


def learns_only_styles(config: Config) -> bool:
    """Whether E learns no domains while it trains alone, if no picture has a label. If `domains_from` is yet to be
    chosen from the pictures, it is if labels are off.
    """
    alone, share = config.schedule.guide_only_until, config.guide_domains_from
    if not alone or not share:
        return False
    if config.word("domains_from") == AUTO_WORD:
        return config.data.labels == "none"
    # Before `resolved_schedule` it may be a share of all steps.
    return share == 1 or (isinstance(alone, int) and first_step_with_domains(config) >= alone)


def groups_pictures(config: Config) -> bool:
    """Whether E's final domains come from a clustering of the pictures after its last step alone, without labels.

    So they must if E has learnt only styles: its heads then have their first, random weights.
    """
    by_neighbours = bool(config.clustering.neighbours)
    return config.networks.domains == AUTO or by_neighbours or learns_only_styles(config)


def finds_domains(config: Config) -> bool:
    """Whether E finds the domains of a run before its joint steps: it trains alone, and no picture has a label."""
    return config.schedule.guide_only_until > 0 and config.data.labels == "none"


def keeps_domains(config: Config) -> bool:
    """Whether E keeps, in joint steps, the domains that it found. If so, `Findings.domains` is known in every joint
    step, so a step need not look for UNKNOWN in it, for which the CPU would have to wait for a GPU.
    """
    return config.losses.found_domains_weight > 0 and finds_domains(config)


def new_findings(pictures: int, config: Config, device: torch.device) -> Findings | None:
    """What a run begins with; None if the settings ask for nothing."""
    k = min(config.clustering.neighbours, pictures - 1)
    table = torch.full((pictures, k), UNKNOWN) if k > 0 else None
    domains = torch.full((pictures,), UNKNOWN, device=device) if keeps_domains(config) else None
    return None if table is None and domains is None else Findings(table, domains)


def findings_of(state: TrainingState) -> Findings | None:
    """The findings in TUNIT's state."""
    return state.own if isinstance(state.own, Findings) else None


def found_domains(state: TrainingState, batch: Batch, phase: Phase) -> Tensor | None:
    """In joint steps the domain (B,) that was found for each picture of the batch; None if E is not to keep them."""
    findings = findings_of(state)
    if findings is None or findings.domains is None or batch.index is None or not phase.joint:
        return None
    return findings.domains[batch.index]


def note_domains(state: TrainingState, pictures: PackedPictures) -> None:
    """Note the domain that E's EMA now gives to each whole picture, if the settings ask for it.

    With several processes, all take the domains of rank 0, because others may round differently.
    """
    findings = findings_of(state)
    if findings is None or findings.domains is None:
        return
    domains = on_rank_zero(partial(_domains_of_whole_pictures, state, pictures))
    of_rank = findings.domains if domains is None else domains.to(findings.domains.device)
    findings.domains.copy_(tensor_from_rank_zero(of_rank))


@torch.inference_mode()
def _domains_of_whole_pictures(state: TrainingState, pictures: PackedPictures) -> Tensor:
    """(N,) int64: the likeliest domain of each picture by E's EMA."""
    guide, device = state.networks.guide_average, state.queue.device
    with for_whole_pictures(guide, some_whole_pictures(pictures.images, device)):
        said = guidance_over(guide, in_fitting_batches(pictures.images, device, ENCODED))
    return said.logits.argmax(1)

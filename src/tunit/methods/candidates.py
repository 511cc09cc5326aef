"""The choice among E's candidate domain heads, after E has trained alone (IIC's sub-heads, Ji et al. 2019).

Clustering by mutual information can end in a local optimum, such as two kinds in one domain and an empty domain.
Several heads on one trunk, initialised differently, end in different optima. The head with the highest mutual
information is chosen, which needs no labels.
"""

import torch
from torch import Tensor

from tunit.data.batching.batches import Batches
from tunit.data.batching.randomness import CounterStart
from tunit.distributed.collectives import broadcast_from_rank_zero
from tunit.machine import uncompiled, without_tf32
from tunit.methods import losses
from tunit.methods.inference import evaluating
from tunit.methods.parts import guidance_of
from tunit.methods.state import TrainingState
from tunit.networks.guide import Guide, GuidingNetwork

PICTURES_COMPARED = 1024  # heads are compared on two views of at least this many pictures


@without_tf32()
@torch.no_grad()
def install_best_head(state: TrainingState, batches: Batches, batch_size: int) -> Tensor:
    """Swap the domain head with the candidate of the highest mutual information, if a candidate's is higher.

    Weights are swapped in E and its EMA, and moments in the optimiser. Returns the mutual information before the
    swap, of the domain head and of the candidates: (1 + candidates,), in nats.
    """
    guide = state.networks.guide_average
    views: list[tuple[Tensor, Tensor]] = []
    cursors: dict[str, int] = {}
    with evaluating(guide), uncompiled():
        for i in range(-(-PICTURES_COMPARED // batch_size)):
            batch = batches.draw(CounterStart.CANDIDATES + i, batch_size, cursors)
            views.append((_probabilities(guide, batch.x), _probabilities(guide, batch.x_plus)))
    p, p_plus = (torch.cat(view, dim=1) for view in zip(*views, strict=True))  # (heads, N, K)
    information = torch.stack([losses.mutual_information(a, b) for a, b in zip(p, p_plus, strict=True)])
    best = broadcast_from_rank_zero(int(information.argmax()))
    if best:
        _swap(state, best - 1)
    return information


def _probabilities(guide: GuidingNetwork, x: Tensor) -> Tensor:
    """The probabilities by each head (1 + candidates, B, domains) of the pictures x of all processes."""
    guidance = guidance_of(guide, x)
    heads = [guidance.logits[None]]
    if guidance.candidate_logits is not None:
        heads.append(guidance.candidate_logits)
    return torch.cat(heads).softmax(2)


def _swap(state: TrainingState, candidate: int) -> None:
    """Swap, in place, the domain head and this candidate: their weights in E and its EMA, and E's moments of both."""
    moments = state.optimisers.guide.state
    for guide in (state.networks.guide, state.networks.guide_average):
        assert isinstance(guide, Guide)  # no other network has candidate heads
        pairs = zip(
            guide.domain_head.parameters(), guide.candidate_heads[candidate].parameters(), strict=True
        )
        for ours, theirs in pairs:
            old = ours.clone()
            ours.copy_(theirs)
            theirs.copy_(old)
            if ours in moments:
                moments[ours], moments[theirs] = moments[theirs], moments[ours]

"""The choice among E's candidate domain heads, once E has trained alone (IIC's sub-heads [1]).

Clustering by mutual information ends in local optima: two kinds in one domain, another domain empty. Heads on
one trunk that start differently end differently, and which one is best needs no labels to find: the one of most
mutual information; or, where E has learnt from neighbours and all heads are sure, the one that cuts fewest edges of
the graph of pictures and their nearest by style code (modularity [2]).

References:
    [1] Ji et al. Invariant information clustering, ICCV 2019.
    [2] Newman. Modularity and community structure in networks, PNAS 2006.
"""

import torch
from torch import Tensor

from tunit.clustering.measures import GRAPH_NEIGHBOURS, modularity
from tunit.clustering.neighbours import find_neighbours
from tunit.data.batches import Batches
from tunit.data.randomness import CounterStart
from tunit.distributed import broadcast_from_rank_zero
from tunit.methods import losses
from tunit.methods.parts import guidance_of
from tunit.methods.state import TrainingState
from tunit.networks.guide import Guidance, Guide, GuidingNetwork

JUDGED = 1024  # pictures, in two views each, on which heads are compared


@torch.no_grad()
def choose_domain_head(state: TrainingState, scores: Tensor) -> None:
    """Swap the domain head with the candidate of the highest score, if that one is higher.

    scores: of the domain head, then of the candidates, (1 + candidates,). Weights are swapped in E and its EMA, and
    moments in the optimiser. Where several processes train together, the scores of rank 0 count.
    """
    best = broadcast_from_rank_zero(int(scores.argmax()))
    if best:
        _swap(state, best - 1)


@torch.no_grad()
def information_of_heads(state: TrainingState, batches: Batches, batch_size: int) -> Tensor:
    """The mutual information between two views by each head of E's EMA, in nats: (1 + candidates,)."""
    guide = state.networks.guide_average
    was_training = guide.training
    guide.eval()
    views: list[tuple[Tensor, Tensor]] = []
    cursors: dict[str, int] = {}
    for i in range(-(-JUDGED // batch_size)):
        batch = batches.draw(CounterStart.CANDIDATES + i, batch_size, cursors)
        views.append((_probabilities(guide, batch.x), _probabilities(guide, batch.x_plus)))
    guide.train(was_training)
    p, p_plus = (torch.cat(view, dim=1) for view in zip(*views, strict=True))  # (heads, N, K)
    return torch.stack([losses.mutual_information(a, b) for a, b in zip(p, p_plus, strict=True)])


def modularity_of_heads(guidance: Guidance) -> Tensor:
    """The modularity of each head's domains on the graph of all pictures' style codes: (1 + candidates,) float64.

    guidance: of N pictures, more than two.
    """
    codes = torch.nn.functional.normalize(guidance.style, dim=1)
    graph = find_neighbours([codes], min(GRAPH_NEIGHBOURS, len(codes) - 1))
    candidates = guidance.candidate_logits
    heads = [guidance.logits, *(candidates if candidates is not None else ())]
    return torch.tensor([modularity(graph, logits.argmax(1)) for logits in heads], dtype=torch.float64)


def _probabilities(guide: GuidingNetwork, x: Tensor) -> Tensor:
    """(1 + candidates, B, domains), of the pictures x of all processes."""
    guidance = guidance_of(guide, x)
    heads = [guidance.logits[None]]
    if guidance.candidate_logits is not None:
        heads.append(guidance.candidate_logits)
    return torch.cat(heads).softmax(2)


def _swap(state: TrainingState, candidate: int) -> None:
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

"""E's own part of a training step (method section 4, step 1): domains and styles from two views."""

import torch
from torch import Tensor

from tunit.config import LossConfig
from tunit.data.batches import Batch
from tunit.distributed import all_gather
from tunit.networks.guide import Guidance
from tunit.training import losses
from tunit.training.descent import update
from tunit.training.losses import Terms
from tunit.training.state import TrainingState


def guide_step(
    state: TrainingState, batch: Batch, weights: LossConfig, unlabelled_factor: float
) -> tuple[Terms, Tensor]:
    """Step 1: E learns domains and style from the two views; returns the losses and the keys of x+."""
    networks = state.networks
    with torch.no_grad():
        keys = all_gather(networks.guide_average(batch.x_plus).style)
    view, view_plus = of_all(networks.guide(batch.x)), of_all(networks.guide(batch.x_plus))
    loss, terms = guide_loss(view, view_plus, keys, state.queue, batch, weights, unlabelled_factor)
    update(state.optimisers.guide, loss)
    return terms, keys


def of_all(view: Guidance) -> Guidance:
    """What E says of the whole batch, from what it says of this process's pictures."""
    logits, style, over, candidates = view
    return Guidance(
        all_gather(logits),
        all_gather(style),
        None if over is None else all_gather(over),
        None if candidates is None else all_gather(candidates.transpose(0, 1)).transpose(0, 1),
    )


def guide_loss(
    view: Guidance,
    view_plus: Guidance,
    keys: Tensor,
    queue: Tensor,
    batch: Batch,
    weights: LossConfig,
    unlabelled_factor: float,
) -> tuple[Tensor, Terms]:
    """E's own part of equation 6, labelled pictures (y >= 0) with cross-entropy in the place of the MI.

    unlabelled_factor * (style - 5 MI) + labelled_guide_factor * (style + 5 CE), each times its share of the batch.
    """
    unlabelled = (batch.y < 0).to(view.style.dtype)
    labelled = 1 - unlabelled
    factor = unlabelled_factor * unlabelled + weights.labelled_guide_factor * labelled  # (B,)
    style = losses.style_contrastive(view.style, keys, queue, weights.temperature, factor)
    terms = {"guide/style": style}
    loss = weights.guide_style_weight * factor.mean() * style
    if batch.any_unlabelled:
        objective, information = _clustering(view.logits, view_plus.logits, unlabelled, weights)
        terms["guide/mutual_information"] = information
        if view.candidate_logits is not None and view_plus.candidate_logits is not None:
            others = [
                _clustering(*pair, unlabelled, weights)[0]
                for pair in zip(view.candidate_logits, view_plus.candidate_logits, strict=True)
            ]
            objective = torch.stack([objective, *others]).mean()
        unsupervised = -weights.mutual_information_weight * objective
        if view.overcluster_logits is not None and view_plus.overcluster_logits is not None:
            objective, information = _clustering(
                view.overcluster_logits, view_plus.overcluster_logits, unlabelled, weights
            )
            terms["guide/overcluster_information"] = information
            unsupervised = unsupervised - weights.overcluster_weight * objective
        loss = loss + unlabelled.mean() * unlabelled_factor * unsupervised
    # Without a weight E_C stays out of the graph, so that weight decay does not touch it either.
    if batch.any_labelled and weights.classification_weight:
        supervised = losses.classification(view.logits, view_plus.logits, batch.y)
        terms["guide/classification"] = supervised
        loss = loss + labelled.mean() * (
            weights.labelled_guide_factor * weights.classification_weight * supervised
        )
    return loss, {name: term.detach() for name, term in terms.items()}


def _clustering(
    logits: Tensor, logits_plus: Tensor, weight: Tensor, weights: LossConfig
) -> tuple[Tensor, Tensor]:
    """What E maximises, and the mutual information itself: the same unless `marginal_balance` differs from 1."""
    p, p_plus = logits.softmax(1), logits_plus.softmax(1)
    objective = losses.mutual_information(p, p_plus, weight, weights.marginal_balance)
    if weights.marginal_balance == 1:
        return objective, objective
    with torch.no_grad():
        return objective, losses.mutual_information(p, p_plus, weight)

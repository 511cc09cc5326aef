"""What each network minimises: the paper's equations with their weights, whichever pictures have labels.

The equations themselves are in methods/losses.py. Each function returns the weighted loss and, by name, its terms
without weights.
"""

import torch
from torch import Tensor

from tunit.config import Config, LossConfig
from tunit.data.batches import Batch
from tunit.methods import losses
from tunit.methods.losses import Terms, full_precision
from tunit.methods.method import Phase
from tunit.methods.parts import MicroBatch
from tunit.networks.discriminator import DomainDiscriminator
from tunit.networks.guide import Guidance


def domain_loss(
    view: Guidance, view_plus: Guidance, batch: Batch, phase: Phase, weights: LossConfig
) -> tuple[Tensor, Terms]:
    """E's loss on domains: -5 I(P) of section 3.2, and for labelled pictures (y >= 0) 5 cross-entropies in its place.

    Each times its share of the batch and E's factor. An auxiliary over-complete head learns by its own mutual
    information, candidates for the domain head share in the domain head's. Before the phase finds domains, unlabelled
    pictures have no part in it.
    """
    unlabelled = (batch.y < 0).to(view.style.dtype)
    loss, terms = view.style.new_zeros(()), Terms()
    if batch.any_unlabelled and phase.find_domains:
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
            pair = view.overcluster_logits, view_plus.overcluster_logits
            objective, information = _clustering(*pair, unlabelled, weights)
            terms["guide/overcluster_information"] = information
            unsupervised = unsupervised - weights.overcluster_weight * objective
        loss = loss + unlabelled.mean() * _unlabelled_factor(phase, weights) * unsupervised
    # Without a weight E_C stays out of the graph, so that weight decay does not touch it either.
    if batch.any_labelled and weights.classification_weight:
        supervised = losses.classification(view.logits, view_plus.logits, batch.y)
        terms["guide/classification"] = supervised
        loss = loss + (1 - unlabelled).mean() * (
            weights.labelled_guide_factor * weights.classification_weight * supervised
        )
    return loss, {name: term.detach() for name, term in terms.items()}


def style_loss(
    view: Guidance, keys: Tensor, queue: Tensor, batch: Batch, phase: Phase, config: Config
) -> tuple[Tensor, Terms]:
    """E's loss on styles, equation 2, each picture with E's factor. keys: (B, width), queue: (N, width)."""
    weights = config.losses
    unlabelled = (batch.y < 0).to(view.style.dtype)
    factor = _unlabelled_factor(phase, weights) * unlabelled + weights.labelled_guide_factor * (
        1 - unlabelled
    )
    contrast = losses.style_contrastive(view.style, keys, queue, temperature_of(config), factor)
    return weights.guide_style_weight * factor.mean() * contrast, {"guide/style": contrast.detach()}


def discriminator_loss(
    discriminator: DomainDiscriminator,
    x_real: Tensor,
    y_real: Tensor,
    x_fake: Tensor,
    y_fake: Tensor,
    phase: Phase,
    weights: LossConfig,
) -> tuple[Tensor, Terms]:
    """D's side of equation 3, a hinge of real pictures against translations, plus R1 on the real ones.

    x_real, x_fake: (B, 3, S, S), x_fake without a graph; y_real, y_fake: (B,), their domains. The references of a
    batch are the batch in another order, and these are means, so that the pictures themselves may be given.
    """
    judge = discriminator.judge
    if phase.penalise:
        x_real = x_real.detach().requires_grad_()
        with full_precision(x_real):
            logit_real = judge(x_real, y_real)
        logit_fake = judge(x_fake, y_fake)
    else:
        logit_real, logit_fake = judge(torch.cat([x_real, x_fake]), torch.cat([y_real, y_fake])).chunk(2)
    real, fake = losses.hinge_real(logit_real), losses.hinge_fake(logit_fake)
    loss = weights.adversarial_weight * (real + fake)
    terms = {"discriminator/real": real.detach(), "discriminator/fake": fake.detach()}
    if phase.penalise:
        with full_precision(x_real):
            penalty = losses.r1_penalty(logit_real, x_real)
        loss = loss + weights.r1_every * weights.r1_weight * penalty
        terms["discriminator/r1"] = penalty.detach()
    return loss, terms


def adversarial_loss(discriminator: DomainDiscriminator, part: MicroBatch) -> tuple[Tensor, Terms]:
    """G's side of equation 3 for the translations, and beyond it for the reconstructions with their own domain."""
    logit = discriminator.judge(part.x_out, torch.cat([part.y_ref, part.y]))
    fake, rec = (losses.generator_adversarial(half) for half in logit.chunk(2))
    terms = {"generator/adversarial": fake, "generator/adversarial_reconstruction": rec}
    return fake + rec, {name: term.detach() for name, term in terms.items()}


def temperature_of(config: Config) -> float:
    """tau of equations 2 and 4. Codes of length sqrt(width) have products of width times their cosine."""
    return config.losses.temperature * (config.networks.style_width if config.networks.normalise_style else 1)


def _unlabelled_factor(phase: Phase, weights: LossConfig) -> float:
    """E's factor on unlabelled pictures."""
    return weights.joint_guide_factor if phase.joint else 1.0


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

"""The loss of each network: the paper's equations with their weights, for pictures with and without labels.

Where the published implementation differs from the equations, this code follows it (docs/fidelity.md). The equations
themselves are in methods/losses.py. The functions `..._loss` return the weighted loss, and a dictionary of its terms
without weights. Only `generator_adversarial_loss` returns its loss without the weight, which is applied in
`Translations.backward_part`, because this loss may train other networks than the rest. The weight of equation 4 is
applied in `translation_step` of methods/tunit.py.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tunit.config import AUTO_WEIGHT, Config, LossConfig
from tunit.data.batching.batches import Batch
from tunit.methods import losses
from tunit.methods.adversarial_memory import FAKE_ANSWER, REAL_ANSWER, SIGN, AdversarialMemory
from tunit.methods.clustering_objectives import MUTUAL_INFORMATION, objective_of
from tunit.methods.differentiable_augment import InputKind
from tunit.methods.losses import Terms, without_autocast
from tunit.methods.method import Phase
from tunit.methods.parts import PartOfBatch
from tunit.networks.discriminator import DomainDiscriminator
from tunit.networks.generator import StyledGenerator
from tunit.networks.guide import Guidance

GAMMA_OF_RULE = 0.0002  # StyleGAN2-ADA's rule `auto` for R1: gamma is this times size^2 / batch
Augmentation = Callable[[Tensor, InputKind], Tensor]


def unchanged(x: Tensor, kind: InputKind) -> Tensor:
    """What D sees in the paper's setting: x itself."""
    return x


def domain_loss(
    view: Guidance,
    view_plus: Guidance,
    batch: Batch,
    phase: Phase,
    config: Config,
    found: Tensor | None = None,
) -> tuple[Tensor, Terms]:
    """E's loss on domains. Unlabelled pictures: -5 I(P) of equation 1; labelled ones: 5 times the cross-entropy.

    (5 is the default weight; `clustering_objective` may name another objective than I(P).) Each of the two terms is
    multiplied by the share of its pictures in the batch, and by a factor: `joint_guide_factor` in joint steps
    (otherwise 1) for unlabelled pictures, `labelled_guide_factor` for labelled ones. The objective of the domain head
    is averaged with that of the candidate heads; the one of the overclustering head is added, with its own weight.
    Unlabelled pictures count only if `phase.learns_domains`.

    found: (B,), the domains that were found for the pictures before G and D began to train; none has a label. If
    given, E only learns to keep them.
    """
    if found is not None:
        return _loss_of_found_domains(view, view_plus, found, config.losses)
    weights = config.losses
    unlabelled, factor = (batch.y < 0).to(view.style.dtype), _unlabelled_factor(phase, weights)
    loss, terms = view.style.new_zeros(()), Terms()
    if batch.any_unlabelled and phase.learns_domains:
        objective, information = _clustering(view.logits, view_plus.logits, unlabelled, config)
        terms["guide/mutual_information"] = information
        if view.candidate_logits is not None and view_plus.candidate_logits is not None:
            others = [
                _clustering(*pair, unlabelled, config)[0]
                for pair in zip(view.candidate_logits, view_plus.candidate_logits, strict=True)
            ]
            objective = torch.stack([objective, *others]).mean()
        weight = weights.mutual_information_weight
        unsupervised = -weight * _without_graph_at_0(weight * factor, objective)
        if view.overcluster_logits is not None and view_plus.overcluster_logits is not None:
            pair = view.overcluster_logits, view_plus.overcluster_logits
            objective, information = _clustering(*pair, unlabelled, config)
            terms["guide/overcluster_information"] = information
            weight = weights.overcluster_weight
            unsupervised = unsupervised - weight * _without_graph_at_0(weight * factor, objective)
        loss = loss + unlabelled.mean() * factor * unsupervised
    if batch.any_labelled and weights.classification_weight * weights.labelled_guide_factor:
        supervised = losses.classification(view.logits, view_plus.logits, batch.y)
        terms["guide/classification"] = supervised
        loss = loss + (1 - unlabelled).mean() * (
            weights.labelled_guide_factor * weights.classification_weight * supervised
        )
    return loss, {name: term.detach() for name, term in terms.items()}


def _loss_of_found_domains(
    view: Guidance, view_plus: Guidance, found: Tensor, weights: LossConfig
) -> tuple[Tensor, Terms]:
    """The weighted cross-entropy of both views and the found domains (B,). Mutual information is only measured."""
    kept = losses.classification(view.logits, view_plus.logits, found)
    with torch.no_grad():
        information = losses.mutual_information(view.logits.softmax(1), view_plus.logits.softmax(1))
    terms = {"guide/found_domains": kept.detach(), "guide/mutual_information": information}
    return weights.found_domains_weight * kept, terms


def style_loss(
    view: Guidance, keys: Tensor, queue: Tensor, batch: Batch, phase: Phase, config: Config
) -> tuple[Tensor, Terms]:
    """E's loss on styles, equation 2; each picture's term is multiplied by a factor, as in `domain_loss`.

    keys: (B, width), queue: (N, width).
    """
    weights = config.losses
    unlabelled = (batch.y < 0).to(view.style.dtype)
    factor = _unlabelled_factor(phase, weights) * unlabelled + weights.labelled_guide_factor * (
        1 - unlabelled
    )
    contrast = losses.style_contrastive(view.style, keys, queue, temperature_of(config), factor)
    largest = max(
        _unlabelled_factor(phase, weights) if batch.any_unlabelled else 0.0,
        weights.labelled_guide_factor if batch.any_labelled else 0.0,
    )
    weight = weights.guide_style_weight
    loss = weight * factor.mean() * _without_graph_at_0(weight * largest, contrast)
    return loss, {"guide/style": contrast.detach()}


def _without_graph_at_0(weight: float, term: Tensor) -> Tensor:
    """The term of a loss, without its graph if the weight is 0.

    Parameters would otherwise have a gradient of 0 instead of none, and weight decay would shrink them to 0.
    """
    return term if weight else term.detach()


def discriminator_loss(
    discriminator: DomainDiscriminator,
    x_real: Tensor,
    y_real: Tensor,
    x_fake: Tensor,
    y_fake: Tensor,
    phase: Phase,
    config: Config,
    augment: Augmentation = unchanged,
    memory: AdversarialMemory | None = None,
) -> tuple[Tensor, Terms]:
    """D's side of equation 3: a hinge loss on real pictures and translations, plus R1 on the real pictures if
    `phase.penalise` and, if `lecam_weight` is not 0, LeCam's regulariser.

    x_real, x_fake: (B, 3, S, S), x_fake without a graph; y_real, y_fake: (B,), their domains. x_real are the sources:
    the references are the same pictures in another order, and the loss is a mean. augment: changes pictures for D; R1
    differentiates with respect to the pictures before that, as in ADA.
    """
    weights, settings = config.losses, config.adversarial
    if phase.penalise:
        x_real = x_real.detach().requires_grad_()
    logit_real, logit_fake = _judged(discriminator, x_real, y_real, x_fake, y_fake, phase.penalise, augment)
    real, fake = losses.hinge_real(logit_real), losses.hinge_fake(logit_fake)
    terms = {"discriminator/real": real.detach(), "discriminator/fake": fake.detach()}
    terms[SIGN] = logit_real.detach().sign().mean()
    loss = weights.adversarial_weight * (real + fake)
    if phase.penalise:
        with without_autocast(x_real):
            penalty = losses.r1_penalty(logit_real, x_real, differentiable=bool(weights.r1_weight))
        if weights.r1_weight:  # with 0, R1 is only measured
            loss = loss + weights.r1_every * weight_of_r1(config) * penalty
        terms["discriminator/r1"] = penalty.detach()
    if memory is not None and settings.lecam_weight:
        lecam = losses.lecam(logit_real, logit_fake, memory.real, memory.fake)
        loss = loss + settings.lecam_weight * lecam
        terms |= {"discriminator/lecam": lecam.detach(), REAL_ANSWER: logit_real.detach().mean()}
        terms[FAKE_ANSWER] = logit_fake.detach().mean()
    return loss, terms


def _judged(
    discriminator: DomainDiscriminator,
    x_real: Tensor,
    y_real: Tensor,
    x_fake: Tensor,
    y_fake: Tensor,
    penalise: bool,
    augment: Augmentation,
) -> tuple[Tensor, Tensor]:
    """D's logits of real pictures and of translations, (B,) each, or (B, h, w) of patches.

    penalise: the logits of real pictures are computed for R1, separately and without autocast.
    """
    judge, seen = discriminator.judge, augment(x_fake, InputKind.FAKE)
    if not penalise:
        both = torch.cat([augment(x_real, InputKind.REAL), seen])
        logit_real, logit_fake = judge(both, torch.cat([y_real, y_fake])).chunk(2)
        return logit_real, logit_fake
    with without_autocast(x_real):
        logit_real = judge(augment(x_real, InputKind.REAL), y_real)
    return logit_real, judge(seen, y_fake)


def weight_of_r1(config: Config) -> float:
    """The weight of R1: as given or, for `auto`, half of StyleGAN2-ADA's gamma = 0.0002 size^2 / batch."""
    if config.losses.r1_weight != AUTO_WEIGHT:
        return config.losses.r1_weight
    return GAMMA_OF_RULE * config.data.image_size**2 / config.optimisers.batch_size / 2


def generator_adversarial_loss(
    discriminator: DomainDiscriminator, part: PartOfBatch, augment: Augmentation = unchanged
) -> tuple[Tensor, Terms]:
    """G's side of equation 3, not yet weighted, for the translations and for reconstructions in their own domain.

    Equation 3 has no term for reconstructions; the published implementation does (docs/fidelity.md).
    """
    drawn = part.x_out
    if augment is not unchanged:
        drawn = torch.cat(
            [augment(part.x_fake, InputKind.FAKE_AGAIN), augment(part.x_rec, InputKind.RECONSTRUCTION)]
        )
    halves = discriminator.judge(drawn, torch.cat([part.y_ref, part.y])).chunk(2)
    fake, rec = (losses.generator_adversarial(half) for half in halves)
    terms = {"generator/adversarial": fake, "generator/adversarial_reconstruction": rec}
    return fake + rec, {name: term.detach() for name, term in terms.items()}


def reconstruction_loss(part: PartOfBatch, weights: LossConfig) -> tuple[Tensor, Terms]:
    """Equation 5 for a part of the batch."""
    l1 = losses.reconstruction(part.x_rec, part.x)
    return weights.reconstruction_weight * l1, {"generator/reconstruction": l1.detach()}


def back_translation_loss(
    generator: StyledGenerator, part: PartOfBatch, weights: LossConfig
) -> tuple[Tensor, Terms]:
    """Back-translation for a part of the batch; 0 and no term if it has no weight, as in the paper."""
    if not weights.back_translation_weight:
        return part.x.new_zeros(()), {}
    x_back = part.redraw_back(generator, part.x_fake.detach())
    l1 = losses.back_translation(x_back, part.x)
    return weights.back_translation_weight * l1, {"generator/back_translation": l1.detach()}


def temperature_of(config: Config) -> float:
    """The temperature of equations 2 and 4.

    It is the setting `temperature`. Normalised style codes have length size * sqrt(width), so their dot products are
    cosines times size^2 * width. The setting is then multiplied by the same factor, so that logits are cosines
    divided by the setting.
    """
    networks = config.networks
    squared_length = networks.style_size**2 * networks.style_width if networks.normalise_style else 1.0
    return config.losses.temperature * squared_length


def _unlabelled_factor(phase: Phase, weights: LossConfig) -> float:
    """The factor on E's losses of unlabelled pictures."""
    return weights.joint_guide_factor if phase.joint else 1.0


def _clustering(logits: Tensor, logits_plus: Tensor, weight: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """The objective that E maximises, and the mutual information, which is logged whatever the objective is."""
    chosen, balance = objective_of(config), config.losses.marginal_balance
    objective = chosen.value(logits, logits_plus, weight, balance)
    if chosen is MUTUAL_INFORMATION and balance == 1:
        return objective, objective
    with torch.no_grad():
        return objective, MUTUAL_INFORMATION.value(logits, logits_plus, weight, 1.0)

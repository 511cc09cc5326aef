"""One training step (method section 4), each forward pass once, for any mix of labelled and unlabelled pictures.

Within a step the reference batch x~ is a permutation of x, so E_S(x~) is E_S(x) permuted, and the content code
and the translation that D learns from are those that G learns from: nothing is computed twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tunit.config import LossConfig
from tunit.data.batches import Batch
from tunit.networks.average import follow
from tunit.networks.guide import Guidance
from tunit.networks.queue import push
from tunit.training import losses
from tunit.training.losses import full_precision
from tunit.training.state import Networks, TrainingState

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Phase:
    """What one step does, as the schedule says."""

    joint: bool  # G and D train too
    generator_average_follows: bool  # else the average of G is G itself
    penalise: bool  # this step computes R1


def train_step(
    state: TrainingState,
    batch: Batch,
    permutation: Tensor,
    phase: Phase,
    weights: LossConfig,
    *,
    average_decay: float,
    precision: torch.dtype = torch.float32,
) -> Terms:
    """Update `state` by one step on `batch`; returns the unweighted losses by name, on the device.

    permutation: (B,) int64; x[permutation] are the references. precision: bfloat16 runs convolutions and
    matrices under autocast, with mutual information, contrastive logits and R1 in float32 all the same.
    """
    low, device_type = precision == torch.bfloat16, batch.x.device.type
    # No cache: it would keep E's weights as they were before E's own update.
    with torch.autocast(device_type, dtype=torch.bfloat16, enabled=low, cache_enabled=False):
        terms, keys = guide_step(state, batch, weights, weights.joint_guide_factor if phase.joint else 1.0)
        if phase.joint:
            terms |= translation_step(state, batch, permutation, phase, weights)
    state.queue = push(state.queue, keys)
    networks = state.networks
    follow(networks.guide_average, networks.guide, average_decay)
    if phase.joint:
        decay = average_decay if phase.generator_average_follows else 0.0
        follow(networks.generator_average, networks.generator, decay)
    state.step += 1
    return terms


def guide_step(
    state: TrainingState, batch: Batch, weights: LossConfig, unlabelled_factor: float
) -> tuple[Terms, Tensor]:
    """Step 1: E learns domains and style from the two views; returns the losses and the keys of x+."""
    networks = state.networks
    with torch.no_grad():
        keys = networks.guide_average(batch.x_plus).style
    view, view_plus = networks.guide(batch.x), networks.guide(batch.x_plus)
    loss, terms = guide_loss(view, view_plus, keys, state.queue, batch, weights, unlabelled_factor)
    update(state.optimisers.guide, loss)
    return terms, keys


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


def translation_step(
    state: TrainingState, batch: Batch, permutation: Tensor, phase: Phase, weights: LossConfig
) -> Terms:
    """Steps 2 to 4: with the updated E, D learns to tell translations, then G and (again) E learn from D."""
    networks, optimisers = state.networks, state.optimisers
    x, x_ref = batch.x, batch.x[permutation]
    guidance = networks.guide(x)
    y = torch.where(batch.y >= 0, batch.y, guidance.logits.argmax(1))
    y_ref = y[permutation]
    s = guidance.style
    c = networks.generator.encode(x)
    # The translations with the references' styles, and the reconstructions, in one pass.
    x_out = networks.generator.decode(torch.cat([c, c]), torch.cat([s[permutation], s]))
    x_fake = x_out[: len(x)]

    loss, terms = discriminator_loss(networks, x_ref, x_fake.detach(), y_ref, phase, weights)
    update(optimisers.discriminator, loss)

    with torch.no_grad():
        keys_ref = networks.guide_average(x).style[permutation]
    with frozen(networks.discriminator):
        logit = networks.discriminator.judge(x_out, torch.cat([y_ref, y]))
        style = networks.guide(x_fake).style
        fake = losses.generator_adversarial(logit[: len(x)])
        rec = losses.generator_adversarial(logit[len(x) :])
        l1 = losses.reconstruction(x_out[len(x) :].to(x.dtype), x)
        contrast = losses.style_contrastive(style, keys_ref, state.queue, weights.temperature)
        adversarial = weights.adversarial_weight * (fake + rec)
        others = weights.reconstruction_weight * l1 + weights.generator_style_weight * contrast
        optimisers.guide.zero_grad(set_to_none=True)
        optimisers.generator.zero_grad(set_to_none=True)
        with full_precision(others):
            if weights.adversarial_trains == "generator":
                own = list(networks.generator.parameters())
                adversarial.backward(inputs=own, retain_graph=True)  # type: ignore[no-untyped-call]
                others.backward()  # type: ignore[no-untyped-call]
            else:
                (adversarial + others).backward()  # type: ignore[no-untyped-call]
        optimisers.generator.step()
        optimisers.guide.step()
    terms |= {
        "generator/adversarial": fake.detach(),
        "generator/adversarial_reconstruction": rec.detach(),
        "generator/reconstruction": l1.detach(),
        "generator/style": contrast.detach(),
    }
    return terms


def discriminator_loss(
    networks: Networks, x_ref: Tensor, x_fake: Tensor, y_ref: Tensor, phase: Phase, weights: LossConfig
) -> tuple[Tensor, Terms]:
    """Step 3: hinge loss of the real references against the translations, plus R1 on the references.

    x_ref, x_fake: (B, 3, S, S), x_fake without a graph; y_ref: (B,), the domains of both.
    """
    x_ref = x_ref.detach().requires_grad_(phase.penalise)
    with full_precision(x_ref) if phase.penalise else nullcontext():
        logit_real = networks.discriminator.judge(x_ref, y_ref)
    real = losses.hinge_real(logit_real)
    fake = losses.hinge_fake(networks.discriminator.judge(x_fake, y_ref))
    loss = weights.adversarial_weight * (real + fake)
    terms = {"discriminator/real": real.detach(), "discriminator/fake": fake.detach()}
    if phase.penalise:
        with full_precision(x_ref):
            penalty = losses.r1_penalty(logit_real, x_ref)
        loss = loss + weights.r1_every * weights.r1_weight * penalty
        terms["discriminator/r1"] = penalty.detach()
    return loss, terms


def update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of `optimiser` along the gradient of `loss`."""
    optimiser.zero_grad(set_to_none=True)
    # Each operation goes back in the precision it came in; autocast would cast float32 ones again.
    with full_precision(loss):
        loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Gradients pass through `network` but not into its parameters, which saves their computation."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)

"""One training step of the FUNIT baseline, configuration A of table 1 (method section 10).

It is the step of section 4 without E's own losses: D learns first, then G and the class encoder learn from the
updated D. References are a permutation of the batch here too, so that every forward pass serves both.
"""

import torch
from torch import Tensor

from tunit.config import LossConfig
from tunit.data.batches import Batch
from tunit.errors import DataError
from tunit.networks.average import follow
from tunit.networks.funit import PatchDiscriminator
from tunit.training import losses
from tunit.training.descent import frozen, update
from tunit.training.losses import Terms
from tunit.training.state import Networks, Optimisers, TrainingState
from tunit.training.step import Phase, discriminator_loss


def funit_step(
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

    The pictures are the batch's second views, x+, which the preset makes random crops; there is no need of the
    first. `phase.joint` has no meaning, as nothing trains alone. The key queue stays as it is. Other arguments
    as for `train_step`. Raises DataError where a picture is unlabelled.
    """
    if batch.any_unlabelled:
        raise DataError(
            "a picture has no label, and funit learns from labelled ones alone: label it or leave it out"
        )
    networks, optimisers = state.networks, state.optimisers
    x, y = batch.x_plus, batch.y
    x_ref, y_ref = x[permutation], y[permutation]
    # No cache: D's weights change within the step.
    with torch.autocast(
        x.device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16, cache_enabled=False
    ):
        s = networks.guide(x).style
        c = networks.generator.encode(x)
        # The translations with the references' styles, and the reconstructions, in one pass.
        x_out = networks.generator.decode(torch.cat([c, c]), torch.cat([s[permutation], s]))
        x_fake = x_out[: len(x)].detach()
        loss, terms = discriminator_loss(networks, x_ref, y_ref, x_fake, y_ref, phase, weights)
        update(optimisers.discriminator, loss)

        assert isinstance(networks.discriminator, PatchDiscriminator)
        with frozen(networks.discriminator):
            loss, more = generator_loss(networks.discriminator, x, y, x_out, permutation, weights)
            update_both(optimisers, loss)
    follow_both(networks, phase, average_decay)
    state.step += 1
    return terms | more


def update_both(optimisers: Optimisers, loss: Tensor) -> None:
    """One step of G and of the class encoder, which learns as a part of G, along the gradient of `loss`."""
    optimisers.guide.zero_grad(set_to_none=True)
    update(optimisers.generator, loss)
    optimisers.guide.step()


def follow_both(networks: Networks, phase: Phase, average_decay: float) -> None:
    """The averages of G and of the class encoder, by which it is fed: so both start together."""
    decay = average_decay if phase.generator_average_follows else 0.0
    follow(networks.guide_average, networks.guide, decay)
    follow(networks.generator_average, networks.generator, decay)


def generator_loss(
    discriminator: PatchDiscriminator,
    x: Tensor,
    y: Tensor,
    x_out: Tensor,
    permutation: Tensor,
    weights: LossConfig,
) -> tuple[Tensor, Terms]:
    """What G and the class encoder learn: 0.5 (adv(fake) + adv(rec)) + 0.1 L1 + feature matching.

    x: (B, 3, S, S), the sources, x[permutation] the references; y: (B,), the classes of x. x_out: (2 B, 3, S, S),
    the translations, then the reconstructions. Translations are matched with their references' features,
    reconstructions with their sources'.
    """
    with torch.no_grad():
        real = discriminator.features(x)
    features = discriminator.features(x_out)
    logit = discriminator.judge_features(features, torch.cat([y[permutation], y]))
    fake = losses.generator_adversarial(logit[: len(x)])
    rec = losses.generator_adversarial(logit[len(x) :])
    l1 = losses.reconstruction(x_out[len(x) :].to(x.dtype), x)
    matching = losses.feature_matching(features[: len(x)], real[permutation])
    matching = matching + losses.feature_matching(features[len(x) :], real)
    loss = (
        weights.adversarial_weight * weights.funit_adversarial_factor * (fake + rec)
        + weights.reconstruction_weight * l1
        + weights.feature_matching_weight * matching
    )
    return loss, {
        "generator/adversarial": fake.detach(),
        "generator/adversarial_reconstruction": rec.detach(),
        "generator/reconstruction": l1.detach(),
        "generator/feature_matching": matching.detach(),
    }

"""One training step of the SEMIT baseline: the FUNIT baseline's, with pseudo-labels for pictures without a label.

First the class encoder and its classifier learn alone, from labels and then from soft labels that learn too
(noise-tolerant pseudo-labelling); then D, G and the class encoder learn as in FUNIT, each picture being of the class
of its label or of its soft label, and G learns to translate back (cycle consistency) and to hide the class from
content codes (content entropy). docs/baselines.md says what of this had to be decided.

Source: Wang et al., Semi-supervised learning for few-shot image-to-image translation, CVPR 2020.
"""

import torch
from torch import Tensor

from tunit.config import LossConfig
from tunit.data.batches import Batch
from tunit.networks.funit import PatchDiscriminator
from tunit.networks.guide import Guidance
from tunit.networks.semit import OctaveGenerator
from tunit.training import losses
from tunit.training.descent import frozen, update
from tunit.training.funit_step import follow_both, generator_loss, update_both
from tunit.training.losses import Terms
from tunit.training.state import TrainingState
from tunit.training.step import Phase, discriminator_loss


def semit_step(
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

    The pictures are the batch's second views, x+, as for `funit_step`; unlike there, any may be unlabelled. Until
    `phase.joint` the class encoder and its classifier learn alone. Other arguments as for `train_step`.
    """
    assert state.soft_labels is not None
    x = batch.x_plus
    # No cache: D's weights change within the step.
    with torch.autocast(
        x.device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16, cache_enabled=False
    ):
        guidance = state.networks.guide(x)
        p = guidance.logits.detach().softmax(1)
        label_logits = state.soft_labels.logits_of(batch)
        loss, terms = classifier_loss(guidance.logits, label_logits, batch, weights)
        if phase.joint:
            y = state.soft_labels.classes(batch)
            terms |= translation_step(state, x, y, guidance, permutation, phase, weights, loss)
        else:
            update(state.optimisers.guide, loss)
    if batch.any_unlabelled:
        state.soft_labels.learn(batch, p, weights)
    follow_both(state.networks, phase, average_decay)
    state.step += 1
    return terms


def classifier_loss(
    logits: Tensor, label_logits: Tensor, batch: Batch, weights: LossConfig
) -> tuple[Tensor, Terms]:
    """Noise-tolerant pseudo-labelling: what the class encoder and its classifier learn.

    Cross-entropy on labelled pictures, KL to the soft label and entropy on unlabelled ones, each times its share of
    the batch. logits, label_logits: (B, domains). The compatibility loss moves the soft labels alone.
    """
    unlabelled = (batch.y < 0).to(logits.dtype)
    loss, terms = logits.new_zeros(()), {}
    if batch.any_labelled:
        terms["guide/classification"] = losses.labelled_cross_entropy(logits, batch.y)
        loss = (1 - unlabelled).mean() * weights.classification_weight * terms["guide/classification"]
    if batch.any_unlabelled:
        divergence = losses.pseudo_label_divergence(logits, label_logits, unlabelled)
        entropy = losses.prediction_entropy(logits, unlabelled)
        loss = loss + unlabelled.mean() * (
            weights.pseudo_label_weight * divergence + weights.prediction_entropy_weight * entropy
        )
        terms |= {"guide/pseudo_label_divergence": divergence, "guide/prediction_entropy": entropy}
    return loss, {name: term.detach() for name, term in terms.items()}


def translation_step(
    state: TrainingState,
    x: Tensor,
    y: Tensor,
    guidance: Guidance,
    permutation: Tensor,
    phase: Phase,
    weights: LossConfig,
    loss_of_classifier: Tensor,
) -> Terms:
    """D learns, then G, the class encoder and its classifier learn from the updated D, as in FUNIT, and from more.

    x: (B, 3, S, S), y: (B,) their classes, guidance: what the class encoder says of x.
    """
    networks, s = state.networks, guidance.style
    generator, discriminator = networks.generator, networks.discriminator
    assert isinstance(generator, OctaveGenerator)
    assert isinstance(discriminator, PatchDiscriminator)
    c = generator.encode(x)
    # The translations with the references' styles, and the reconstructions, in one pass.
    x_out = generator.decode(torch.cat([c, c]), torch.cat([s[permutation], s]))
    x_fake, y_ref = x_out[: len(x)], y[permutation]
    loss, terms = discriminator_loss(networks, x[permutation], y_ref, x_fake.detach(), y_ref, phase, weights)
    update(state.optimisers.discriminator, loss)

    with frozen(discriminator):
        loss, more = generator_loss(discriminator, x, y, x_out, permutation, weights)
        # Cycle consistency: the translation, translated back with the source's own style.
        cycle = losses.reconstruction(generator.decode(generator.encode(x_fake), s).to(x.dtype), x)
        # The content head learns to read the class of content codes, the encoder to leave it in doubt. The head's
        # own loss needs no weight: RMSprop divides by the size of its gradients.
        of_head, of_encoder = generator.read_content(c)
        reading = losses.labelled_cross_entropy(of_head, y)
        entropy = losses.prediction_entropy(of_encoder)
        loss = loss + weights.cycle_weight * cycle + reading - weights.content_entropy_weight * entropy
        update_both(state.optimisers, loss + loss_of_classifier)
    more |= {
        "generator/cycle": cycle.detach(),
        "generator/content_classification": reading.detach(),
        "generator/content_entropy": entropy.detach(),
    }
    return terms | more

"""One training step of the SEMIT baseline: the FUNIT baseline's, with pseudo-labels for pictures without a label.

First the class encoder and its classifier learn alone: from labels, and later also from soft labels, which are
trained, too (noise-tolerant pseudo-labelling). Then D, G and the class encoder learn as in FUNIT; a picture's class
is its label or the likeliest class of its soft label. In addition, G learns to translate back (cycle consistency) and
to keep the class out of content codes (content entropy). docs/baselines.md lists what the papers leave open, and what
we chose.

Source: Wang et al., Semi-supervised learning for few-shot image-to-image translation, CVPR 2020.
"""

import torch
from torch import Tensor
from torch.profiler import record_function

from tunit.config import Config, SemitConfig
from tunit.config.methods import METHODS
from tunit.data.batching.batches import Batch, Batches
from tunit.data.packing.packed import PackedPictures
from tunit.distributed.collectives import tensor_from_rank_zero
from tunit.methods import losses
from tunit.methods.descent import backward, descent, frozen, mixed_precision
from tunit.methods.funit import (
    UNUSED,
    generator_loss,
    halves_of_generator,
    patch_discriminator,
    recomputed_parts,
    rmsprop_for_all,
    update_both_averages,
)
from tunit.methods.inference import in_batches
from tunit.methods.losses import Terms
from tunit.methods.method import Labels, Method, Phase
from tunit.methods.objectives import discriminator_loss
from tunit.methods.optimisers import set_rates_of_baseline
from tunit.methods.parts import Means, PartOfBatch, guidance_with_summed_style_gradients
from tunit.methods.soft_labels import SoftLabels, new_soft_labels
from tunit.methods.state import TrainingState
from tunit.networks.funit_networks import PatchDiscriminator
from tunit.networks.guide import Guidance
from tunit.networks.semit_networks import OctaveGenerator, SemitEncoder


def semit_step(
    state: TrainingState, batch: Batch, permutation: Tensor, phase: Phase, config: Config
) -> Terms:
    """Update `state` by one step on `batch`; returns the unweighted losses by name, on the device.

    As in `funit_step`, the pictures are the batch's second views, x+; here any of them may be unlabelled. Until
    `phase.joint` the class encoder and its classifier learn alone. Other arguments are as for `tunit_step`.
    """
    labels, x = soft_labels_of(state), batch.x_plus
    with mixed_precision(x, config):
        with record_function("E"):
            guidance = guidance_with_summed_style_gradients(state.networks.guide, x)
            p = guidance.logits.detach().softmax(1)
            loss, terms = classifier_loss(guidance.logits, labels.logits_of(batch), batch, config)
        if phase.joint:
            terms |= translation_step(
                state, x, labels.classes(batch), guidance, permutation, phase, config, loss
            )
        else:
            with record_function("E"), descent(state.optimisers.guide):
                backward(loss)
    if batch.any_unlabelled:
        labels.learn(batch, p, config.of(SemitConfig))
    update_both_averages(state.networks, phase, config)
    state.step += 1
    return terms


def classifier_loss(
    logits: Tensor, label_logits: Tensor, batch: Batch, config: Config
) -> tuple[Tensor, Terms]:
    """Noise-tolerant pseudo-labelling: the loss of the class encoder and its classifier, and its terms by name.

    On labelled pictures the loss is the cross-entropy; on unlabelled ones, the KL divergence from the soft label plus
    the entropy. Each is multiplied by its share of the batch. logits, label_logits: (B, domains). The compatibility
    loss is not here, because it acts only on the soft labels.
    """
    own, unlabelled = config.of(SemitConfig), (batch.y < 0).to(logits.dtype)
    loss, terms = logits.new_zeros(()), {}
    if batch.any_labelled:
        terms["guide/classification"] = losses.labelled_cross_entropy(logits, batch.y)
        loss = (1 - unlabelled).mean() * config.losses.classification_weight * terms["guide/classification"]
    if batch.any_unlabelled:
        divergence = losses.pseudo_label_divergence(logits, label_logits, unlabelled)
        entropy = losses.prediction_entropy(logits, unlabelled)
        loss = loss + unlabelled.mean() * (
            own.pseudo_label_weight * divergence + own.prediction_entropy_weight * entropy
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
    config: Config,
    loss_of_classifier: Tensor,
) -> Terms:
    """D learns; then G, the class encoder and its classifier learn from the updated D. As in FUNIT, with more losses.

    x: (b, 3, S, S), this process's pictures. y: (B,), the classes of the whole batch. guidance: the class encoder's
    output for the whole batch. Returns the losses by name, without their weights.
    """
    optimisers, own, means = state.optimisers, config.of(SemitConfig), Means()
    generator, discriminator = state.networks.generator, state.networks.discriminator
    assert isinstance(generator, OctaveGenerator)
    assert isinstance(discriminator, PatchDiscriminator)
    with record_function("G"):
        part = PartOfBatch(x, y, guidance.style, permutation)
        c = part.redraw(generator)
    with record_function("D"), descent(optimisers.discriminator):
        real, fake = (x, part.y), (part.x_fake.detach(), part.y_ref)
        loss, terms = discriminator_loss(discriminator, *real, *fake, phase, config)
        backward(part.share * loss)
        means.add(terms, part.share)
    with record_function("G"), frozen(discriminator), descent(optimisers.generator, optimisers.guide):
        loss, terms = generator_loss(discriminator, part, config)
        # Cycle consistency: the translation, translated back with the source's own style.
        cycle = losses.reconstruction(part.redraw_back(generator, part.x_fake), x)
        # The content head learns to read the class from content codes; the encoder learns to make that impossible.
        # The head's own loss needs no weight: RMSprop divides gradients by their size, so a factor would not matter.
        of_head, of_encoder = generator.read_content(c)
        reading = losses.labelled_cross_entropy(of_head, part.y)
        entropy = losses.prediction_entropy(of_encoder)
        loss = loss + own.cycle_weight * cycle + reading - own.content_entropy_weight * entropy
        backward(part.share * loss + loss_of_classifier)
        terms |= {
            "generator/cycle": cycle.detach(),
            "generator/content_classification": reading.detach(),
            "generator/content_entropy": entropy.detach(),
        }
        means.add(terms, part.share)
    return means.of_batch()


# ---- networks, and the soft labels ----


def _guide(config: Config) -> SemitEncoder:
    settings = config.networks
    return SemitEncoder(
        settings.initial_domains, width=settings.guide_width, style_width=settings.style_width
    )


def _generator(config: Config) -> OctaveGenerator:
    settings = config.networks
    return OctaveGenerator(
        config.data.image_size,
        settings.initial_domains,
        width=settings.generator_width or None,
        style_width=settings.style_width,
        share=config.of(SemitConfig).octave_share,
    )


def _own_state(pictures: int, config: Config, device: torch.device) -> SoftLabels:
    return new_soft_labels(pictures, config.networks.initial_domains, device)


def soft_labels_of(state: TrainingState) -> SoftLabels:
    """The soft labels that this method keeps in a state."""
    assert isinstance(state.own, SoftLabels)
    return state.own


@torch.no_grad()
def _before_step(state: TrainingState, batches: Batches, pictures: PackedPictures, config: Config) -> None:
    """Set the learning rates of the next step.

    After the steps in which the classifier learns only from labels, its probabilities become the first soft labels.
    """
    set_rates_of_baseline(state.optimisers, state.step, config)
    if state.step == config.schedule.labelled_only_until:
        labels, images, guide = soft_labels_of(state), pictures.images, state.networks.guide
        size, device = config.optimisers.batch_size, labels.logits.device
        # Every rank takes rank 0's values, because GPUs may round differently.
        probabilities = (guide(x).logits.softmax(1) for x in in_batches(images, device, size))
        labels.begin(tensor_from_rank_zero(p) for p in probabilities)


SEMIT = Method(
    name="semit",
    guide=_guide,
    generator=_generator,
    discriminator=patch_discriminator,
    optimisers=rmsprop_for_all,
    step=semit_step,
    settings=METHODS["semit"],
    unused_settings=UNUSED,
    network_settings=("octave_share",),
    settings_for_unlabelled=(
        "pseudo_label_weight",
        "compatibility_weight",
        "prediction_entropy_weight",
        "soft_label_rate",
    ),
    labels=Labels.SOME,
    processes=True,
    source="[SEMIT](https://arxiv.org/abs/2003.13853) (Wang et al., CVPR 2020)",
    compiled_parts=halves_of_generator,
    recomputed_parts=recomputed_parts,
    own_state=_own_state,
    before_step=_before_step,
)

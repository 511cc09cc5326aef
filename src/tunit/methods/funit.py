"""One training step of the FUNIT baseline, configuration A of TUNIT's table 1; source: Liu et al., ICCV 2019.

It is TUNIT's joint step (methods/tunit.py) without E's own losses: D learns first, then G and the class encoder learn
from the updated D. As in TUNIT, the references are a permutation of the batch, so one forward pass gives the codes of
sources and references.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from tunit.config import Config, FunitConfig
from tunit.config.methods import METHODS
from tunit.data.batching.batches import Batch, Batches
from tunit.data.packing.packed import PackedPictures
from tunit.distributed.collectives import all_gather
from tunit.errors import DataError
from tunit.methods import losses
from tunit.methods.descent import backward, descent, frozen, mixed_precision
from tunit.methods.losses import Terms
from tunit.methods.method import Labels, Method, Phase
from tunit.methods.objectives import discriminator_loss
from tunit.methods.optimisers import make_rmsprop, set_rates_of_baseline
from tunit.methods.parts import Means, PartOfBatch, guidance_with_summed_style_gradients
from tunit.methods.state import Networks, Optimisers, TrainingState
from tunit.networks.ema import update_ema
from tunit.networks.funit_networks import ClassEncoder, FunitGenerator, PatchDiscriminator


def funit_step(
    state: TrainingState, batch: Batch, permutation: Tensor, phase: Phase, config: Config
) -> Terms:
    """Update `state` by one step on `batch`; returns the unweighted losses by name, on the device.

    Only the batch's second views, x+, are used; the preset makes them random crops. `phase.joint` is ignored, because
    no network trains alone. The key queue stays as it is. Other arguments are as for `tunit_step`. Raises DataError
    if a picture is unlabelled.
    """
    if batch.any_unlabelled:
        raise DataError(
            "a picture has no label, but funit learns only from labelled pictures: label it or leave it out"
        )
    networks, optimisers, means = state.networks, state.optimisers, Means()
    generator, discriminator = networks.generator, networks.discriminator
    assert isinstance(discriminator, PatchDiscriminator)
    x, y = batch.x_plus, batch.y
    with mixed_precision(x, config):
        with record_function("E"):
            s = guidance_with_summed_style_gradients(networks.guide, x).style
        with record_function("G"):
            part = PartOfBatch(x, y, s, permutation)
            part.redraw(generator)
        with record_function("D"), descent(optimisers.discriminator):
            real, fake = (x, part.y), (part.x_fake.detach(), part.y_ref)
            loss, terms = discriminator_loss(discriminator, *real, *fake, phase, config)
            backward(part.share * loss)
            means.add(terms, part.share)
        # The class encoder learns as a part of G.
        with record_function("G"), frozen(discriminator), descent(optimisers.generator, optimisers.guide):
            loss, terms = generator_loss(discriminator, part, config)
            backward(part.share * loss)
            means.add(terms, part.share)
    update_both_averages(networks, phase, config)
    state.step += 1
    return means.of_batch()


def update_both_averages(networks: Networks, phase: Phase, config: Config) -> None:
    """Update the EMAs of G and of the class encoder, which both start at `average_from` (TUNIT's E at step 0)."""
    decay = config.optimisers.average_decay if phase.average_generator else 0.0
    update_ema(networks.guide_average, networks.guide, decay)
    update_ema(networks.generator_average, networks.generator, decay)


def generator_loss(
    discriminator: PatchDiscriminator, part: PartOfBatch, config: Config
) -> tuple[Tensor, Terms]:
    """The loss of G and the class encoder, 0.5 (adv(fake) + adv(rec)) + 0.1 L1 + feature matching; its terms by name.

    The features of translations are matched with those of their references, the features of reconstructions with
    those of their sources.
    """
    weights, settings, x = config.losses, config.of(FunitConfig), part.x
    with torch.no_grad():
        real = losses.pooled_features(discriminator.features(x))
        of_references = all_gather(real)[part.references]
    features = discriminator.features(part.x_out)
    logit = discriminator.judge_features(features, torch.cat([part.y_ref, part.y]))
    fake = losses.generator_adversarial(logit[: len(x)])
    rec = losses.generator_adversarial(logit[len(x) :])
    l1 = losses.reconstruction(part.x_rec, x)
    matching = losses.feature_matching(features[: len(x)], of_references)
    matching = matching + losses.feature_matching(features[len(x) :], real)
    loss = (
        weights.adversarial_weight * settings.funit_adversarial_factor * (fake + rec)
        + weights.reconstruction_weight * l1
        + settings.feature_matching_weight * matching
    )
    return loss, {
        "generator/adversarial": fake.detach(),
        "generator/adversarial_reconstruction": rec.detach(),
        "generator/reconstruction": l1.detach(),
        "generator/feature_matching": matching.detach(),
    }


# ---- networks and optimisers ----


def _guide(config: Config) -> ClassEncoder:
    settings = config.networks
    return ClassEncoder(
        settings.initial_domains, width=settings.guide_width, style_width=settings.style_width
    )


def _generator(config: Config) -> FunitGenerator:
    settings = config.networks
    return FunitGenerator(
        config.data.image_size, width=settings.generator_width or None, style_width=settings.style_width
    )


def patch_discriminator(config: Config) -> PatchDiscriminator:
    """D, as the config describes it."""
    settings = config.networks
    return PatchDiscriminator(
        config.data.image_size, settings.initial_domains, width=settings.discriminator_width or None
    )


def rmsprop_for_all(networks: Networks, config: Config) -> Optimisers:
    """RMSprop for all networks. The class encoder, a part of G in FUNIT, has G's learning rate.

    RMSprop works on each parameter by itself, so two optimisers give the same as one for both networks.
    """
    settings = config.optimisers
    return Optimisers(
        make_rmsprop(networks.guide, settings.generator_rate, settings),
        make_rmsprop(networks.generator, settings.generator_rate, settings),
        make_rmsprop(networks.discriminator, settings.discriminator_rate, settings),
    )


def halves_of_generator(networks: Networks) -> Sequence[nn.Module]:
    """G's encoder and decoder. The class encoder is not included, because it takes little of the time and memory."""
    return [networks.generator.content_encoder, networks.generator.decoder]


def recomputed_parts(networks: Networks) -> Sequence[nn.Module]:
    """The halves of G, and D's pairs of blocks: they produce most of the activations that a step keeps."""
    assert isinstance(networks.discriminator, PatchDiscriminator)
    return [*halves_of_generator(networks), *networks.discriminator.pairs]


def _before_step(state: TrainingState, batches: Batches, pictures: PackedPictures, config: Config) -> None:
    """Set the learning rates of the next step."""
    set_rates_of_baseline(state.optimisers, state.step, config)


# Settings of TUNIT's E, of its losses, its views and its optimiser, which the class encoder does not use.
UNUSED = (
    *("head_std", "overclusters", "candidate_heads", "standardise", "normalise_style", "style_size"),
    *("mutual_information_weight", "marginal_balance", "overcluster_weight", "guide_style_weight"),
    *("joint_guide_factor", "labelled_guide_factor", "found_domains_weight"),
    *("generator_style_weight", "back_translation_weight", "temperature"),
    *("guide_rate", "guide_only_rate", "joint_guide_rate"),
    *("guide_warm_up", "guide_betas", "guide_weight_decay"),
    *("clustering_objective", "domains_from", "feature_cue"),
    *("neighbours", "neighbours_from", "neighbours_every"),
    *("guide_image_size", "whole_statistics", "queue_length", "both_views"),
)

FUNIT = Method(
    name="funit",
    guide=_guide,
    generator=_generator,
    discriminator=patch_discriminator,
    optimisers=rmsprop_for_all,
    step=funit_step,
    settings=METHODS["funit"],
    unused_settings=(*UNUSED, "classification_weight"),
    labels=Labels.ALL,
    trains_guide_first=False,
    learns_domains=False,
    processes=True,
    source="[FUNIT](https://arxiv.org/abs/1905.01723) (Liu et al., ICCV 2019)",
    compiled_parts=halves_of_generator,
    recomputed_parts=recomputed_parts,
    before_step=_before_step,
)

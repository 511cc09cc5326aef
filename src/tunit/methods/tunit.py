"""TUNIT: its networks, optimisers, and training step, for any mix of labelled and unlabelled pictures.

Within a step the reference batch x~ is a permutation of x, so E_S(x~) is E_S(x) permuted, D's real pictures are x
itself, and the content code and the translation that D learns from are those that G learns from: each forward pass is
taken once. How a step is taken by several processes, or by G and D in turns, is in methods/parts.py.

Source: Baek et al., Rethinking the truly unsupervised image-to-image translation, ICCV 2021; docs/fidelity.md.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from tunit.config import AUTO, Config
from tunit.data.batches import Batch, Batches
from tunit.data.packed import PackedPictures
from tunit.data.randomness import CounterStart
from tunit.methods import losses
from tunit.methods.candidates import choose_domain_head
from tunit.methods.descent import backward, descent, frozen, mixed_precision
from tunit.methods.game import Game
from tunit.methods.losses import Terms
from tunit.methods.method import Method, Phase
from tunit.methods.neighbourhood import look_for_neighbours, neighbours_at, new_neighbourhood
from tunit.methods.objectives import (
    domain_loss,
    reconstruction_loss,
    style_loss,
    temperature_of,
)
from tunit.methods.optimisers import make_adam, make_rmsprop, set_rates
from tunit.methods.parts import Means, Translations, guidance_of, keys_of, styles_of
from tunit.methods.state import Networks, Optimisers, TrainingState
from tunit.networks.discriminator import Discriminator
from tunit.networks.ema import update_ema
from tunit.networks.generator import Generator
from tunit.networks.guide import Guide
from tunit.networks.queue import push


def tunit_step(
    state: TrainingState, batch: Batch, permutation: Tensor, phase: Phase, config: Config
) -> Terms:
    """Update `state` by one step on `batch`; returns the unweighted losses by name, on the device.

    permutation: (B,) int64; x[permutation] are the references. Where several processes train together, `batch` holds
    the pictures of this one, and `permutation` is of all. Losses and R1 are in float32 in any precision.
    """
    networks, optimisers, weights = state.networks, state.optimisers, config.losses
    means, redrawn = Means(), Means()  # of the losses of D and of G
    with mixed_precision(batch.x, config):
        # 1. E learns domains and styles from two views of every picture.
        with record_function("E"), descent(optimisers.guide):
            keys = keys_of(networks.guide_average, batch.x_plus)
            view, view_plus = (guidance_of(networks.guide, each) for each in (batch.x, batch.x_plus))
            of_domains, terms = domain_loss(view, view_plus, batch, phase, weights)  # section 3.2
            of_styles, more = style_loss(view, keys, state.queue, batch, phase, config)  # equation 2
            backward(of_domains + of_styles)
            terms |= more
        if phase.joint:
            # 2. The updated E tells domain and style of every picture; G redraws it in its reference's and its own.
            with record_function("G"):
                guidance = guidance_of(networks.guide, batch.x)
                y = torch.where(batch.y >= 0, batch.y, guidance.logits.argmax(1))
                whole = y, guidance.style, permutation
                drawn = Translations(
                    networks.generator,
                    batch.x,
                    *whole,
                    config.run.micro_batch,
                    with_references=config.adversarial.adversarial_loss == "relativistic",
                )
            game = Game(state, len(y), config)
            # 3. D learns to tell real pictures of a domain from translations into it.
            with record_function("D"), descent(optimisers.discriminator):
                for part in drawn.parts:
                    loss, more = game.of_discriminator(part, phase)  # equation 3, R1
                    backward(part.share * loss)
                    means.add(more, part.share)
            judged = means.of_batch()
            game.learn(judged)
            # 4. G, and E a second time, learn from the updated D.
            learners = optimisers.generator, optimisers.guide
            with record_function("G"), frozen(networks.discriminator), descent(*learners):
                keys_ref = keys_of(networks.guide_average, batch.x)[permutation]
                styles = styles_of(networks.guide, drawn.detached_translations())
                contrast = losses.style_contrastive(  # equation 4
                    styles, keys_ref, state.queue, temperature_of(config)
                )
                backward(weights.generator_style_weight * contrast)
                for part in drawn.differentiable_parts():
                    adversarial, more = game.of_generator(part)  # equation 3
                    kept, others = reconstruction_loss(networks.guide_average, part, weights)  # equation 5
                    drawn.backward_part(part, adversarial, kept, weights)
                    redrawn.add(more | others, part.share)
                drawn.backward_into_guide()
            terms |= judged | redrawn.of_batch() | {"generator/style": contrast.detach()}
    # 5. Push the keys into the queue, and update the EMAs.
    state.queue = push(state.queue, keys)
    update_averages(networks, phase, config)
    state.step += 1
    return terms


def update_averages(networks: Networks, phase: Phase, config: Config) -> None:
    """Update the EMA of E, and in joint steps that of G: a copy of G until `average_from`."""
    decay = config.optimisers.average_decay
    update_ema(networks.guide_average, networks.guide, decay)
    if phase.joint:
        update_ema(networks.generator_average, networks.generator, decay if phase.average_generator else 0.0)


# ---- networks, optimisers, and what happens between steps ----


def _guide(config: Config) -> Guide:
    settings = config.networks
    return Guide(
        settings.domain_logits,
        width=settings.guide_width,
        style_width=settings.style_width,
        overclusters=settings.overclusters,
        candidate_heads=settings.candidate_heads,
        head_std=settings.head_std,
        standardise=settings.standardise,
        normalise_style=settings.normalise_style,
    )


def _generator(config: Config) -> Generator:
    settings = config.networks
    return Generator(
        config.data.image_size, width=settings.generator_width or None, style_width=settings.style_width
    )


def _discriminator(config: Config) -> Discriminator:
    settings = config.networks
    return Discriminator(
        config.data.image_size, settings.domain_logits, width=settings.discriminator_width or None
    )


def _optimisers(networks: Networks, config: Config) -> Optimisers:
    settings = config.optimisers
    return Optimisers(
        make_adam(networks.guide, settings),
        make_rmsprop(networks.generator, settings.generator_rate, settings),
        make_rmsprop(networks.discriminator, settings.discriminator_rate, settings),
    )


@torch.no_grad()
def fill_queue(state: TrainingState, batches: Batches, config: Config) -> None:
    """Fill the key queue of a new run with keys of real pictures, to have real negatives from the start."""
    length, size = len(state.queue), config.optimisers.batch_size
    guide = state.networks.guide_average
    before = {name: value.clone() for name, value in guide.named_buffers()}
    cursors: dict[str, int] = {}
    for i in range(-(-length // size)):
        batch = batches.draw(CounterStart.FIRST_KEYS + i, size, cursors)
        state.queue = push(state.queue, keys_of(guide, batch.x_plus))
    for name, value in guide.named_buffers():  # a pass in training mode changes batch-norm statistics
        value.copy_(before[name])


def _before_step(state: TrainingState, batches: Batches, pictures: PackedPictures, config: Config) -> None:
    """The rates for the step to come, and E's neighbours."""
    set_rates(state.optimisers, state.step, config)
    look_for_neighbours(state, pictures, config)


def _after_step(state: TrainingState, batches: Batches, pictures: PackedPictures, config: Config) -> None:
    """Once E has trained alone its domains are settled, unless labels tie the domain head to classes.

    Their number is found where it is wanted. Where E has learnt from neighbours, the domain head becomes what parts
    its codes best; else the best of several heads stays.
    """
    if state.step != config.schedule.guide_only_until or (pictures.labels >= 0).any():
        return
    # scikit-learn takes as long to import as PyTorch, and translating does not need it.
    from tunit.methods.settled import find_number, settle_domains

    if config.networks.domains == AUTO:
        find_number(state, pictures, config)
    elif config.clustering.neighbours:
        settle_domains(state, pictures, config)
    elif config.networks.candidate_heads:
        size = config.optimisers.guide_only_batch_size or config.optimisers.batch_size
        choose_domain_head(state, batches, size)


def _compiled_parts(networks: Networks) -> Sequence[nn.Module]:
    """Of E the trunk alone: what compiled code does not use has a gradient of zero instead of none, and with that E's
    second optimiser step would move E_C, which it must leave alone."""
    trunks = [guide.trunk for guide in (networks.guide, networks.guide_average) if isinstance(guide, Guide)]
    return [*trunks, networks.generator.content_encoder, networks.generator.decoder]


def _recomputed_parts(networks: Networks) -> Sequence[nn.Module]:
    generator, discriminator = networks.generator, networks.discriminator
    assert isinstance(discriminator, Discriminator)
    return [generator.content_encoder, generator.decoder, *discriminator.blocks]


TUNIT = Method(
    name="tunit",
    guide=_guide,
    generator=_generator,
    discriminator=_discriminator,
    optimisers=_optimisers,
    step=tunit_step,
    micro_batches=True,
    processes=True,
    chooses_domains=True,
    sharpens=True,
    in_release=True,
    compiled_parts=_compiled_parts,
    recomputed_parts=_recomputed_parts,
    own_state=new_neighbourhood,
    neighbours=neighbours_at,
    begin=fill_queue,
    before_step=_before_step,
    after_step=_after_step,
)

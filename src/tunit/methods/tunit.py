"""TUNIT: its networks, optimisers, and training step, for any mix of labelled and unlabelled pictures.

No forward pass is computed twice with the same weights, unless this is to save memory (micro-batches, activation
checkpointing). Within a step the reference batch x~ is a permutation of x: E_S(x~) is E_S(x) permuted, and D's real
pictures are x itself. D and G learn from the same content codes and translations. How several processes or
micro-batches share a step is in methods/parts.py.

Source: Baek et al., Rethinking the truly unsupervised image-to-image translation, ICCV 2021; docs/fidelity.md.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from tunit.config import AUTO, Config
from tunit.data.batching.batches import Batch, Batches
from tunit.data.batching.randomness import CounterStart
from tunit.data.packing.packed import PackedPictures
from tunit.methods import losses
from tunit.methods.candidates import install_best_head
from tunit.methods.descent import backward, descent, frozen, gradient_norm, mixed_precision
from tunit.methods.feature_cue import announced_features
from tunit.methods.findings import (
    found_domains,
    groups_pictures,
    keeps_domains,
    new_findings,
    note_domains,
)
from tunit.methods.game import Game
from tunit.methods.losses import Terms
from tunit.methods.method import Method, Phase
from tunit.methods.neighbourhood import (
    is_search_due,
    look_for_neighbours,
    measures_just_chosen,
    neighbours_at,
)
from tunit.methods.objectives import (
    back_translation_loss,
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

# In a joint step E learns twice: from its own losses, then from G's. These name the L2 norms of the two gradients.
OWN_GRADIENT, GRADIENT_FROM_G = "guide/gradient", "guide/gradient_from_generator"
LARGE_SET = 20_000  # a search for the neighbours of more pictures is announced, because it takes a while


def tunit_step(
    state: TrainingState, batch: Batch, permutation: Tensor, phase: Phase, config: Config
) -> Terms:
    """Update `state` by one step on `batch` (equation 6); returns the unweighted losses by name, on the device.

    permutation: (B,) int64; x[permutation] are the references. If several processes train together, `batch` holds
    this process's pictures, but `permutation` refers to the whole batch. Losses and R1 are in float32 in any
    precision, except that a bfloat16 run on an NVIDIA GPU may use TF32 in R1's convolutions (training/resources.py).
    """
    with mixed_precision(batch.x, config):
        keys, terms = guide_step(state, batch, phase, config)  # E: equations 1 and 2
        if phase.joint:  # D: equation 3, R1; then G and E: equations 3, 4, 5
            terms |= translation_step(state, batch, permutation, phase, config)
    state.queue = push(state.queue, keys)
    update_averages(state.networks, phase, config)
    state.step += 1
    return terms


def guide_step(state: TrainingState, batch: Batch, phase: Phase, config: Config) -> tuple[Tensor, Terms]:
    """E learns domains and styles from two views of every picture. Returns keys (B, style width) and losses."""
    guide = state.networks.guide
    with record_function("E"), descent(state.optimisers.guide):
        keys = keys_of(state.networks.guide_average, batch.x_plus)
        view = guidance_of(guide, batch.x)
        loss, terms = style_loss(view, keys, state.queue, batch, phase, config)  # equation 2
        # As long as E learns only styles, nothing needs its output for x+: the keys come from its EMA.
        if phase.learns_domains or batch.any_labelled:
            view_plus, found = guidance_of(guide, batch.x_plus), found_domains(state, batch, phase)
            of_domains, more = domain_loss(view, view_plus, batch, phase, config, found)  # equation 1
            loss, terms = of_domains + loss, more | terms
        backward(loss)
    if phase.joint:  # to compare with the gradient that comes from G
        terms[OWN_GRADIENT] = gradient_norm(guide)
    return keys, terms


def translation_step(
    state: TrainingState, batch: Batch, permutation: Tensor, phase: Phase, config: Config
) -> Terms:
    """G redraws every picture. D learns from the result; then G learns, and E learns again. Returns the losses."""
    networks, optimisers, weights = state.networks, state.optimisers, config.losses
    losses_of_d, losses_of_g = Means(), Means()
    # 1. The updated E gives each picture's domain and style. G redraws it in its reference's style and in its own.
    with record_function("G"):
        guidance = guidance_of(networks.guide, batch.x)
        y = torch.where(batch.y >= 0, batch.y, guidance.logits.argmax(1))
        translations = Translations(
            networks.generator, batch.x, y, guidance.style, permutation, config.run.micro_batch
        )
    game = Game(state, len(y), config)
    # 2. D learns to tell real pictures of a domain from translations into it.
    with record_function("D"), descent(optimisers.discriminator):
        for part in translations.parts:
            loss, more = game.of_discriminator(part, phase)  # equation 3, R1
            backward(part.share * loss)
            losses_of_d.add(more, part.share)
    terms = losses_of_d.of_batch()
    game.learn(terms)
    # 3. G learns from the updated D, and so does E, for the second time in this step.
    learners = optimisers.generator, optimisers.guide
    with record_function("G"), frozen(networks.discriminator), descent(*learners):
        keys_ref = keys_of(networks.guide_average, batch.x)[permutation]
        styles = styles_of(networks.guide, translations.detached())
        contrast = losses.style_contrastive(  # equation 4
            styles, keys_ref, state.queue, temperature_of(config)
        )
        backward(weights.generator_style_weight * contrast)
        for part in translations.differentiable_parts():
            adversarial, more = game.of_generator(part)  # equation 3
            reconstruction, others = reconstruction_loss(part, weights)  # equation 5
            back, of_back = back_translation_loss(networks.generator, part, weights)
            translations.backward_part(part, adversarial, reconstruction + back, weights)
            losses_of_g.add(more | others | of_back, part.share)
        translations.backward_into_guide()
    last = {"generator/style": contrast.detach(), GRADIENT_FROM_G: gradient_norm(networks.guide)}
    return terms | losses_of_g.of_batch() | last


def update_averages(networks: Networks, phase: Phase, config: Config) -> None:
    """Update the EMA of E and, in joint steps, the EMA of G, which is a copy of G until `average_from`."""
    decay = config.optimisers.average_decay
    update_ema(networks.guide_average, networks.guide, decay)
    if phase.joint:
        update_ema(networks.generator_average, networks.generator, decay if phase.average_generator else 0.0)


# ---- networks, optimisers, and what happens between steps ----


def _guide(config: Config) -> Guide:
    settings = config.networks
    return Guide(
        settings.initial_domains,
        image_size=settings.guide_image_size,
        width=settings.guide_width,
        style_width=settings.style_width,
        overclusters=settings.overclusters,
        candidate_heads=settings.candidate_heads,
        head_std=settings.head_std,
        standardise=settings.standardise,
        whole_statistics=settings.whole_statistics,
        normalise_style=settings.normalise_style,
        style_size=settings.style_size,
    )


def _generator(config: Config) -> Generator:
    settings = config.networks
    return Generator(
        config.data.image_size, width=settings.generator_width or None, style_width=settings.style_width
    )


def _discriminator(config: Config) -> Discriminator:
    settings = config.networks
    return Discriminator(
        config.data.image_size, settings.initial_domains, width=settings.discriminator_width or None
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
    """Fill the key queue of a new run with keys of real pictures, so that all negatives are real from the start."""
    length, size = len(state.queue), config.optimisers.batch_size
    guide = state.networks.guide_average
    before = {name: value.clone() for name, value in guide.named_buffers()}
    cursors: dict[str, int] = {}
    for i in range(-(-length // size)):
        batch = batches.draw(CounterStart.FIRST_KEYS + i, size, cursors)
        state.queue = push(state.queue, keys_of(guide, batch.x_plus))
    for name, value in guide.named_buffers():  # a pass in training mode changes batch-norm statistics
        value.copy_(before[name])


def _adopt(state: TrainingState, pictures: PackedPictures) -> None:
    """Fit the domain heads of a trained E to the labels."""
    from tunit.methods.final_domains import fit_to_labels  # imports scikit-learn, which takes long

    fit_to_labels(state, pictures)


def _before_step(state: TrainingState, batches: Batches, pictures: PackedPictures, config: Config) -> None:
    """Set the learning rates of the next step, and look for the pictures' neighbours if it is time to."""
    set_rates(state.optimisers, state.step, config)
    look_for_neighbours(state, pictures, config)


def _announce(state: TrainingState, pictures: PackedPictures, config: Config) -> str:
    """What comes with the next step and takes long, for the user; empty if nothing does."""
    number = len(pictures.names)
    last_alone = state.step + 1 == config.schedule.guide_only_until
    searches = is_search_due(state, pictures, config)
    groups = groups_pictures(config) and not pictures.any_labelled and config.networks.domains != 1
    divides = last_alone and groups
    said = [announced_features(state, config, searches=searches, divides=divides)]
    if number > LARGE_SET and searches:
        said.append(f"now {number:,} pictures get their neighbours: twice as many take four times as long")
    if last_alone and number > LARGE_SET and keeps_domains(config):
        said.append(f"after this step E looks at all {number:,} pictures, to note the domain of each")
    if divides:
        said.append(
            "after this step the domains are decided, which takes minutes if there are many pictures or domains"
        )
    return "; ".join(filter(None, said))


def _replaces_head(config: Config) -> bool:
    """Whether E's domain head is replaced after its last step alone, without labels."""
    return groups_pictures(config) or bool(config.networks.candidate_heads)


def _after_step(state: TrainingState, batches: Batches, pictures: PackedPictures, config: Config) -> None:
    """After E's last step alone, decide its final domains, unless labels define them.

    With `domains` auto, this includes their number. With a given number, the domain head is fitted to the best
    clustering if E has learnt from neighbours, or only styles; if not, the best candidate head replaces it, if E has
    candidate heads.
    """
    if state.step != config.schedule.guide_only_until or pictures.any_labelled:
        return
    if groups_pictures(config):
        # scikit-learn takes as long to import as PyTorch, and nothing else here needs it.
        from tunit.methods.final_domains import find_number, settle_domains

        settle = find_number if config.networks.domains == AUTO else settle_domains
        settle(state, pictures, config)
    elif config.networks.candidate_heads:
        size = config.optimisers.guide_only_batch_size or config.optimisers.batch_size
        install_best_head(state, batches, size)
    note_domains(state, pictures)


def _compiled_parts(networks: Networks) -> Sequence[nn.Module]:
    """G's halves, and E's trunk without its heads.

    Compiled code gives unused parameters a gradient of 0 instead of None. If the heads were compiled, E's second
    optimiser step would therefore change E_C (by weight decay and moments), which it must not.
    """
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
    finds_number_of_domains=True,
    takes_adversarial_settings=True,
    has_published_format=True,
    source="[TUNIT](https://arxiv.org/abs/2006.06500) (Baek et al., ICCV 2021)",
    compiled_parts=_compiled_parts,
    recomputed_parts=_recomputed_parts,
    own_state=new_findings,
    neighbours=neighbours_at,
    neighbours_by=measures_just_chosen,
    adopt=_adopt,
    begin=fill_queue,
    announce=_announce,
    replaces_head=_replaces_head,
    before_step=_before_step,
    after_step=_after_step,
)

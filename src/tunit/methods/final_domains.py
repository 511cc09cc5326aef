"""Decide the final domains after E has trained alone, before G and D train: their number, and the pictures in each.

While K-hat is not known, E's domain head has `most_domains` outputs: too many on purpose. After E has trained alone,
its style codes are clustered to find the number (tunit.clustering.number). The groups by E's heads and by k-means are
then combined, and the best division is chosen on graphs of neighbours (tunit.clustering.partition). New domain
heads are fitted to it, on the features that are the input of all heads: one for E and one for its EMA, because their
features differ as long as E learns fast. The aim is that at the first joint step no domain is empty, and no kind is
divided between two domains.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from tunit.clustering.choice import Choice, read_choice
from tunit.clustering.cues import Integers
from tunit.clustering.graph import GRAPH_NEIGHBOURS
from tunit.clustering.maps import more_certain
from tunit.clustering.measures import choose_measures
from tunit.clustering.neighbours import find_neighbours
from tunit.clustering.number import choose_number
from tunit.clustering.partition import (
    REPEATS,
    agreed_groups,
    best_partition,
    has_learnt,
    k_means_in_pieces,
    repeated_k_means,
)
from tunit.clustering.refinement import best_refined
from tunit.clustering.spectral import spectral_divisions
from tunit.config import Config
from tunit.data.batching.randomness import counter_of_step, seed_of, torch_generator
from tunit.data.packing.packed import PackedPictures
from tunit.distributed.collectives import broadcast_from_rank_zero, copy_from_rank_zero, tensor_from_rank_zero
from tunit.distributed.process_group import on_rank_zero
from tunit.files.reading import Record, parse_json
from tunit.methods.feature_cue import all_cues
from tunit.methods.findings import ENCODED, findings_of, learns_only_styles
from tunit.methods.fitted_heads import Head, fitted_heads
from tunit.methods.inference import (
    averaged_over_views,
    evenly_spread,
    for_whole_pictures,
    in_fitting_batches,
    some_whole_pictures,
)
from tunit.methods.neighbourhood import MOST_GROUPS
from tunit.methods.numbering import numbers_by_agreement, reorder_last_layer
from tunit.methods.state import TrainingState
from tunit.networks.guide import Guide

MOST_PICTURES = 5_000  # at most this many pictures are used, evenly spread over the set
# How often groups are joined from pieces: which pieces end together depends on the random starts.
JOININGS = 3
# An upper limit of the mean probability that a head fitted to groups gives to the likeliest domain. Groups are
# guesses, and a head that is sure of them leaves E no gradient by which it could correct them.
CONFIDENCE = 0.75


@dataclass(frozen=True)
class GuideOutput:
    """The output of E's EMA for N pictures, averaged over views of each, and their cues, on the CPU."""

    rows: Integers  # (N,): which pictures these are
    styles: Tensor  # (N, style width), of length 1
    features: Tensor  # (N, features), the input of all heads
    heads: Tensor  # (1 + candidates, N, domains): probabilities
    heads_learnt: bool  # whether E has trained its heads alone, without labels
    cues: dict[str, Tensor]  # by name, (N, at most 64): descriptors that E's training does not change


def find_number(state: TrainingState, pictures: PackedPictures, config: Config) -> None:
    """Choose K-hat, and give E, its EMA and D last layers of that size; `state.choice` gets the reasons.

    With several processes rank 0 chooses, and all take its choice.
    """
    seed = seed_of(config.run.seed, "domains", 0) % 2**32

    def found() -> tuple[Choice, list[Head]]:
        """The choice, and the new domain heads; rank 0 calls this."""
        outputs = outputs_of(state, pictures, config)
        cues = {name: cue.numpy() for name, cue in outputs.cues.items()}
        choice, groups = choose_number(outputs.styles.numpy(), config.networks.most_domains, seed, cues)
        choice = replace(choice, step=state.step)
        if choice.domains > 1:
            groups = partition(outputs, choice.domains, groups, state, pictures, seed)
            sizes = np.bincount(groups)
            said = (
                f"at that time the largest domain had {sizes.max():,} pictures, the smallest {sizes.min():,}"
            )
            choice = replace(choice, reasons=(*choice.reasons, said))
        return choice, fitted_heads(
            features_of_both(state, pictures, outputs.rows), groups, choice.domains, CONFIDENCE
        )

    result = on_rank_zero(found)
    choice = _shared_choice(result[0] if result else None)
    heads = _shared_heads(result[1] if result else None, state, choice.domains)
    state.set_domains(choice.domains, seed)
    # New weights may differ on machines of different kinds.
    copy_from_rank_zero([state.networks.discriminator])
    set_domain_heads(state, heads)
    state.choice = choice


def settle_domains(state: TrainingState, pictures: PackedPictures, config: Config) -> None:
    """Replace the domain heads by heads that are fitted to the best clustering of the pictures (see `partition`).

    The new domains are numbered like E's former ones, because D may have learnt these in another run (--from).
    """
    seed = seed_of(config.run.seed, "domains", 0) % 2**32
    domains = config.networks.domains
    if domains == 1 or len(pictures.names) <= domains:
        return

    def fitted() -> list[Head]:
        """The new domain heads; rank 0 calls this."""
        outputs = outputs_of(state, pictures, config)
        groups = partition(outputs, domains, None, state, pictures, seed)
        groups = numbers_by_agreement(groups, outputs.heads[0].argmax(1).numpy(), domains)[groups]
        return fitted_heads(features_of_both(state, pictures, outputs.rows), groups, domains, CONFIDENCE)

    set_domain_heads(state, _shared_heads(on_rank_zero(fitted), state, domains))


def partition(
    outputs: GuideOutput,
    number: int,
    given: Integers | None,
    state: TrainingState,
    pictures: PackedPictures,
    seed: int,
) -> Integers:
    """The best division (N,) of the pictures into `number` groups (see tunit.clustering.partition).

    Several divisions are compared: the groups on which E's heads and repeated k-means on E's codes and features
    agree; those on which k-means into several times as many groups agrees, JOININGS times with other random starts;
    for each cue, one division of either sort, by k-means on this cue alone; those by the graph's eigenvectors
    (tunit.clustering.spectral); and the groups that are `given`, if any.
    The best one is chosen on two graphs: that of the neighbours from which E has learnt, if there are any and
    `outputs` has all pictures; and that of neighbours by E's present codes, together with the cues that separate
    groups best (`measures_of`). If E has learnt only styles, and what the first graph teaches, only the second
    counts. The division is then refined on these graphs, unless another one is clearly better after that
    (tunit.clustering.refinement). If maps of the pictures agree on their groups as much as these divisions do, the
    maps' groups are taken (tunit.clustering.maps). Groups are numbered in no order.
    """
    findings = findings_of(state)
    learnt_from = findings.neighbours if findings else None
    measures = measures_of(outputs, number)
    own = find_neighbours(measures, min(GRAPH_NEIGHBOURS, len(outputs.rows) - 1))
    taught = learnt_from if len(outputs.rows) == len(pictures.names) else None
    both = outputs.styles.numpy(), outputs.features.numpy()
    voters = [groups for vectors in both for groups in repeated_k_means(vectors, number, seed)]
    if outputs.heads_learnt:
        voters = [probabilities.argmax(1).numpy() for probabilities in outputs.heads] + voters
    divisions = {} if given is None else {"given": given}
    divisions["agreed"] = agreed_groups(voters, number)
    for i in range(JOININGS):
        starts = seed + i * REPEATS
        pieces = [groups for vectors in both for groups in k_means_in_pieces(vectors, number, starts)]
        divisions[f"joined {i + 1}"] = agreed_groups(pieces, number)
    by_cues = {}
    for name, cue in outputs.cues.items():
        by_cues[name] = agreed_groups(repeated_k_means(cue.numpy(), number, seed), number)
        by_cues[f"{name} joined"] = agreed_groups(k_means_in_pieces(cue.numpy(), number, seed), number)
    divisions |= by_cues | spectral_divisions(measures, number, seed)
    graphs = [own]
    best = best_partition(graphs, divisions)[0]
    if taught is not None and (outputs.heads_learnt or not has_learnt(taught, divisions, best)):
        graphs = [taught, own]
        best = best_partition(graphs, divisions)[0]
    compared = {name: groups for name, groups in divisions.items() if name == best or name not in by_cues}
    found, refined = best_refined(graphs, compared, best, both, seed)
    return more_certain(found, refined, measures, number, seed)


def measures_of(outputs: GuideOutput, number: int) -> list[Tensor]:
    """By which vectors pictures are neighbours in the final graph: E's codes, and cues that help them, if any.

    On photographs, codes and cues together separate groups far better than either alone. number: how many groups.
    """
    if not outputs.cues:
        return [outputs.styles]
    chosen, _ = choose_measures(outputs.styles, outputs.cues, (min(number, MOST_GROUPS),))
    return [outputs.styles, *(outputs.cues[name] for name in chosen if name != "codes")]


def fit_to_labels(state: TrainingState, pictures: PackedPictures) -> None:
    """Fit the domain heads of E and its EMA to the labelled pictures, if every domain has such a picture.

    A trained E has domains of its own, in another order than the labels. To learn the new order in training steps
    takes long, and meanwhile the mutual information holds on to the old one. D's last layer is put in the new order.
    """
    labelled, domains = np.flatnonzero(pictures.labels >= 0), state.networks.guide_average.domains
    if domains == 1 or len(np.unique(pictures.labels[labelled])) < domains:
        return
    # Some pictures of all labels, and at least one of each label.
    firsts = labelled[np.unique(pictures.labels[labelled], return_index=True)[1]]
    rows = np.union1d(labelled[evenly_spread(len(labelled), MOST_PICTURES)], firsts)
    labels = pictures.labels[rows]
    features = features_of_both(state, pictures, rows)
    weight, bias = (values.detach().cpu() for values in both_guides(state)[1].domain_head.parameters())
    before = (features[1] @ weight.T + bias).argmax(1).numpy()
    reorder_last_layer(state.networks.discriminator, numbers_by_agreement(labels, before, domains))
    set_domain_heads(state, fitted_heads(features, labels, domains))


def features_of_both(state: TrainingState, pictures: PackedPictures, rows: Integers) -> list[Tensor]:
    """What the heads of E, and of its EMA, get for these pictures: (rows, features) each, on the CPU."""
    return [features_of(guide, state, pictures, rows).cpu() for guide in both_guides(state)]


def both_guides(state: TrainingState) -> tuple[Guide, Guide]:
    """E and its EMA."""
    return cast(Guide, state.networks.guide), cast(Guide, state.networks.guide_average)


@torch.no_grad()
def set_domain_heads(state: TrainingState, heads: Sequence[Head]) -> None:
    """Set the weights of the domain head and of all candidates, in E and its EMA; drop the optimiser's moments."""
    for own, (weight, bias) in zip(both_guides(state), heads, strict=True):
        for head in (own.domain_head, *own.candidate_heads):
            cast(Tensor, head.weight).copy_(weight)
            cast(Tensor, head.bias).copy_(bias)
            for parameter in head.parameters():
                state.optimisers.guide.state.pop(parameter, None)


@torch.inference_mode()
def features_of(guide: Guide, state: TrainingState, pictures: PackedPictures, rows: Integers) -> Tensor:
    """(rows, features): what the heads of E or its EMA get for these whole pictures, on E's device."""
    device = state.queue.device
    with for_whole_pictures(guide, some_whole_pictures(pictures.images, device)):
        batches = in_fitting_batches(pictures.images, device, ENCODED, rows)
        return torch.cat([guide.trunk_features(x).float() for x in batches])


@torch.inference_mode()
def outputs_of(state: TrainingState, pictures: PackedPictures, config: Config) -> GuideOutput:
    """The output of E's EMA, in evaluation mode, for at most MOST_PICTURES, evenly spread."""
    rows = evenly_spread(len(pictures.names), MOST_PICTURES)
    guide = cast(Guide, state.networks.guide_average)
    generator = torch_generator(
        config.run.seed, "averaged views", counter_of_step(state.step, state.rollbacks)
    )
    batches = in_fitting_batches(pictures.images, state.queue.device, ENCODED, rows)
    features, styles, heads = averaged_over_views(guide, batches, config.augment, generator)
    learnt, cues = not learns_only_styles(config), all_cues(state, pictures, config, rows)
    return GuideOutput(rows, styles, features, heads, learnt, cues)


def _shared_choice(choice: Choice | None) -> Choice:
    """The choice of rank 0, on every rank. choice: None on the other ranks."""
    text = json.dumps(choice.record()).encode() if choice else b""
    length = broadcast_from_rank_zero(len(text))
    data = torch.tensor(list(text) if choice else [0] * length, dtype=torch.uint8)
    text = bytes(tensor_from_rank_zero(data).tolist())
    return read_choice(Record(parse_json(text.decode())))


def _shared_heads(heads: list[Head] | None, state: TrainingState, domains: int) -> list[Head]:
    """The heads of rank 0, on every rank. heads: None on the other ranks."""
    empty = [
        (torch.zeros(domains, guide.feature_width), torch.zeros(domains)) for guide in both_guides(state)
    ]
    return [(tensor_from_rank_zero(weight), tensor_from_rank_zero(bias)) for weight, bias in heads or empty]

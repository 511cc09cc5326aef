"""Neighbours of pictures: while E trains alone, the second view of an unlabelled picture may be that of a neighbour.

Neighbours are looked for once or at intervals; the search itself is in tunit.clustering.neighbours.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from tunit.clustering.neighbours import NUMBERS, find_neighbours
from tunit.config import AUTO, Config
from tunit.config.fields import check_chosen
from tunit.data.packing.packed import PackedPictures
from tunit.distributed.collectives import tensor_from_rank_zero
from tunit.distributed.process_group import on_rank_zero
from tunit.machine import uncompiled
from tunit.methods.feature_cue import all_cues
from tunit.methods.findings import ENCODED, Findings, findings_of
from tunit.methods.inference import evaluating, guidance_over, in_fitting_batches
from tunit.methods.state import TrainingState

# Measures of similarity are compared by how well they separate the pictures into as many groups as there are domains,
# but at most MOST_GROUPS. With more groups, a measure would win that finds only series of photographs (of the same
# thing, taken one after the other) instead of kinds. While the number of domains is not known, all of NUMBERS count.
MOST_GROUPS = 10


def numbers_of_groups(config: Config) -> tuple[int, ...]:
    """Into how many groups measures of similarity should separate the pictures: one number, or several."""
    domains = config.networks.domains
    return NUMBERS if domains == AUTO else (min(domains, MOST_GROUPS),)


def neighbours_at(state: TrainingState, config: Config) -> Tensor | None:
    """The neighbours (N, k) whose views the next step uses as second views; None if x+ is a view of x itself.

    Before the first search it is None, too, so that no picture is read as its own neighbour. Labelled pictures keep
    views of themselves (`Batches`).
    """
    alone, findings = state.step < config.schedule.guide_only_until, findings_of(state)
    return findings.neighbours if alone and findings else None


def is_search_due(state: TrainingState, pictures: PackedPictures, config: Config) -> bool:
    """Whether there is a search for neighbours before the next step.

    If all pictures have labels there is no search, because only unlabelled ones use their neighbours (`Batches`).
    """
    settings, alone = config.clustering, config.schedule.guide_only_until
    check_chosen(settings, "neighbours_from")
    # At the latest before the last step of E alone, even if the share is 1 or is rounded up to all steps: after that
    # step, no search is due.
    first = min(round(settings.neighbours_from * alone), alone - 1)
    since = state.step - first
    again = since % settings.neighbours_every == 0 if settings.neighbours_every else since == 0
    due = since >= 0 and again and state.step < alone
    findings = findings_of(state)
    wanted = findings is not None and findings.table is not None
    return wanted and due and not pictures.all_labelled


def look_for_neighbours(state: TrainingState, pictures: PackedPictures, config: Config) -> None:
    """If a search is due before the next step, find new neighbours by the measures that separate groups best.

    With several processes rank 0 searches, and all take its neighbours, because others may round differently.
    """
    found = findings_of(state)
    if found:
        found.measures = []
    if found and found.table is not None and is_search_due(state, pictures, config):
        table = on_rank_zero(partial(_search, found, found.table.shape[1], state, pictures, config))
        # A new tensor, because the batch of a step before may be drawn again with the old one.
        found.table = tensor_from_rank_zero(found.table if table is None else table)


def measures_just_chosen(state: TrainingState) -> list[str]:
    """The measures by which neighbours were searched before the next step; empty without a search, or on other ranks
    than 0.
    """
    findings = findings_of(state)
    return findings.measures if findings else []


def _search(
    found: Findings, k: int, state: TrainingState, pictures: PackedPictures, config: Config
) -> Tensor:
    """The new table (N, k) of neighbours, on the CPU; `found` gets the cues and the measures that were chosen."""
    # scikit-learn and scipy take as long to import as PyTorch, and translating needs neither.
    from tunit.clustering.measures import choose_measures

    if not found.cues:
        found.cues = all_cues(state, pictures, config)
    device = state.queue.device
    guide = state.networks.guide_average
    with evaluating(guide), uncompiled():
        said = guidance_over(guide, in_fitting_batches(pictures.images, device, ENCODED))
    codes = F.normalize(said.style, dim=1).to(device)
    measures = {name: cue.to(device) for name, cue in found.cues.items()}
    found.measures, _ = choose_measures(codes, measures, numbers_of_groups(config))
    measures["codes"] = codes
    return find_neighbours([measures[name] for name in found.measures], k).cpu()

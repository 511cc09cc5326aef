"""Every figure of one model on held-back pictures: its domains, and the quality of its translations.

If a figure cannot be computed (for a class of one picture, or with too few neighbours), a sentence in `notes` says
so; all other figures are still computed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.clustering.cues import Integers
from tunit.evaluation import clusters
from tunit.evaluation.against_trivial import compare_with_trivial
from tunit.evaluation.comparison import compare_group, compare_sets, mean_of
from tunit.evaluation.intervals import mean_figure
from tunit.evaluation.protocol import (
    Pairing,
    class_pairings,
    probabilities_and_styles,
    random_pairing,
    translated,
)
from tunit.evaluation.result import NO_FEATURES, Evaluation, Labelled
from tunit.evaluation.trivial import BASELINES
from tunit.evaluation.truth import ERROR_RATIO, EXACT_ERROR, TruthTest, translation_error
from tunit.features.feature_networks import FeatureNetwork
from tunit.features.of_pictures import features_of
from tunit.methods.model_file import Model
from tunit.methods.registry import method_of
from tunit.printing import numbered

MOST_TRANSLATIONS = 10_000  # of all classes together, from which the overall figures are computed
ALL = -1  # the group of all pictures, if there are not two groups
Say = Callable[[str], None]


def evaluate_model(
    model: Model,
    held_back: Labelled,
    train: Labelled,
    network: FeatureNetwork | None,
    *,
    seed: int = 0,
    most_sources: int = 0,
    truth: TruthTest | None = None,
    translates: bool = True,
    beside_trivial: bool = True,
    cache: Path | None = None,
    say: Say = lambda text: None,
) -> Evaluation:
    """Measure `model` on held-back pictures, compared with the training pictures, both at the model's size.

    Pictures are translated between groups. If `held_back` has two classes or more, the groups are its classes, as in
    the paper's protocol; otherwise they are the domains that the model finds. If there is only one group, pairs are
    drawn from all pictures.

    network: None leaves out the figures that need features. most_sources: how many pictures are translated into each
    group; 0 for all. truth: exact translations, which exist only for drawn creatures. translates: False measures only
    the clustering. beside_trivial: compare the domains with trivial baselines. cache: folder for features of real
    pictures.
    """
    result = Evaluation(features=network.name if network else NO_FEATURES)
    say(f"sorting {numbered(len(held_back.images), 'picture')}")
    with result.timed("domains"):
        probabilities, styles = probabilities_and_styles(model, held_back.images)
        confidences, found = (values.numpy() for values in probabilities.max(1))
    if truth is not None and translates:
        _against_truth(result, model, truth)
    if method_of(model.config).learns_domains:
        _clustering(result, held_back, found, confidences, styles.numpy(), model.settings.domains)
        if beside_trivial:
            _beside_trivial(result, held_back, found, model.settings.domains, seed, say)
    else:
        result.notes.append("domains: this method learns none, so only translations are measured")
    if not translates:
        return result
    groups, names, real_groups = _groups(result, model, held_back, train, found)
    pairings = _pairings(result, groups, seed, most_sources)
    if not pairings:
        return result
    real = _real_features(result, train, network, cache, say)
    pools = _Pools()
    kept = _kept([len(pairing) for pairing in pairings.values()], seed)
    for (k, pairing), rows in zip(pairings.items(), kept, strict=True):
        name = names[k] if k != ALL else "the styles of others"
        say(f"translating {numbered(len(pairing), 'picture')} into {name}")
        used = network if real is not None else None
        fake = _translate_group(result, name, model, used, held_back, pairing, styles, found, pools)
        if fake is not None:
            pools.features.append(fake[rows])
        if real is not None and fake is not None and k != ALL:
            _compare(result, name, real[torch.from_numpy(np.flatnonzero(real_groups == k))], fake, seed)
    with result.timed("comparison"):
        _summarise(result, real, pools, seed)
    return result


def _kept(numbers: list[int], seed: int) -> list[Tensor]:
    """Which translations count for the figures of all together, (number,) booleans for each group of translations.

    They are at most MOST_TRANSLATIONS, at random. They are chosen before translating, because the features of all
    translations of a large set do not fit the memory.
    """
    kept = torch.zeros(sum(numbers), dtype=torch.bool)
    kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed))[:MOST_TRANSLATIONS]] = True
    return list(torch.split(kept, numbers))


def _against_truth(result: Evaluation, model: Model, truth: TruthTest) -> None:
    if not truth.pairs:
        result.notes.append("exact truth: there is a single creature, and no other to take a style from")
        return
    with result.timed("exact truth"):
        error = translation_error(model, truth)
    result.figures[EXACT_ERROR] = error.translation
    if error.naive:
        result.figures[ERROR_RATIO] = error.ratio
    else:
        result.notes.append(
            "exact truth: no ratio, because the sources or the references are the exact answers"
        )


def _beside_trivial(
    result: Evaluation, held_back: Labelled, found: Integers, number: int, seed: int, say: Say
) -> None:
    say(f"grouping the same pictures by trivial baselines: k-means on each of {', '.join(BASELINES)}")
    with result.timed("trivial baselines"):
        result.trivial = compare_with_trivial(held_back.images, found, held_back.classes, number, seed)


def _real_features(
    result: Evaluation, train: Labelled, network: FeatureNetwork | None, cache: Path | None, say: Say
) -> Tensor | None:
    """Features of the real pictures; None if there is no network, or if they cannot be computed."""
    if network is None:
        return None
    say(f"features of {numbered(len(train.images), 'real picture')} by {network.name}")
    with result.timed("real features"), result.errors_as_notes("features"):
        return features_of(train.images, network, cache=cache)
    return None  # `errors_as_notes` has turned a DataError into a note


def _groups(
    result: Evaluation, model: Model, held_back: Labelled, train: Labelled, found: Integers
) -> tuple[Integers, list[str], Integers]:
    """The groups between which pictures are translated: the group of each held-back picture, the names of the groups,
    and the group of each real picture.
    """
    if held_back.has_several_classes:
        return held_back.classes, held_back.names, train.classes
    result.grouped_by = "domain"
    known = "only one class is known" if (held_back.classes >= 0).any() else "no classes are known"
    result.notes.append(f"{known}: figures per group are those of the domains found")
    with result.timed("domains"):
        real_groups = probabilities_and_styles(model, train.images)[0].argmax(1).numpy()
    return found, [f"domain {k}" for k in range(model.settings.domains)], real_groups


def _pairings(result: Evaluation, groups: Integers, seed: int, most_sources: int) -> dict[int, Pairing]:
    """The pairs to translate into each group; random pairs if all pictures are of one."""
    found = class_pairings(groups, seed, most_sources)
    if found:
        return found
    number = len(groups)
    if number < 2:
        result.notes.append("translations: there is a single picture, and no other to take a style from")
        return {}
    result.notes.append("all pictures are of one group: translations are of random pairs")
    return {ALL: random_pairing(number, min(most_sources or number, number), seed)}


@dataclass
class _Pools:
    """What was measured for each translation, collected over all groups."""

    features: list[Tensor] = field(default_factory=list)  # only of the translations that `_kept` chooses
    same_domain: list[NDArray[np.bool_]] = field(default_factory=list)
    cosine: list[NDArray[np.floating]] = field(default_factory=list)
    cycle: list[NDArray[np.floating]] = field(default_factory=list)


def _clustering(
    result: Evaluation,
    held_back: Labelled,
    found: Integers,
    confidences: NDArray[np.floating],
    styles: NDArray[np.floating],
    number: int,
) -> None:
    """Figures of the domains alone, and compared with the classes if these are known."""
    sizes = clusters.domain_sizes(found, number)
    result.domain_sizes = sizes.sizes
    result.figures["confidence"] = mean_figure(confidences)
    result.figures["entropy of the domains"] = sizes.entropy
    result.figures["effective number of domains"] = sizes.effective
    ioi = clusters.inter_over_intra(styles, found)
    if ioi is None:
        result.notes.append("IOI: it needs two domains, and two different pictures in one domain")
    else:
        result.figures["IOI"] = ioi
    if not held_back.has_several_classes:
        return
    rows = np.flatnonzero(held_back.classes >= 0)
    domains, classes = found[rows], held_back.classes[rows]
    matrix = clusters.confusion_matrix(domains, classes, number)
    result.confusion, result.class_names = matrix.tolist(), held_back.names
    result.figures["accuracy"] = mean_figure(clusters.rightly_matched(domains, classes))
    result.figures["purity"] = clusters.purity(domains, classes)
    result.figures["NMI"] = clusters.normalised_mutual_information(domains, classes)
    result.figures["ARI"] = clusters.adjusted_rand_index(domains, classes)
    known = len(np.unique(classes))
    if number < known:
        result.notes.append(
            f"accuracy: {numbered(number, 'domain')} cannot match {known} classes one to one, so it stays below 1; "
            "see purity"
        )
    elif number > known:
        left = number - known
        has = (
            "has no class of its own, so it counts"
            if left == 1
            else "have no class of their own, so they count"
        )
        result.notes.append(f"accuracy: {left} of {number} domains {has} as wrong; see purity")


def _translate_group(
    result: Evaluation,
    name: str,
    model: Model,
    network: FeatureNetwork | None,
    held_back: Labelled,
    pairing: Pairing,
    styles: Tensor,
    found: Integers,
    pools: _Pools,
) -> Tensor | None:
    """Features of the translations into the group `name`; None without a network, or if some cannot be computed.
    Other values are added to `pools`.
    """
    parts: list[Tensor] = []
    with result.timed("translation"):
        batches = translated(model, held_back.images, pairing, styles, cycle=True)
    while True:
        with result.timed("translation"):
            batch = next(batches, None)
        if batch is None:
            break
        references = pairing.references[batch.rows]
        pools.same_domain.append(batch.domains == found[references])
        cosine = torch.cosine_similarity(batch.styles, styles[references])
        pools.cosine.append(cosine.numpy())
        pools.cycle.append(batch.cycle_error)
        if network is not None:
            part = None
            with (
                result.timed("features of translations"),
                result.errors_as_notes(f"features of translations into {name}"),
            ):
                part = features_of(batch.pictures, network)
                parts.append(part)
            if part is None:
                network = None  # the group has no figures of features, and the reason is noted once
    return torch.cat(parts) if network is not None and parts else None


def _compare(result: Evaluation, name: str, real: Tensor, fake: Tensor, seed: int) -> None:
    """Add the figures of the group `name`, from the features of its real pictures and of the translations into it."""
    with result.timed("comparison"):
        compared = compare_group(real, fake, seed=seed)
    result.groups[name] = compared.figures
    result.notes += [f"{name}: {note}" for note in compared.notes]


def _summarise(result: Evaluation, real: Tensor | None, pools: _Pools, seed: int) -> None:
    """Means over the groups, as in the paper, and figures of all translations together."""
    for name, title in (("FID", "mFID"), ("density", "mean density"), ("coverage", "mean coverage")):
        of_groups = [figures[name] for figures in result.groups.values() if name in figures]
        if of_groups:
            result.figures[title] = mean_of(of_groups)
    if result.domain_sizes:  # E assigns domains
        result.figures["reference's domain reached"] = mean_figure(np.concatenate(pools.same_domain))
    result.figures["cosine to the reference's style"] = mean_figure(np.concatenate(pools.cosine))
    result.figures["cycle error (grey levels)"] = mean_figure(np.concatenate(pools.cycle))
    if real is None or not pools.features:
        return
    fake = torch.cat(pools.features)
    with result.errors_as_notes("all translations together"):
        compared = compare_sets(real, fake, seed=seed)
        result.figures |= {f"{name} of all": figure for name, figure in compared.figures.items()}
        result.notes += [f"all translations together: {note}" for note in compared.notes]

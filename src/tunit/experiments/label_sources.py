"""Labels for the trainings of a table: the true ones, a few of them, or groups by k-means or an earlier training."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tunit.clustering.partition import k_means
from tunit.config import Config
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import pack_settings
from tunit.errors import ConfigError
from tunit.evaluation.protocol import probabilities_and_styles
from tunit.experiments.experiment import CLASSES, FEATURES, FIRST, IMAGES, NONE, Experiment
from tunit.experiments.plan import Plan
from tunit.experiments.split import CLASS, Split, path_of_names
from tunit.features.feature_networks import load_feature_network
from tunit.features.of_pictures import features_of
from tunit.machine import choose_device
from tunit.methods.model_file import load_model

RESTARTS = 10  # of k-means, as scikit-learn recommends


def labels_for(
    row: Experiment,
    plan: Plan,
    split: Split,
    table: Path,
    cache: Path,
    config: Config,
    first: Path | None,
) -> dict[str, str] | None:
    """picture -> label for the training pictures of `split`; None for a training without labels.

    row: says where labels come from, and how many there are. plan: names the feature network of k-means. table: a CSV
    of the training pictures. cache: the folder in which they are packed. config: the training's; it says how pictures
    become squares, and the number of different labels. first: the run whose domains become labels.
    """
    kind, clusters, seed = row.labels, config.networks.domains, config.run.seed
    if kind == NONE:
        return None
    if kind == CLASSES:
        few = few_of(split, row.labelled_share, seed, row.labelled_of_class)
        return few if row.few_labels else dict(split.train)
    squares = replace(pack_settings(config), labels="csv", label_column=CLASS, keep_duplicates=True)
    packed, device = pack_pictures(table, cache, squares), choose_device(config.run.device)
    images = np.asarray(packed.images)
    if kind == IMAGES:
        vectors = images.reshape(len(images), -1) / np.float32(255)
        found = k_means(vectors, clusters, seed, RESTARTS).labels_
    elif kind == FEATURES:
        network = load_feature_network(
            plan.features_for_k_means,
            preprocessing=plan.preprocessing,
            device=device,
            trust=plan.trust_features,
        )
        vectors = features_of(images, network, cache=plan.feature_cache).numpy()
        found = k_means(vectors, clusters, seed, RESTARTS).labels_
    elif kind == FIRST and first is not None:
        found = probabilities_and_styles(load_model(first, device), images)[0].argmax(1).numpy()
    else:
        raise ConfigError(f"there are no labels from {kind!r}: take one of the sources in the tables")
    paths = path_of_names(table)
    return {paths[name]: f"cluster-{k:04d}" for name, k in zip(packed.names, found.tolist(), strict=True)}


def few_of(split: Split, share: float, seed: int, of_class: int = 0) -> dict[str, str]:
    """True labels by path: of each class `of_class` pictures at random or, if that is 0, a share (at least one)."""
    rng = np.random.default_rng(seed)
    kept: dict[str, str] = {}
    for name in split.classes:
        members = [path for path, of in split.train if of == name]
        number = of_class or max(1, round(share * len(members)))
        for i in rng.permutation(len(members))[:number]:
            kept[members[i]] = name
    return kept


def labelled_share(labels: dict[str, str], split: Split) -> float:
    """The share of training pictures that have a label."""
    return sum(path in labels for path, _ in split.train) / len(split.train)

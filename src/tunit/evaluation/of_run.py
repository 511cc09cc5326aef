"""Evaluate a run folder on held-back pictures in one call, for `tunit evaluate` and the experiments."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tunit.data.bounds import MAX_PIXELS
from tunit.data.layouts import Part
from tunit.data.pack_settings import PackSettings
from tunit.destination import check_file, workplace
from tunit.evaluation.download import UnreachableError
from tunit.evaluation.evaluate import Say, evaluate_model
from tunit.evaluation.feature_networks import DEFAULT, FeatureNetwork, load_feature_network
from tunit.evaluation.labelled import (
    AUTO,
    check_there,
    labelled,
    pack_held,
    square_settings,
    training_pictures,
    with_classes_of,
)
from tunit.evaluation.result import Evaluation, Labelled
from tunit.evaluation.truth import truth_test_beside
from tunit.files import writable, write_text
from tunit.machine import choose_device
from tunit.methods.model_file import Model, load_model
from tunit.paths import expand_home

FOLDER, RESULT = "evaluation", "evaluation.json"


def evaluate_run(
    run: str | Path,
    source: str | Path,
    *,
    train: str | Path | None = None,
    labels: str = AUTO,
    label_column: str = "label",
    picture_column: str = "",
    part: Part | None = None,
    max_pixels: int = MAX_PIXELS,
    features: str = DEFAULT,
    preprocessing: str = "clean",
    trust_features: bool = False,
    most_sources: int = 0,
    translates: bool = True,
    beside_trivial: bool = True,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    show: Callable[[Evaluation], None] = lambda result: None,
    say: Say = lambda text: None,
) -> Evaluation:
    """Measure the model of `run` on the held-back pictures of `source`, and write the result as JSON.

    train: real pictures to compare translations with; None takes the run's training pictures or, where it has none,
        the held-back ones.
    labels, label_column, picture_column: where classes and pictures come from, as in `pack_held`.
    part: the part of a published set to use from `source`; from `train`, its training pictures are used.
    max_pixels: a picture that declares more is left out.
    features, preprocessing, trust_features: the feature network, as in `load_feature_network`.
    most_sources: how many pictures to translate into each class, 0 for all.
    translates: False measures the clustering alone. beside_trivial: compare the domains with trivial answers.
    out: the result file [RUN/evaluation/evaluation.json]; another place also serves for a run that is read-only.
    show: a function that gets the result before it is written.

    Raises RunError, DataError or ConfigError for what is missing or cannot be written.
    """
    run, source = expand_home(run), expand_home(source)
    train = expand_home(train) if train else None
    path = expand_home(out) if out else run / FOLDER / RESULT
    model = load_model(run, choose_device(device))
    _check_places(path, source, train)
    with workplace(run / FOLDER) as folder:
        squares = square_settings(model.image_size, model.fit, model.background, part, max_pixels)
        squares = replace(squares, picture_column=picture_column)
        how = {"labels": labels, "label_column": label_column}
        held = labelled(pack_held(source, folder / "held", squares, **how))
        real = _real_pictures(run, train, held, model, folder / "train", squares, how, say)
        device_of_model = model.domain_styles.device
        network, unreachable = _network(features, preprocessing, device_of_model, trust_features, say)
        result = evaluate_model(
            model,
            held,
            real,
            network,
            seed=seed,
            most_sources=most_sources,
            translates=translates,
            beside_trivial=beside_trivial,
            truth=truth_test_beside(source, model.image_size, seed=seed),
            cache=folder / "features",
            say=say,
        )
    if unreachable:
        result.notes.insert(0, unreachable)
    try:
        show(result)
    finally:  # even if printing fails
        about = {"pictures": str(source), "step": model.step, "seed": seed, "sources": most_sources}
        save_evaluation(path, result, about)
    return result


def _check_places(path: Path, source: Path, train: Path | None) -> None:
    """Before any work: check that `path` can be written and that the other two exist."""
    check_file(path)
    check_there(source, "the held-back pictures")
    if train is not None:
        check_there(train, "--train")


def _real_pictures(
    run: Path,
    train: Path | None,
    held: Labelled,
    model: Model,
    cache: Path,
    squares: PackSettings,
    how: dict[str, str],
    say: Say,
) -> Labelled:
    """The pictures that translations are compared with, as described in `evaluate_run`."""
    if train is not None:
        if squares.part is not None:
            squares = replace(squares, part=replace(squares.part, split="train"))
        return with_classes_of(held, labelled(pack_held(train, cache, squares, **how)))
    real = training_pictures(run, held, model)
    if real is None:
        say("the run holds no training pictures: the held-back ones stand for them")
    return real or held


def save_evaluation(path: Path, result: Evaluation, about: dict[str, Any]) -> None:
    """Write a result as JSON, together with `about`. Raises RunError."""
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(about | result.as_json(), indent=2) + "\n")


def _network(
    features: str, preprocessing: str, device: torch.device, trust: bool, say: Say
) -> tuple[FeatureNetwork | None, str]:
    """The feature network; or None and the reason if it cannot be downloaded, and the rest is still measured."""
    try:
        return load_feature_network(features, preprocessing=preprocessing, device=device, trust=trust), ""
    except UnreachableError as error:
        say(f"{error}; the figures that need no features are measured all the same")
        return None, str(error)

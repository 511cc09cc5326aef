"""A run folder on held-back pictures, in one call: what `tunit evaluate` and the experiments use."""

import json
from dataclasses import replace
from pathlib import Path

from tunit.data.layouts import Part
from tunit.evaluation.download import UnreachableError
from tunit.evaluation.evaluate import Evaluation, Say, evaluate_model
from tunit.evaluation.feature_networks import DEFAULT, load_feature_network
from tunit.evaluation.inputs import (
    AUTO,
    labelled,
    pack_held,
    square_settings,
    training_pictures,
    with_classes_of,
)
from tunit.evaluation.truth import truth_test_beside
from tunit.files import write_text
from tunit.machine import choose_device
from tunit.networks.model_file import load_model
from tunit.paths import home

FOLDER, RESULT = "evaluation", "evaluation.json"


def evaluate_run(
    run: Path,
    source: Path,
    *,
    train: Path | None = None,
    labels: str = AUTO,
    label_column: str = "label",
    picture_column: str = "",
    part: Part | None = None,
    features: str = DEFAULT,
    preprocessing: str = "clean",
    trust_features: bool = False,
    most_sources: int = 0,
    translates: bool = True,
    seed: int = 0,
    device: str = "auto",
    out: Path | None = None,
    say: Say = lambda text: None,
) -> Evaluation:
    """Measure the model of `run` on the held-back pictures of `source`; the result is written as JSON, too.

    train: the real pictures to compare translations with; None takes those that the run was trained on, or, where it
    has none, the held-back ones. trust_features: see `load_feature_network`. labels,
    label_column: where classes come from, as in `pack_held`. picture_column: of tables; "" finds it. part: which
    part of a published set to take of `source`; of `train`, its training pictures. most_sources: to translate into
    each class, 0 for all. translates: False measures the clustering alone. out: the file,
    RUN/evaluation/evaluation.json unless given.

    Raises RunError, DataError or ConfigError for what is not there.
    """
    run, source = home(run), home(source)
    train, out = train and home(train), out and home(out)
    chosen = choose_device(device)
    model = load_model(run, chosen)
    network, unreachable = None, ""
    try:
        network = load_feature_network(
            features, preprocessing=preprocessing, device=chosen, trust=trust_features
        )
    except UnreachableError as error:
        unreachable = str(error)
        say(f"{unreachable}; the figures that need no features are measured all the same")
    folder = run / FOLDER
    squares = square_settings(model.image_size, model.fit, model.background, part)
    squares = replace(squares, picture_column=picture_column)
    held = labelled(pack_held(source, folder / "held", squares, labels=labels, label_column=label_column))
    if train is not None:
        if part is not None:
            squares = replace(squares, part=replace(part, split="train"))
        packed = pack_held(train, folder / "train", squares, labels=labels, label_column=label_column)
        real = with_classes_of(held, labelled(packed))
    else:
        found = training_pictures(run, held, model)
        if found is None:
            say("the run holds no training pictures: the held-back ones stand for them")
        real = found or held
    result = evaluate_model(
        model,
        held,
        real,
        network,
        seed=seed,
        most_sources=most_sources,
        translates=translates,
        truth=truth_test_beside(source, model.image_size, seed=seed),
        cache=folder / "features",
        say=say,
    )
    if unreachable:
        result.notes.insert(0, unreachable)
    path = out or folder / RESULT
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"pictures": str(source), "step": model.step, "seed": seed, "sources": most_sources}
    write_text(path, json.dumps(about | result.as_json(), indent=2) + "\n")
    return result

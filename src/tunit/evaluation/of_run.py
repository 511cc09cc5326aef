"""Evaluate a run folder on held-back pictures in one call, for `tunit evaluate` and the experiments."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tunit.data.decoding.bounds import MAX_PIXELS
from tunit.data.finding.left_out import summarise_left_out
from tunit.data.layouts import Part
from tunit.data.packing.packed import PackedPictures
from tunit.errors import ConfigError
from tunit.evaluation.evaluate import Say, evaluate_model
from tunit.evaluation.labelled import (
    AUTO_LABELS,
    check_there,
    labelled,
    pack_held,
    square_settings,
    training_pictures,
    with_classes_of,
)
from tunit.evaluation.result import UNFAIR, Evaluation, Labelled
from tunit.evaluation.truth import truth_test_beside
from tunit.features.feature_networks import DEFAULT, FeatureNetwork, load_feature_network
from tunit.files.atomic import writable, write_text
from tunit.files.destination import check_earlier, check_file, workplace
from tunit.files.download import UnreachableError
from tunit.files.paths import expand_home
from tunit.files.reading import Record, UnreadableError, read_json
from tunit.given import given_seed, whole_number
from tunit.machine import choose_device
from tunit.methods.model_file import Model, load_model
from tunit.printing import shown
from tunit.training.run_folder import EVALUATION, RunFolder, given_run, read_picture_index

RESULT = "evaluation.json"
LARGEST_RESULT = 1 << 26  # bytes of a result


@dataclass(frozen=True)
class Reading:
    """How pictures to measure with are found and packed; see `evaluate_run`."""

    labels: str
    label_column: str
    picture_column: str
    part: Part | None
    max_pixels: int

    def packed(self, source: Path, folder: Path, model: Model) -> PackedPictures:
        """The pictures of `source`, packed into `folder` as squares of the model's size (see `pack_held`)."""
        squares = square_settings(model.image_size, model.fit, model.background, self.part, self.max_pixels)
        squares = replace(squares, picture_column=self.picture_column)
        return pack_held(source, folder, squares, labels=self.labels, label_column=self.label_column)

    def of_training_part(self) -> "Reading":
        """The same, for the training part of a published set."""
        return self if self.part is None else replace(self, part=replace(self.part, split="train"))


def evaluate_run(
    run: str | Path,
    source: str | Path,
    *,
    train: str | Path | None = None,
    labels: str = AUTO_LABELS,
    label_column: str = "label",
    picture_column: str = "",
    part: Part | None = None,
    max_pixels: int = MAX_PIXELS,
    features: str | Path = DEFAULT,
    preprocessing: str = "clean",
    trust_features: bool = False,
    most_sources: int = 0,
    translates: bool = True,
    beside_trivial: bool = True,
    seed: int = 0,
    device: str | torch.device = "auto",
    out: str | Path | None = None,
    feature_cache: str | Path | None = None,
    show: Callable[[Evaluation], None] = lambda result: None,
    say: Say = lambda text: None,
) -> Evaluation:
    """Measure the model of `run` on the held-back pictures of `source`; write the result as JSON, and return it.

    train: real pictures to compare translations with [the run's, if they have the model's size, or those held back].
    labels, label_column, picture_column: where classes and pictures come from, as in `pack_held`.
    part: if `source` is a published set, which part of it to use. Of `train` the training part is used.
    features, preprocessing, trust_features: the feature network, as in `load_feature_network`.
    max_pixels: a picture that declares more is left out. most_sources: how many to translate into each class [all].
    translates: False measures only the clustering. beside_trivial: compare the domains with trivial baselines.
    out: the result file [RUN/evaluation/evaluation.json]; give another place if the run is read-only.
    feature_cache: a folder for features of real pictures, which several runs may share [RUN/evaluation/features].
    show: a function that gets the result before it is written.
    Raises RunError, DataError or ConfigError for what is missing or cannot be written.
    """
    features, seed, most_sources = _checked(features, seed, most_sources)
    _check_kinds(part, features=features, label_column=label_column, picture_column=picture_column)
    model = load_model(given_run(run), choose_device(device))
    run, source, train, path = _places(run, source, train, out, features)
    read_as = Reading(labels, label_column, picture_column, part, max_pixels)
    # First, so that a wrong name ends the call before pictures are packed.
    network, unreachable = _network(features, preprocessing, model, trust_features, say)
    with workplace(run / EVALUATION) as folder:
        held_back, real, known = _pictures(run, source, train, model, folder, read_as, say)
        result = evaluate_model(
            model,
            held_back,
            real,
            network,
            seed=seed,
            most_sources=most_sources,
            translates=translates,
            beside_trivial=beside_trivial,
            truth=truth_test_beside(source, model.image_size, seed=seed),
            cache=folder / "features" if feature_cache is None else expand_home(feature_cache),
            say=say,
        )
    _note_first(result, unreachable, known)
    about = {"pictures": str(source), "step": model.step, "seed": seed, "sources": most_sources}
    return _shown_and_saved(result, show, path, about)


def _checked(features: str | Path, seed: int, most_sources: int) -> tuple[str, int, int]:
    """These arguments of `evaluate_run`, of one type each. Raises ConfigError for a wrong number."""
    most_sources = whole_number(most_sources, "most_sources is {}: take a whole number, 0 for all", 0)
    return str(features) if isinstance(features, Path) else features, given_seed(seed), most_sources


def _check_kinds(part: Part | None, **texts: object) -> None:
    """Raises ConfigError if an argument that is no number and no path is of a wrong type."""
    for name, value in texts.items():
        if not isinstance(value, str):
            raise ConfigError(f"{name} is {shown(value)}: give text")
    if not isinstance(part, Part | None):
        raise ConfigError(f"part is {shown(part)}: give what tunit.data.layouts.make_part returns")


def _shown_and_saved(
    result: Evaluation, show: Callable[[Evaluation], None], path: Path, about: dict[str, Any]
) -> Evaluation:
    """Hand the result to `show`, then write it, even if printing fails."""
    try:
        show(result)
    finally:
        save_evaluation(path, result, about)
    return result


def _places(
    run: str | Path, source: str | Path, train: str | Path | None, out: str | Path | None, features: str
) -> tuple[Path, Path, Path | None, Path]:
    """The paths of the run, the held-back pictures, the training pictures and the result file, checked before any
    work: the pictures must exist, and the result file must be writable and none of the files that are read.
    """
    run, source = expand_home(run), expand_home(source)
    train = None if train is None else expand_home(train)
    path, keep = run / EVALUATION / RESULT, [run, source, train, Path(features)]
    if out is not None:
        path = expand_home(out)
        check_result_file(path, keep)
    else:
        check_file(path, keep=keep)
    check_there(source, "the held-back pictures")
    if train is not None:
        check_there(train, "--train")
    return run, source, train, path


def check_result_file(path: Path, keep: Iterable[Path | None]) -> None:
    """Check that a result may be written to `path`, which somebody has chosen; `keep` as for `check_file`.

    Raises RunError, also if a file with anything but an earlier result is there: it may be one of the pictures.
    """
    check_file(path, keep=keep)
    check_earlier(path, _is_result, "a result of `tunit evaluate`")


def _is_result(path: Path) -> bool:
    """Whether a file is a result of `save_evaluation`."""
    try:
        Record(read_json(path, LARGEST_RESULT)).record("figures")
    except UnreadableError:
        return False
    return True


def _pictures(
    run: Path,
    source: Path,
    train: Path | None,
    model: Model,
    folder: Path,
    read_as: Reading,
    say: Say,
) -> tuple[Labelled, Labelled, str]:
    """The held-back pictures, the real ones that translations are compared with, and which of the former the run was
    trained on, in words (`_trained_on`); see `evaluate_run`.

    folder: where they are packed. read_as: how both are read.
    """
    packed = read_as.packed(source, folder / "held", model)
    say_what_is_missing(packed, source, say)
    held_back, known = labelled(packed), _trained_on(run, packed)
    if train is not None:
        packed = read_as.of_training_part().packed(train, folder / "train", model)
        say_what_is_missing(packed, train, say)
        return held_back, with_classes_of(held_back, labelled(packed)), known
    real = training_pictures(run, held_back, model)
    if real is None:
        say(
            "the run holds no training pictures of the model's size: translations are compared with the held-back "
            "pictures"
        )
        return held_back, held_back, known
    unknown = int((real.classes < 0).sum())
    if held_back.has_several_classes and unknown:
        say(
            f"{unknown:,} of {len(real.classes):,} training pictures have no label that is a class of the held-back "
            "ones: figures for a class leave them out (--train FOLDER gives other pictures)"
        )
    return held_back, real, known


def _trained_on(run: Path, held_back: PackedPictures) -> str:
    """Which of the held-back pictures the run was trained on, in words; "" if none, or if that is unknown."""
    try:
        trained = {digest for _, _, digest in read_picture_index(RunFolder(run).pictures)}
    except UnreadableError:  # a model folder has no list of pictures
        return ""
    number, every = sum(pixel_hash in trained for pixel_hash in held_back.hashes), len(held_back.hashes)
    if not number:
        return ""
    was = "was" if number == 1 else "were"
    return f"{number:,} of the {every:,} pictures {was} trained on"


def _note_first(result: Evaluation, unreachable: str, trained_on: str) -> None:
    """Put before all other notes why there is no feature network, and which pictures were trained on ("": none)."""
    result.trained_on = trained_on
    unfair = f"{trained_on}: {UNFAIR}" if trained_on else ""
    result.notes[:0] = filter(None, (unreachable, unfair))


def say_what_is_missing(packed: PackedPictures, source: Path, say: Say) -> None:
    """Say which pictures of `source` are not measured, and how it was read if that is not obvious."""
    for sentence in (*([summarise_left_out(packed.left_out)] if packed.left_out else []), *packed.notes):
        say(f"{source}: {sentence}")


def save_evaluation(path: Path, result: Evaluation, about: dict[str, Any]) -> None:
    """Write a result as JSON, together with `about`. Raises RunError."""
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(about | result.as_json(), indent=2) + "\n")


def _network(
    features: str, preprocessing: str, model: Model, trust: bool, say: Say
) -> tuple[FeatureNetwork | None, str]:
    """The feature network, on the model's device; or None and the reason, if it cannot be downloaded."""
    device = model.domain_styles.device
    try:
        return load_feature_network(features, preprocessing=preprocessing, device=device, trust=trust), ""
    except UnreachableError as error:
        say(f"{error}; only the figures that need no features are measured")
        return None, str(error)

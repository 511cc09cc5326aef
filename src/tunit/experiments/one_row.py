"""One row of a table, for one seed: its labels, its trainings, its evaluation."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tunit.config import Config
from tunit.data.packing.image_size import choose_image_size
from tunit.errors import RunError
from tunit.evaluation.clusters import clustering_accuracy
from tunit.evaluation.of_run import evaluate_run
from tunit.evaluation.result import NO_FEATURES
from tunit.experiments.attribute import attribute_figures
from tunit.experiments.experiment import Experiment, Table
from tunit.experiments.label_sources import labelled_share, labels_for
from tunit.experiments.outcome_file import ACCURACY_OF_LABELS, LABELS_OF_A_CLASS, OUTCOME, read_finished
from tunit.experiments.plan import Plan, config_of
from tunit.experiments.reuse import check_same_settings
from tunit.experiments.split import CLASS, LABEL, Split, read_labels, write_table
from tunit.experiments.trainings import train_to_end
from tunit.files.atomic import write_text
from tunit.methods.method import Labels
from tunit.methods.registry import method_of
from tunit.printing import numbered, show
from tunit.training.run_folder import RunFolder

Say = Callable[[str], None]


def run_row(
    table: Table, row: Experiment, plan: Plan, seed: int, say: Say = show, split: Split | None = None
) -> dict[str, Any]:
    """Run a row for one seed. Returns its figures, which are also written to outcome.json in the row's folder.

    If that file exists already, with figures of the row's translations, nothing is run, and the figures are read from
    the file. Raises RunError if the folder was begun with other settings, or if its translations cannot be measured
    because there is no feature network. split: the pictures; None lists them.
    """
    folder = plan.folder(table, row, seed)
    split = split or plan.split_of(table)
    config = config_of(row, row.preset, plan, split, seed)
    check_same_settings(folder, row, plan, config, split)
    done = folder / OUTCOME
    finished = read_finished(done, row)
    if finished is not None:
        return finished
    if done.is_file():
        there = RunFolder(folder / "run").about.is_file()
        work = "they are measured now" if there else "its run is gone, so it is trained and measured again"
        say(f"{row.name}, seed {seed}: an earlier call could not measure its translations; {work}")
    train = write_table(folder / "train.csv", split.train)
    held = write_table(folder / "held.csv", split.held)
    if config.data.image_size == 0:
        config = config.with_overrides({"image_size": choose_image_size(train)})
    first: Path | None = None
    if row.first:
        first = folder / "first"
        say(f"{row.name}, seed {seed}: first training ({row.first})")
        train_to_end(train, first, config_of(row, row.first, plan, split, seed))
    labels = labels_for(row, plan, split, train, folder / "packed", config, first)
    if labels is not None:
        train, config = _labelled(row, split, labels, folder, config)
    if row.guide_kept and first is not None:
        config = config.with_overrides({"guide_from": str(first)})
    say(f"{row.name}, seed {seed}: {numbered(config.schedule.steps, 'step')}")
    train_to_end(train, folder / "run", config)
    own = RunFolder(folder / "run").read_config()  # with the values that were chosen when the run began
    own = own.with_overrides({"device": config.run.device})  # it may have begun on another machine
    outcome = _measured(row, plan, split, own, folder, held, seed)
    if row.labelled_of_class and labels:
        outcome["settings"][LABELS_OF_A_CLASS] = min(Counter(labels.values()).values())
    write_text(done, json.dumps(outcome, indent=2) + "\n")
    return outcome


def _labelled(
    row: Experiment, split: Split, labels: dict[str, str], folder: Path, config: Config
) -> tuple[Path, Config]:
    """For a training with labels: the CSV table of its pictures and labels, and its config."""
    # A method that needs labels for all pictures gets only the labelled pictures.
    labelled_alone = row.few_labels and method_of(config).labels is Labels.ALL
    pictures = [p for p in split.train if p[0] in labels] if labelled_alone else split.train
    given: dict[str, Any] = {"labels": "csv", "label_column": LABEL}
    # Presets in which labelled and unlabelled steps alternate.
    if row.few_labels and config.data.labelled_ratio:
        given["labelled_ratio"] = labelled_share(labels, split)
    if labelled_alone:  # a batch must not be larger than the set
        given["batch_size"] = min(config.optimisers.batch_size, len(pictures))
    return write_table(folder / "labelled.csv", pictures, labels), config.with_overrides(given)


def _measured(
    row: Experiment, plan: Plan, split: Split, config: Config, folder: Path, held: Path, seed: int
) -> dict[str, Any]:
    """Measure the trained run of a row. Returns its figures, and how they were measured.

    Raises RunError if there is no feature network for the row's translations: a row without mFID would count as
    finished for good.
    """

    def measured(run: str, translates: bool) -> dict[str, Any]:
        """The evaluation of one of the row's runs on the held-back pictures."""
        return evaluate_run(
            folder / run,
            held,
            train=folder / "train.csv",
            labels="csv",
            label_column=CLASS,
            features=plan.features,
            preprocessing=plan.preprocessing,
            trust_features=plan.trust_features,
            most_sources=plan.most_sources,
            seed=seed,
            feature_cache=plan.feature_cache,
            translates=translates,
            beside_trivial=False,
            device=config.run.device,
        ).as_json()

    found = measured("run", row.translates)
    if row.translates and found["features"] == NO_FEATURES:
        raise RunError(
            f"{folder / 'run'} is trained, but its translations cannot be measured ({found['notes'][0]}): call again "
            "when the feature network can be had; then they are measured, without another training"
        )
    figures = _values(found)
    of_labels = row.all_labels and not row.first
    if of_labels:
        figures["accuracy"] = _accuracy_of(folder / "labelled.csv")  # of the labels that D and G learnt from
    elif row.first:  # the labels are domains of this E
        figures["accuracy"] = _values(measured("first", translates=False)).get("accuracy", math.nan)
    elif not method_of(config).learns_domains:
        figures.pop("accuracy", None)
    if row.strengths:
        classes = plan.classes or tuple(split.classes)
        ends = classes[0], classes[1]
        figures |= attribute_figures(folder / "run", split, ends, row.strengths, config.run.device)
    return {
        "row": row.name,
        "seed": seed,
        "figures": figures,
        ACCURACY_OF_LABELS: of_labels,
        "notes": found["notes"],
        "trained_on": found["trained_on"],
        "features": found["features"],
        "pictures": [len(split.train), len(split.held)],
        "settings": _settings_of(config),
    }


def _values(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The figures of an evaluation, without their intervals."""
    return {k: v["value"] if isinstance(v, dict) else v for k, v in evaluation["figures"].items()}


def _accuracy_of(path: Path) -> float:
    """The accuracy of the labels of a table: how many agree with the classes, matched one to one."""
    pairs = list(read_labels(path).values())
    numbers = [{name: i for i, name in enumerate(sorted({pair[k] for pair in pairs}))} for k in (0, 1)]
    classes, labels = (np.array([numbers[k][pair[k]] for pair in pairs]) for k in (0, 1))
    return clustering_accuracy(labels, classes)


def _settings_of(config: Config) -> dict[str, Any]:
    """The settings that the printed table mentions."""
    return {
        "image size": config.data.image_size,
        "steps": config.schedule.steps,
        "batch size": config.optimisers.batch_size,
        "domains": config.networks.domains,
        "candidate heads": config.networks.candidate_heads,
        "overclusters": config.networks.overclusters,
        "marginal balance": config.losses.marginal_balance,
    }

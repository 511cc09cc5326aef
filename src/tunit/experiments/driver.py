"""Run the rows of a table: labels, trainings, evaluation. Finished runs are skipped, stopped runs are resumed."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tunit.config import Config
from tunit.data.packing.image_size import choose_image_size
from tunit.errors import RunError, TunitError
from tunit.evaluation.clusters import clustering_accuracy
from tunit.evaluation.of_run import evaluate_run
from tunit.evaluation.result import NO_FEATURES
from tunit.experiments.attribute import attribute_figures
from tunit.experiments.experiment import Experiment, Table, chosen
from tunit.experiments.jobs import in_processes
from tunit.experiments.label_sources import labelled_share, labels_for
from tunit.experiments.networks_needed import check_cluster_features, check_networks
from tunit.experiments.outcome_file import (
    ACCURACY_OF_LABELS,
    LABELS_OF_A_CLASS,
    OUTCOME,
    is_finished,
    read_finished,
)
from tunit.experiments.plan import Plan, config_of
from tunit.experiments.reuse import NOTE, check_same_settings, compare_settings
from tunit.experiments.split import CLASS, LABEL, Split, read_labels, write_table
from tunit.experiments.trainings import train_to_end
from tunit.files.atomic import write_text
from tunit.methods.method import Labels
from tunit.methods.registry import method_of
from tunit.printing import show
from tunit.training.interrupt import Interrupted
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
    split = split or split_of(table, plan)
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
    say(f"{row.name}, seed {seed}: {config.schedule.steps} steps")
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


def run_table(
    table: Table,
    plan: Plan,
    *,
    only: tuple[str, ...] = (),
    jobs: int = 1,
    say: Say = show,
    split: Split | None = None,
) -> list[dict[str, Any]]:
    """All rows (or those named) for all seeds; a row that fails with a TunitError is reported and skipped.

    Any other error is a bug, and ends the table; finished rows are kept. Raises Interrupted or StopNow if a signal
    stops a row: then no further row begins; RunError if a row was begun with other settings; ConfigError, before any
    row is run, if a feature network cannot be loaded. split: the pictures, as `split_of` lists them; None lists them.
    """
    rows, _ = chosen(table, only)
    tasks = [(row, seed) for row in rows for seed in range(plan.seeds)]
    # A finished row is shown, too, so that the network of its k-means may have to be given.
    check_cluster_features(table, plan, [*rows, *(row for row, _ in _finished(table, plan))])
    split = split or split_of(table, plan)
    _check_begun(table, plan, tasks, split)
    check_networks(
        plan, [row for row, seed in tasks if not is_finished(plan.folder(table, row, seed) / OUTCOME, row)]
    )
    if jobs <= 1:
        found = [_guarded(table, row, plan, seed, say, split) for row, seed in tasks]
    else:
        found = in_processes(_guarded, [(table, row, plan, seed, show, split) for row, seed in tasks], jobs)
    return [outcome for outcome in found if outcome is not None]


def with_finished(
    table: Table,
    plan: Plan,
    outcomes: list[dict[str, Any]],
    say: Say = show,
    split: Split | None = None,
) -> list[dict[str, Any]]:
    """The outcomes of this call, and those of other rows and seeds that earlier calls have finished.

    Other rows with other settings, or without a note of theirs, are left out, with a message; so are those without
    figures of their translations. Writes nothing. split: as for `run_table`.
    """
    known, found = {(o["row"], o["seed"]) for o in outcomes}, list(outcomes)
    split = split or split_of(table, plan)
    for row, folder in _finished(table, plan):
        try:
            outcome = read_finished(folder / OUTCOME, row)
            if outcome is None:
                raise RunError(
                    f"the translations in {folder} were not measured: ask for it by --only and --seeds to have that "
                    "done"
                )
            if (row.name, outcome["seed"]) in known:
                continue
            compare_settings(
                folder, row, plan, config_of(row, row.preset, plan, split, outcome["seed"]), split
            )
        except RunError as error:
            say(f"{row.name} is left out of the table: {error}")
            continue
        found.append(outcome)
    return found


def _finished(table: Table, plan: Plan) -> Iterator[tuple[Experiment, Path]]:
    """The folders of all rows and seeds that are finished."""
    for row in table.rows:
        for path in sorted(plan.folder(table, row, 0).parent.glob(f"seed-*/{OUTCOME}")):
            yield row, path.parent


def _check_begun(table: Table, plan: Plan, tasks: list[tuple[Experiment, int]], split: Split) -> None:
    """Refuse other settings before any row is run, also those of finished rows that are not among the tasks.

    Else a table without these rows would replace the one there.
    """
    begun = {plan.folder(table, row, seed): (row, seed) for row, seed in tasks}
    for row, folder in _finished(table, plan):
        number = folder.name.removeprefix("seed-")
        if number.isdecimal() and number.isascii():
            begun.setdefault(folder, (row, int(number)))
    begun = {folder: task for folder, task in begun.items() if (folder / NOTE).is_file()}
    for folder, (row, seed) in begun.items():
        compare_settings(folder, row, plan, config_of(row, row.preset, plan, split, seed), split)


def split_of(table: Table, plan: Plan) -> Split:
    """The training and held-back pictures of a table. Raises DataError, or remarks that a class is not measured."""
    return plan.pictures().of_classes(plan.classes, table.classes)


def _guarded(
    table: Table, row: Experiment, plan: Plan, seed: int, say: Say, split: Split
) -> dict[str, Any] | None:
    """As `run_row`; if it fails with a TunitError, the reason is printed, and None returned."""
    try:
        return run_row(table, row, plan, seed, say, split)
    except Interrupted as stop:
        say(f"{row.name}, seed {seed}: {stop}")
        raise
    except TunitError as error:
        say(f"{row.name}, seed {seed} failed: {error}")
        return None


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

"""Run the rows of a table, one after another or several at once. Finished rows are skipped, stopped ones resumed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunit.errors import RunError, TunitError
from tunit.experiments.experiment import Experiment, Table, chosen
from tunit.experiments.jobs import in_processes
from tunit.experiments.networks_needed import check_cluster_features, check_networks
from tunit.experiments.one_row import Say, run_row
from tunit.experiments.outcome_file import OUTCOME, is_finished, read_finished
from tunit.experiments.plan import Plan, config_of
from tunit.experiments.reuse import NOTE, compare_settings
from tunit.experiments.split import Split
from tunit.printing import show
from tunit.training.interrupt import Interrupted


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
    row is run, if a feature network cannot be loaded. split: the pictures, as `Plan.split_of` lists them; None lists
    them.
    """
    rows, _ = chosen(table, only)
    tasks = [(row, seed) for row in rows for seed in range(plan.seeds)]
    # A finished row is shown, too, so that the network of its k-means may have to be given.
    check_cluster_features(table, plan, [*rows, *(row for row, _ in _finished(table, plan))])
    split = split or plan.split_of(table)
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
    split = split or plan.split_of(table)
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

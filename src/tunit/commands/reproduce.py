"""Rerun a table of the paper, on the paper's pictures or on your own.

  tunit reproduce table1 --data animal_faces/ --out experiments
  tunit reproduce clustering --data photos/ --out experiments --steps 20000 --image-size 64 --seeds 3
  tunit reproduce table1 --data creatures/factors.csv --out experiments --base tables-32 --jobs 2 --threads 1
  tunit reproduce table3 --data creatures/factors.csv --out experiments --only "TUNIT 1 %,FUNIT" --smoke
  tunit reproduce table1 --data photos/ --out experiments --add mine.toml --only G,mine
  tunit reproduce figure4 --data faces.csv --out experiments --between plain,smiling

--data is a folder with a sub-folder for each class, or a CSV with a label column (see --label-column and
--picture-column). A fifth of every class is held back for the measurements unless --held-back is given. Finished runs
are skipped and stopped runs are resumed; other settings need another --out. With --steps, the phases keep their
shares of the training. Presets tables-32 and tables-64 are made for two CPU cores. Writes DIR/TABLE.md and
DIR/TABLE.html, with all rows that are finished (a row of --add only if its file is given in this call): our figures
(mean and spread over the seeds) next to the paper's; for table2 also reports with maps of the styles. With --smoke,
all this is named TABLE-smoke.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.measuring_arguments import add_features, add_measuring, check_preprocessing
from tunit.commands.numbers import whole
from tunit.commands.setting_arguments import add_settings, settings_of
from tunit.printing import remark, show

if TYPE_CHECKING:
    from tunit.experiments.experiment import Table
    from tunit.experiments.plan import Plan
    from tunit.experiments.split import Split
    from tunit.experiments.summary import Outcomes

HELP = "rerun a table of the paper"
MOST_SEEDS, MOST_JOBS = 1000, 256
REFUSED = ("seed", "layout", "split", "classes", "held_out", "labels")  # settings that `Plan` refuses


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit reproduce`."""
    parser.usage = "tunit reproduce TABLE --data FOLDER --out DIR [options] [settings]"
    parser.add_argument(
        "table", metavar="TABLE", help="clustering, table1, table2, table3, figure4 or ablation"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="pictures with classes")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where runs and tables go")
    parser.add_argument(
        "--held-back",
        type=Path,
        metavar="FOLDER",
        help="pictures to measure on, with the same classes [a fifth of --data, which is then not trained on]",
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="A,G",
        help="only these rows, by their names; a first word, such as TUNIT, means all rows that begin with it",
    )
    parser.add_argument(
        "--add",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.toml",
        help="presets (TOML files, based on paper) to add as rows of your own",
    )
    parser.add_argument(
        "--between",
        default="",
        metavar="A,B",
        help="only these classes; figure4 translates from A to B [the first two]",
    )
    parser.add_argument(
        "--base",
        default="paper",
        metavar="NAME",
        help="preset to which the rows' differences are applied [paper]",
    )
    parser.add_argument(
        "--seeds", type=whole(1, MOST_SEEDS), default=1, metavar="N", help="repeat with seeds 0 to N - 1 [1]"
    )
    parser.add_argument(
        "--jobs", type=whole(1, MOST_JOBS), default=1, metavar="N", help="how many runs train at a time [1]"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="only test that everything works: a few steps of tiny networks"
    )
    add_features(parser)
    parser.add_argument(
        "--cluster-features",
        default="",
        metavar="NETWORK",
        help="for row D: k-means on these features [those of --features]; the paper uses a checkpoint of MoCo v2",
    )
    add_measuring(parser)
    add_settings(parser, REFUSED)


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit reproduce`."""
    from tunit.config import suggestion
    from tunit.errors import ConfigError
    from tunit.experiments.driver import run_table
    from tunit.experiments.experiment import chosen, with_rows
    from tunit.experiments.paper_tables import TABLES
    from tunit.experiments.plan import smoke
    from tunit.files.destination import check_folder
    from tunit.training.interrupt import Interrupted

    check_preprocessing(args.preprocessing, args.features, *filter(None, [args.cluster_features]))
    if args.table not in TABLES:
        raise ConfigError(
            f"there is no table {args.table!r}{suggestion(args.table, TABLES)} ({', '.join(TABLES)})"
        )
    table = with_rows(TABLES[args.table], args.add)
    only = tuple(name.strip() for name in args.only.split(",") if name.strip())
    rows, unknown = chosen(table, only)
    if unknown:
        names = [row.name for row in table.rows]
        raise ConfigError(
            f"{args.table} has no row {unknown!r}{suggestion(unknown, names)} ({', '.join(names)})"
        )
    plan = smoke(_plan_of(args)) if args.smoke else _plan_of(args)
    check_folder(args.out)
    split = plan.split_of(table)
    try:
        outcomes = run_table(table, plan, only=only, jobs=args.jobs, say=remark, split=split)
    except Interrupted as stop:
        show("the same command again goes on here: finished rows are kept")
        return stop.exit_code
    _write(table, plan, outcomes, split, expected=len(rows) * args.seeds)
    return 0


def _plan_of(args: argparse.Namespace) -> "Plan":
    """How the table is run, by the options."""
    from tunit.experiments.plan import Plan

    return Plan(
        data=args.data,
        out=args.out,
        held_back=args.held_back,
        base=args.base,
        overrides=tuple(settings_of(args).items()),
        seeds=args.seeds,
        features=args.features,
        cluster_features=args.cluster_features,
        preprocessing=args.preprocessing,
        trust_features=args.trust_features,
        most_sources=args.sources,
        classes=tuple(name.strip() for name in args.between.split(",") if name.strip()),
    )


def _write(table: "Table", plan: "Plan", outcomes: "Outcomes", split: "Split", expected: int) -> None:
    """Write the table with all rows that are finished, print it, and write the reports of this call's rows.

    Raises RunError, after that, if fewer than the expected number of trainings succeeded in this call.
    """
    from tunit.errors import RunError
    from tunit.experiments.driver import with_finished
    from tunit.experiments.outcome import write_outcome

    finished = with_finished(table, plan, list(outcomes), remark, split)
    if finished:
        markdown, page = write_outcome(table, plan, finished)
        show(*markdown.read_text("utf-8").split("\n"), f"written to {markdown} and {page}")
    if _write_reports(table, plan, outcomes):
        write_outcome(table, plan, finished)  # again, with links to the new reports
    if len(outcomes) < expected:
        raise RunError(
            f"{expected - len(outcomes)} of {expected} trainings failed (see above): solve the problem and call again"
        )


def _write_reports(table: "Table", plan: "Plan", outcomes: "Outcomes") -> bool:
    """Write the reports with maps of styles of this call's rows that have none. Returns whether any was written.

    A report that cannot be written, such as one of a run that was removed, is left out, with a message.
    """
    from tunit.errors import RunError
    from tunit.experiments.outcome import lacks_report, run_shown
    from tunit.experiments.summary import rows_run
    from tunit.reporting.write import write_report

    written = False
    for row in rows_run(table, outcomes):
        run = run_shown(table, plan, row, outcomes)
        if row.name not in table.map_of or not lacks_report(run):
            continue
        try:
            show(f"map of styles, {row.name}: {write_report(run)}")
        except RunError as error:
            remark(f"there is no map of styles of {row.name}: {error}")
        else:
            written = True
    return written

"""gpu.py train: rows of table 1 at 128 px, one after the other; each continues where the call before stopped."""

import json
from typing import Any

from gpu_report import Report, Setting
from gpu_split import SIDE, SOURCES, Pictures
from gpu_stopping import stopped_after
from tunit.errors import StopNow
from tunit.experiments.experiment import chosen
from tunit.experiments.one_row import run_row
from tunit.experiments.outcome_file import OUTCOME
from tunit.experiments.paper_tables import TABLE1
from tunit.experiments.plan import Plan, smoke
from tunit.training.interrupt import Interrupted

ROWS = "G", "B", "D"  # in the order in which they are run
STEPS = 3000  # of row G; the others have steps in the paper's proportion
FEWEST_SECONDS = 60.0  # with less time, no row is begun
ENDING = 20.0  # seconds to finish a step and save the state


def plan_of(setting: Setting, pictures: Pictures) -> Plan:
    """How the rows are run: as `tunit reproduce table1` does, with fewer steps than the paper."""
    given = {"device": str(setting.device), "image_size": str(SIDE), "steps": str(STEPS), "sample_every": "0"}
    if setting.tiny:
        given = {"device": str(setting.device), "threads": "1", "workers": "1"}
    plan = Plan(
        pictures.source, setting.runs / "tables", overrides=tuple(given.items()), most_sources=SOURCES
    )
    return smoke(plan) if setting.tiny else plan


def run_rows(setting: Setting, report: Report, pictures: Pictures) -> None:
    """Run the rows as far as the time goes. The outcome of each is reported as soon as it is there."""
    plan = plan_of(setting, pictures)
    by_name = {row.name: row for row in chosen(TABLE1, ROWS)[0]}
    for name in ROWS:
        row, entry = by_name[name], f"table 1, row {name}: {by_name[name].title}"
        done = plan.folder(TABLE1, row, 0) / OUTCOME
        if done.is_file():
            report.put(entry, json.loads(done.read_text()))
        elif not setting.clock.has(0 if setting.tiny else FEWEST_SECONDS):
            report.put(entry, f"not continued: {setting.clock.left():.0f} s left")
        else:
            report.put(entry, {"ended": "not yet"})
            report.put(entry, _outcome(setting, plan, name, by_name[name], pictures))


def _outcome(setting: Setting, plan: Plan, name: str, row: Any, pictures: Pictures) -> dict[str, Any]:
    """The outcome of a row, or why there is none yet."""
    try:
        with stopped_after(setting.clock.left() - ENDING):
            return run_row(TABLE1, row, plan, 0, split=pictures.split)
    except (Interrupted, StopNow) as stop:
        return {"ended": str(stop) or "stopped", "continued by": "the next call"}
    except Exception as error:  # after any error, other rows can still be run
        return {"error": f"{type(error).__name__}: {str(error)[:500]}"}

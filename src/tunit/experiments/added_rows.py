"""Rows that users add to a table of the paper (`--add`): each is a small preset file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunit.config import preset_differences, read_config
from tunit.errors import ConfigError
from tunit.experiments.experiment import CLASSES, NONE, Experiment, Table


def with_rows(table: Table, presets: Sequence[Path]) -> Table:
    """`table` with a row for each preset file, named after the file.

    A preset that trains with labels gets the true ones. The new rows have all figures of the table, but the paper's
    claims do not include them. Raises ConfigError if a file is not a preset based on `paper`, or if the table has a
    row of that name already.
    """
    rows = list(table.rows)
    for path in presets:
        if path.stem in {row.name for row in rows}:
            raise ConfigError(f"{table.name} has a row {path.stem!r} already: give {path} another name")
        supervised = read_config(str(path)).data.labels != "none"
        differences = preset_differences(str(path))
        # Wherever the preset takes labels from, the driver gives it the true classes.
        title = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in differences.items())
        rows.append(Experiment(path.stem, title or "as paper", str(path), CLASSES if supervised else NONE))
    return replace(table, rows=tuple(rows))

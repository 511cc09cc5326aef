"""Reads the table of labels, which Teach writes a moment after the last action."""

import csv
import time


def label_rows(run):
    """The rows of RUN/studio/labels.csv, as soon as these are newer than the journal."""
    table, journal = run / "studio" / "labels.csv", run / "studio" / "journal.jsonl"
    end = time.monotonic() + 90
    while not table.exists() or table.stat().st_mtime_ns < journal.stat().st_mtime_ns:
        assert time.monotonic() < end, "the table is not written"
        time.sleep(0.05)
    with table.open(newline="") as file:
        return list(csv.DictReader(file))

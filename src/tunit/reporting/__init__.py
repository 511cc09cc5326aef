"""The report of a run: one HTML page of what was found."""

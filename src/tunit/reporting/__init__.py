"""The report of a run (one HTML page), and the model folder for others with its card."""

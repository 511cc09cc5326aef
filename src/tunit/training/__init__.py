"""The training loop: schedule, trainer, checkpoints, several processes, and the folder of a run."""

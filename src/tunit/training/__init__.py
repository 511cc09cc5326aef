"""Losses, the training step, the schedule, the trainer and its run folder."""

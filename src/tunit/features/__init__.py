"""Feature networks, which turn pictures into vectors: for evaluation, and as a cue for E if the user names one."""

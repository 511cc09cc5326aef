"""Checkpoints of the authors' release: find them, read them, convert them to runs and back."""

"""Published checkpoints: find them, read them, convert them to runs and back."""

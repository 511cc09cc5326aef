"""The checkpoints of the authors' release: found, read, brought into our terms and back."""

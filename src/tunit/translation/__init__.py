"""Inference: translation, domains, galleries, and the release's checkpoints."""

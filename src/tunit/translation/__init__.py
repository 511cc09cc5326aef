"""Inference: a trained model translates pictures; the results become files."""

"""Inference: pictures translated by a trained model, and files of results."""

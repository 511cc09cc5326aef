"""Figures about a trained model."""

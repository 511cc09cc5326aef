"""Measure a trained model: its domains and its translations."""

"""Inference: translate pictures by a trained model, write the results, export the model."""

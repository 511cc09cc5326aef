"""The methods that train: TUNIT and its baselines, each in one file; what they are made of; and their registry."""

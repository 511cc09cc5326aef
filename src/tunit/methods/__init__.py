"""The training methods: TUNIT and its baselines, one file each; the parts that they share; and their registry."""

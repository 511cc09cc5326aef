"""Draw batches from packed pictures: seeded, augmented and resumable."""

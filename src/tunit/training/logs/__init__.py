"""What a training logs: metrics, TensorBoard events, trackers, progress, speed."""

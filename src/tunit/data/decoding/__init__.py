"""Decode the bytes of one picture to an upright RGB image, within limits, in worker processes."""

"""Packed pictures that are made up: any pixels and labels, without files."""

import numpy as np

from tunit.data.packing.packed import PackedPictures


def with_labels(labels, images=None):
    """Pictures with these labels (N,), -1 = unlabelled. images: (N, S, S, 3) bytes; None makes black ones of 1 px."""
    labels = np.asarray(labels, np.int64)
    number = len(labels)
    images = np.zeros((number, 1, 1, 3), np.uint8) if images is None else images
    names = [f"{i:06d}.png" for i in range(number)]
    classes = [f"class {k}" for k in range(labels.max(initial=-1) + 1)]
    return PackedPictures(images, names, labels, classes, [], names, reused=False)


def unlabelled(images):
    """Pictures without labels."""
    return with_labels(np.full(len(images), -1), images)

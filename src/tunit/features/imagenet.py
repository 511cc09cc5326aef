"""How networks trained on ImageNet expect their input: minus its mean, divided by its standard deviation."""

from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def imagenet_normalised(x: Tensor) -> Tensor:
    """x (B, 3, S, S) in [0, 1], minus ImageNet's mean, divided by its standard deviation."""
    mean, std = (x.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std

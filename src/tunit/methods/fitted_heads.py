"""Linear domain heads that are fitted to groups of pictures, on the features that are the input of E's heads."""

import warnings
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from tunit.clustering.cues import Integers, Vectors

NEVER = -30.0  # the logit of a domain without pictures
PENALTY = 1.0  # scikit-learn's C for the fitted head
BISECTIONS = 40

Head: TypeAlias = tuple[Tensor, Tensor]  # weights (domains, features) and biases (domains,)


def fitted_heads(
    features: Iterable[Tensor], groups: Integers, domains: int, confidence: float = 1.0
) -> list[Head]:
    """Domain heads that predict the groups (N,) of N pictures: one for each of the `features` (N, width), on the CPU.

    confidence: an upper limit of the mean probability of the likeliest domain.
    """
    return [softened(fitted_head(each.numpy(), groups, domains), each, confidence) for each in features]


def fitted_head(features: Vectors, groups: Integers, domains: int) -> Head:
    """Weights (domains, features) and biases (domains,) of a linear head that predicts the groups (N,).

    It is a logistic regression on standardised features, rewritten for features that are not standardised. A domain
    without pictures gets a logit of NEVER.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-6
    weight, bias = np.zeros((domains, features.shape[1])), np.full(domains, NEVER if domains > 1 else 0.0)
    present = np.unique(groups)
    if len(present) > 1:
        with warnings.catch_warnings():
            # The head goes on training, so a rough fit is enough.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = LogisticRegression(C=PENALTY, max_iter=500).fit((features - mean) / spread, groups)
        rows = np.column_stack([fitted.coef_, fitted.intercept_])
        if len(present) == 2:  # for two classes, scikit-learn has a single row: their difference
            rows = np.concatenate([-rows, rows]) / 2
        weight[present], bias[present] = rows[:, :-1], rows[:, -1]
        weight = weight / spread
        bias = bias - weight @ mean
    else:
        bias[present] = 0.0
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()


def softened(head: Head, features: Tensor, confidence: float) -> Head:
    """The head, scaled down until its mean confidence on the features (N, width) is at most `confidence`.

    The likeliest domain of every picture stays the same. A domain without pictures keeps its very small probability.
    """
    weight, bias = head
    logits, present = features @ weight.T + bias, bias != NEVER

    def mean_confidence(scale: float) -> float:
        return float((scale * logits[:, present]).softmax(1).amax(1).mean())

    low, high = 0.0, 1.0
    if mean_confidence(high) <= confidence:
        return head
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_confidence(middle) < confidence else (low, middle)
    scale = torch.where(present, low, 1.0)
    return weight * scale[:, None], bias * scale

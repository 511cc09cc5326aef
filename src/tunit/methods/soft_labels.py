"""SEMIT's noise-tolerant pseudo-labelling: each unlabelled picture has a soft label, which gradient descent improves.

References:
    [1] Wang et al. Semi-supervised learning for few-shot image-to-image translation, CVPR 2020 (SEMIT).
    [2] Yi, Wu. Probabilistic end-to-end noise correction for learning with noisy labels, CVPR 2019 (PENCIL).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tunit.config import SemitConfig
from tunit.data.batching.batches import Batch
from tunit.methods.losses import without_autocast


@dataclass
class SoftLabels:
    """A distribution over the classes for each of N pictures; it is not used for labelled pictures."""

    logits: Tensor  # (N, K): their softmax is the soft label
    first: Tensor  # (N, K): the soft label that a picture began with

    def named(self) -> dict[str, Tensor]:
        """Both tensors by their names in checkpoints."""
        return {f"soft_labels.{name}": tensor for name, tensor in vars(self).items()}

    def begin(self, batches: Iterable[Tensor]) -> None:
        """Set the first soft labels to the classifier's probabilities: p (B, K) of all pictures, in order."""
        p = torch.cat(list(batches))
        # A probability that underflowed would stay 0 for ever, and its logarithm is not finite.
        self.first.copy_(p.clamp_min(torch.finfo(p.dtype).eps))
        self.logits.copy_(self.first.log())

    def logits_of(self, batch: Batch) -> Tensor:
        """The logits (B, K) of the soft labels of a batch."""
        return self.logits[_index_of(batch)]

    def learn(self, batch: Batch, p: Tensor, weights: SemitConfig) -> None:
        """One step of gradient descent on the logits, for each unlabelled picture by itself.

        The loss of [2] is pseudo_label_weight * KL(p || y) + compatibility_weight * CE(first, y) with
        y = softmax(logits). Its gradient is pseudo_label_weight * (y - p) + compatibility_weight * (y - first).
        p: (B, K), the classifier's probabilities for the batch.
        """
        index = _index_of(batch)
        logits, first = self.logits[index], self.first[index]
        y = logits.softmax(1)
        gradient = weights.pseudo_label_weight * (y - mean_of_same(index, p))
        gradient = gradient + weights.compatibility_weight * (y - first)
        step = weights.soft_label_rate * gradient
        self.logits[index] = torch.where((batch.y < 0)[:, None], logits - step, logits)

    def classes(self, batch: Batch) -> Tensor:
        """The class (B,) of each picture: its label, or the likeliest class of its soft label."""
        return torch.where(batch.y >= 0, batch.y, self.logits[_index_of(batch)].argmax(1))


def new_soft_labels(pictures: int, classes: int, device: torch.device) -> SoftLabels:
    """Soft labels before `begin`: zeros."""
    return SoftLabels(*(torch.zeros(pictures, classes, device=device) for _ in range(2)))


def mean_of_same(index: Tensor, p: Tensor) -> Tensor:
    """Replace each row of p (B, K) by the mean of the rows with the same index (B,).

    A batch that spans two epochs may hold a picture twice. Its rows must be equal before they are written back, or
    the order of writing would decide which one is kept.
    """
    same = (index[:, None] == index).to(p.dtype)
    with without_autocast(p):
        return same @ p / same.sum(1, keepdim=True)


def _index_of(batch: Batch) -> Tensor:
    assert batch.index is not None  # a batch of packed pictures always has it
    return batch.index

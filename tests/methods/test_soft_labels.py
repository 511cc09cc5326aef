"""Noise-tolerant pseudo-labelling: losses compared with scipy and closed forms, soft labels with autograd."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from tunit.config import SemitConfig
from tunit.data.batching.batches import Batch, make_batch
from tunit.methods import losses
from tunit.methods.soft_labels import SoftLabels, mean_of_same, new_soft_labels

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def batch_of(y: list[int], index: list[int]) -> Batch:
    x = torch.zeros(len(y), 3, 4, 4, dtype=torch.float64)
    return make_batch(x, x, torch.tensor(y), torch.tensor(index))


def labels_of(pictures: int, classes: int) -> SoftLabels:
    labels = new_soft_labels(pictures, classes, torch.device("cpu"))
    return SoftLabels(labels.logits.double(), labels.first.double())


# ---- losses ----


def compatibility(label_logits: Tensor, first: Tensor, weight: Tensor | None = None) -> Tensor:
    """PENCIL's compatibility loss: cross-entropy of the soft labels, with the first ones (B, K) as targets.

    `SoftLabels.learn` has only its gradient.
    """
    return losses.weighted_mean(-(first * label_logits.log_softmax(1)).sum(1), weight)


def test_the_three_losses_equal_those_of_scipy() -> None:
    logits, label_logits, first = noise(5, 4), noise(5, 4, seed=1), noise(5, 4, seed=2).softmax(1)
    weight = np.array([1.0, 0, 0.5, 2, 1])
    p, y = logits.softmax(1).numpy(), label_logits.softmax(1).numpy()
    # Cross-entropy is entropy plus divergence.
    of_first = entropy(first.numpy(), axis=1) + entropy(first.numpy(), y, axis=1)
    for found, each in (
        (
            losses.pseudo_label_divergence(logits, label_logits, torch.from_numpy(weight)),
            entropy(p, y, axis=1),
        ),
        (compatibility(label_logits, first, torch.from_numpy(weight)), of_first),
        (losses.prediction_entropy(logits, torch.from_numpy(weight)), entropy(p, axis=1)),
    ):
        assert found.item() == pytest.approx(np.average(each, weights=weight), rel=1e-12)
    assert losses.prediction_entropy(logits).item() == pytest.approx(entropy(p, axis=1).mean(), rel=1e-12)


def test_closed_forms() -> None:
    uniform, logits = torch.zeros(2, 3, dtype=torch.float64), noise(2, 3)
    assert losses.prediction_entropy(uniform).item() == pytest.approx(math.log(3), rel=1e-12)
    assert losses.pseudo_label_divergence(logits, logits + 7).item() == pytest.approx(0, abs=1e-12)
    # With uniform labels, divergence plus entropy is ln 3.
    found = losses.pseudo_label_divergence(logits, uniform) + losses.prediction_entropy(logits)
    assert found.item() == pytest.approx(math.log(3), rel=1e-12)
    # If the classifier is certain of one class, the divergence is -log of that class's label.
    sure = torch.tensor([[1000.0, 0, 0]], dtype=torch.float64)
    labels = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    assert losses.pseudo_label_divergence(sure, labels).item() == pytest.approx(math.log(2), rel=1e-12)


def test_cross_entropy_uses_only_labelled_pictures() -> None:
    logits = noise(4, 3)
    p = logits.softmax(1)
    expected = -(p[0, 2].log() + p[3, 0].log()) / 2
    found = losses.labelled_cross_entropy(logits, torch.tensor([2, -1, -1, 0]))
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    assert losses.labelled_cross_entropy(logits, torch.full((4,), -1)).item() == 0


# ---- soft labels ----


def test_soft_labels_start_as_the_classifiers_predictions() -> None:
    labels, p = labels_of(5, 3), noise(5, 3).softmax(1)
    labels.begin(iter([p[:3], p[3:]]))
    torch.testing.assert_close(labels.first, p, atol=0, rtol=0)
    found = labels.logits_of(batch_of([-1, 2, -1], [4, 1, 0])).softmax(1)
    torch.testing.assert_close(found, p[[4, 1, 0]], atol=1e-12, rtol=0)


def test_a_probability_of_zero_gives_finite_labels() -> None:
    labels = new_soft_labels(1, 2, torch.device("cpu"))
    labels.begin([torch.tensor([[1.0, 0.0]])])
    assert labels.logits.isfinite().all()
    labels.learn(batch_of([-1], [0]), torch.tensor([[0.0, 1.0]]), SemitConfig())
    assert labels.logits.isfinite().all()


@pytest.mark.parametrize(
    "weights", [SemitConfig(), SemitConfig(pseudo_label_weight=0.3, compatibility_weight=0.7)]
)
def test_one_update_is_a_step_along_autograds_gradient(weights: SemitConfig) -> None:
    labels = labels_of(5, 4)
    index, y = [3, 0, 4], [-1, 1, -1]
    batch = batch_of(y, index)
    labels.begin([noise(5, 4).softmax(1)])
    logits = noise(3, 4, seed=1)  # the classifier has changed since then
    leaf = labels.logits.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for row, i in enumerate(index):
        if y[row] < 0:
            total = total + weights.pseudo_label_weight * losses.pseudo_label_divergence(
                logits[row : row + 1], leaf[i : i + 1]
            )
            total = total + weights.compatibility_weight * compatibility(
                leaf[i : i + 1], labels.first[i : i + 1]
            )
    total.backward()
    expected = leaf.detach() - weights.soft_label_rate * leaf.grad
    labels.learn(batch, logits.softmax(1), weights)
    torch.testing.assert_close(labels.logits, expected, atol=1e-12, rtol=0)
    assert (labels.logits - leaf)[3].abs().max() > 1e-2


def test_a_label_converges_between_its_start_and_a_constant_classifier() -> None:
    """The minimum of KL(p || y) + w CE(first, y) is y = (p + w first) / (1 + w)."""
    labels, weights = labels_of(1, 3), SemitConfig(compatibility_weight=0.25)
    first, p = torch.tensor([[[0.7, 0.2, 0.1]], [[0.1, 0.1, 0.8]]], dtype=torch.float64)
    batch = batch_of([-1], [0])
    labels.begin([first])
    assert labels.classes(batch).tolist() == [0]
    for _ in range(1000):
        labels.learn(batch, p, weights)
    torch.testing.assert_close(labels.logits.softmax(1), (p + 0.25 * first) / 1.25, atol=1e-9, rtol=0)
    assert labels.classes(batch).tolist() == [2]  # so that noisy labels can be corrected


def test_a_picture_drawn_twice_counts_once_with_its_mean() -> None:
    twice, once = labels_of(3, 3), labels_of(3, 3)
    p = noise(3, 3).softmax(1)
    mean = torch.stack([(p[0] + p[2]) / 2, p[1]])
    torch.testing.assert_close(mean_of_same(torch.tensor([1, 0, 1]), p)[[0, 1]], mean, atol=1e-15, rtol=0)
    for labels, batch, seen in (
        (twice, batch_of([-1, -1, -1], [1, 0, 1]), p),
        (once, batch_of([-1, -1], [1, 0]), mean),
    ):
        labels.begin([noise(3, 3, seed=4).softmax(1)])
        labels.learn(batch, seen, SemitConfig())
    torch.testing.assert_close(twice.logits, once.logits, atol=1e-12, rtol=0)


def test_the_class_is_the_label_if_there_is_one() -> None:
    labels = labels_of(3, 3)
    batch = batch_of([-1, 0, 1], [2, 1, 0])
    labels.begin([torch.tensor([[0.1, 0.2, 0.7]] * 3).double()])
    assert labels.classes(batch).tolist() == [2, 0, 1]

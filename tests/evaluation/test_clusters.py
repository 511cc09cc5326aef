import itertools

import numpy as np
import pytest
from sklearn.metrics.cluster import contingency_matrix

from tunit.evaluation.clusters import clustering_accuracy, confusion_matrix, domain_names


def literal_accuracy(domains, classes):
    """The best over every one-to-one matching, tried one by one."""
    k = max(domains.max(), classes.max()) + 1
    return max(np.mean(np.array(match)[domains] == classes) for match in itertools.permutations(range(k)))


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_is_that_of_the_best_matching(seed):
    rng = np.random.default_rng(seed)
    domains, classes = rng.integers(0, 5, 60), rng.integers(0, 4, 60)
    assert clustering_accuracy(domains, classes) == pytest.approx(
        literal_accuracy(domains, classes), abs=1e-12
    )


def test_accuracy_of_a_relabelled_truth_is_1_and_of_one_cluster_the_largest_class():
    classes = np.repeat(np.arange(6), 10)
    assert clustering_accuracy((classes + 2) % 6, classes) == 1.0
    assert clustering_accuracy(np.zeros(60, np.int64), classes) == pytest.approx(1 / 6)


def test_confusion_matrix_against_scikit_learn():
    rng = np.random.default_rng(0)
    domains, classes = rng.integers(0, 4, 100), rng.integers(0, 3, 100)
    assert (confusion_matrix(domains, classes) == contingency_matrix(domains, classes)).all()


def test_domains_are_named_after_the_class_they_hold_most_of():
    assert domain_names(np.array([0, 0, 0, 2]), np.array([1, 1, 0, 0]), ["fox", "owl"]) == {
        0: "owl",
        2: "fox",
    }

import itertools

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.metrics.pairwise import cosine_distances

from tunit.evaluation.clusters import (
    adjusted_rand_index,
    clustering_accuracy,
    confusion_matrix,
    domain_names,
    domain_sizes,
    inter_over_intra,
    normalised_mutual_information,
    purity,
)


def literal_accuracy(domains, classes):
    """The best over all one-to-one matchings, each of which is tried."""
    k = max(domains.max(), classes.max()) + 1
    return max(np.mean(np.array(match)[domains] == classes) for match in itertools.permutations(range(k)))


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_equals_that_of_the_best_matching(seed):
    rng = np.random.default_rng(seed)
    domains, classes = rng.integers(0, 5, 60), rng.integers(0, 4, 60)
    assert clustering_accuracy(domains, classes) == pytest.approx(
        literal_accuracy(domains, classes), abs=1e-12
    )


def test_accuracy_of_renamed_classes_is_1_and_of_one_cluster_the_largest_share():
    classes = np.repeat(np.arange(6), 10)
    assert clustering_accuracy((classes + 2) % 6, classes) == 1.0
    assert clustering_accuracy(np.zeros(60, np.int64), classes) == pytest.approx(1 / 6)


def test_confusion_matrix_against_scikit_learn():
    rng = np.random.default_rng(0)
    domains, classes = rng.integers(0, 4, 100), rng.integers(0, 3, 100)
    assert (confusion_matrix(domains, classes) == contingency_matrix(domains, classes)).all()


def test_domains_are_named_after_their_most_frequent_class():
    assert domain_names(np.array([0, 0, 0, 2]), np.array([1, 1, 0, 0]), ["fox", "owl"]) == {
        0: "owl",
        2: "fox",
    }


@pytest.mark.parametrize("seed", range(5))
def test_nmi_and_ari_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, 80)
    domains = np.where(rng.random(80) < 0.6, classes, rng.integers(0, 6, 80))
    assert normalised_mutual_information(domains, classes) == pytest.approx(
        normalized_mutual_info_score(classes, domains), abs=1e-12
    )
    assert adjusted_rand_index(domains, classes) == pytest.approx(
        adjusted_rand_score(classes, domains), abs=1e-12
    )


def test_nmi_and_ari_of_single_groups():
    one, two = np.zeros(10, np.int64), np.repeat([0, 1], 5)
    assert normalised_mutual_information(one, one) == adjusted_rand_index(one, one) == 1
    assert normalised_mutual_information(one, two) == adjusted_rand_index(one, two) == 0
    single = np.zeros(1, np.int64)
    assert adjusted_rand_index(single, single) == adjusted_rand_score(single, single) == 1


def test_purity_lets_a_class_have_several_domains():
    classes = np.repeat([0, 1], 6)
    domains = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 0])
    assert purity(domains, classes) == pytest.approx(11 / 12)
    assert clustering_accuracy(domains, classes) == pytest.approx(6 / 12)


def literal_ioi(styles, domains):
    distances = cosine_distances(styles)
    inter = [distances[i, j] for i in range(len(styles)) for j in range(i) if domains[i] != domains[j]]
    intra = [distances[i, j] for i in range(len(styles)) for j in range(i) if domains[i] == domains[j]]
    return np.mean(inter) / np.mean(intra)


@pytest.mark.parametrize("seed", range(3))
def test_ioi_is_the_ratio_of_means_over_all_pairs(seed):
    rng = np.random.default_rng(seed)
    domains = rng.integers(0, 4, 50)
    styles = rng.normal(size=(50, 7)) + 2 * rng.normal(size=(4, 7))[domains]
    assert inter_over_intra(styles, domains) == pytest.approx(literal_ioi(styles, domains), rel=1e-9)
    assert inter_over_intra(3 * styles, domains + 2) == pytest.approx(literal_ioi(styles, domains), rel=1e-9)


@pytest.mark.parametrize("domains", [[0, 0, 0], [0, 1, 2], [0, 0, 1]])
def test_ioi_is_none_without_pairs_or_distances(domains):
    same = np.ones((3, 4))
    assert inter_over_intra(same, np.array(domains)) is None


def test_domain_sizes():
    found = domain_sizes(np.array([0, 0, 2, 2]), 4)
    assert found.sizes == [2, 0, 2, 0]
    assert found.entropy == pytest.approx(np.log(2))
    assert found.effective == pytest.approx(2)


def test_an_empty_last_domain_has_a_row():
    assert confusion_matrix(np.array([0]), np.array([1]), 3).tolist() == [[0, 1], [0, 0], [0, 0]]


def test_the_entropy_of_a_single_group_is_printed_without_a_sign():
    assert str(domain_sizes(np.array([0, 0]), 2).entropy) == "0.0"

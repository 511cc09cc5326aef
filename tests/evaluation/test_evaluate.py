"""The whole evaluation of a tiny model, compared with the same figures computed by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy import linalg

from tiny_model import DOMAINS, noise, tiny_model, to_input
from tunit.data.batching.augment import to_uint8
from tunit.data.creatures.picture_set import sample_creatures
from tunit.errors import DataError
from tunit.evaluation import evaluate
from tunit.evaluation.clusters import clustering_accuracy
from tunit.evaluation.evaluate import compare_sets, evaluate_model, mean_of
from tunit.evaluation.intervals import Figure
from tunit.evaluation.protocol import class_pairings
from tunit.evaluation.result import Evaluation, Labelled
from tunit.evaluation.truth import EXACT_ERROR, truth_test_of
from tunit.features.feature_networks import FeatureNetwork

pytestmark = pytest.mark.usefixtures("one_thread", "narrow_vgg")
NUMBER = 36


def coarse(x):
    """A feature network that is easy to compute by hand: means of 8 x 8 blocks."""
    return torch.nn.functional.avg_pool2d(x, 8)


NETWORK = FeatureNetwork("coarse", coarse, torch.device("cpu"))


def by_hand(pictures):
    blocks = np.asarray(pictures, np.float64).reshape(len(pictures), 4, 8, 4, 8, 3).mean((2, 4)) / 255
    return blocks.transpose(0, 3, 1, 2).reshape(len(pictures), -1)


def textbook_fid(a, b):
    root = linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return means + np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False)) - 2 * np.trace(root)


@pytest.fixture(scope="module")
def pictures():
    held = np.stack([noise(seed) for seed in range(NUMBER)])
    train = np.stack([noise(seed) for seed in range(100, 190)])
    classes = np.arange(NUMBER) % 3
    return Labelled(held, classes, ["a", "b", "c"]), Labelled(train, np.arange(90) % 3, ["a", "b", "c"])


@pytest.fixture(scope="module")
def result(pictures):
    torch.set_num_threads(1)
    return evaluate_model(tiny_model(), *pictures, NETWORK)


@torch.no_grad()
def translations_into(model, held, k):
    pairing = class_pairings(held.classes)[k]
    out = []
    for i, j in zip(pairing.sources, pairing.references, strict=True):
        style = model.guide(to_input(held.images[j])).style
        out.append(to_uint8(model.generator(to_input(held.images[i]), style))[0].numpy())
    return np.stack(out), pairing


def test_figures_of_a_class_equal_those_computed_by_hand(result, pictures):
    held, train = pictures
    for k, name in enumerate("abc"):
        fake = by_hand(translations_into(tiny_model(), held, k)[0])
        real = by_hand(train.images[train.classes == k])
        expected = compute_prdc(real, fake, nearest_k=5)
        figures = result.groups[name]
        assert figures["FID"].value == pytest.approx(textbook_fid(real, fake), rel=5e-3)
        assert figures["density"].value == pytest.approx(expected["density"], abs=0.02)
        assert figures["coverage"].value == pytest.approx(expected["coverage"], abs=0.04)
        assert figures["coverage"].number == 30
    fids = [figures["FID"].value for figures in result.groups.values()]
    assert result.figures["mFID"].value == pytest.approx(np.mean(fids))


@torch.no_grad()
def test_clustering_and_style_figures_equal_those_computed_by_hand(result, pictures):
    held, _ = pictures
    model = tiny_model()
    found = np.array([int(model.guide(to_input(x)).logits.argmax()) for x in held.images])
    assert result.domain_sizes == np.bincount(found, minlength=DOMAINS).tolist()
    assert result.figures["accuracy"].value == pytest.approx(clustering_accuracy(found, held.classes))
    reached, cosines = [], []
    for k in range(3):
        out, pairing = translations_into(model, held, k)
        for picture, j in zip(out, pairing.references, strict=True):
            seen, reference = model.guide(to_input(picture)), model.guide(to_input(held.images[j]))
            reached.append(int(seen.logits.argmax()) == found[j])
            cosines.append(float(torch.cosine_similarity(seen.style, reference.style)))
    assert result.figures["reference's domain reached"].value == pytest.approx(np.mean(reached), abs=0.03)
    assert result.figures["cosine to the reference's style"].value == pytest.approx(
        np.mean(cosines), abs=2e-3
    )
    assert result.figures["cosine to the reference's style"].number == 72


def test_the_whole_result_is_json_with_intervals_and_times(result):
    found = json.loads(json.dumps(result.as_json()))
    assert found["features"] == "coarse"
    for figure in found["figures"].values():
        if isinstance(figure, dict):
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert figure["number"] > 0
    assert {"translation", "comparison", "domains"} <= found["seconds"].keys()
    assert sum(map(sum, found["confusion"])) == NUMBER


@pytest.mark.parametrize(
    ("label", "names", "note"), [(-1, [], "no classes are known"), (0, ["cat"], "only one class is known")]
)
def test_without_two_classes_the_groups_are_the_domains(pictures, label, names, note):
    held, train = pictures
    unknown = [Labelled(x.images, np.full(len(x.images), label), names) for x in (held, train)]
    result = evaluate_model(tiny_model(), *unknown, NETWORK)
    assert result.grouped_by == "domain"
    assert set(result.groups) <= {f"domain {k}" for k in range(DOMAINS)}
    assert "accuracy" not in result.figures
    assert {"FID of all", "KID of all", "precision of all", "recall of all"} <= result.figures.keys()
    assert any(text.startswith(note) for text in result.notes)


def test_a_class_with_few_pictures_gets_a_note_and_others_are_reported(pictures):
    held, train = pictures
    few = np.where(train.classes == 1, -1, train.classes)
    few[1] = 1
    result = evaluate_model(tiny_model(), held, Labelled(train.images, few, train.names), NETWORK)
    assert result.groups["b"] == {}
    assert {"FID", "density", "coverage"} <= result.groups["a"].keys()
    assert "mFID" in result.figures
    assert any(note.startswith("b: 1 real picture and ") for note in result.notes)


def test_more_classes_than_domains_gets_a_note(pictures):
    held, train = pictures
    classes = np.arange(NUMBER) % 6
    names = list("abcdef")
    result = evaluate_model(
        tiny_model(),
        Labelled(held.images, classes, names),
        Labelled(train.images, train.classes, names),
        NETWORK,
    )
    assert any("3 domains cannot match 6 classes" in note for note in result.notes)
    result = evaluate_model(
        tiny_model(),
        Labelled(held.images, classes % 2, names),
        Labelled(train.images, train.classes, names),
        NETWORK,
    )
    assert any(
        "1 of 3 domains has no class of its own, so it counts as wrong" in note for note in result.notes
    )


def test_compare_sets_refuses_too_few_pictures_and_accepts_identical_features():
    with pytest.raises(DataError, match="too few"):
        compare_sets(torch.randn(1, 3), torch.randn(50, 3))
    same = compare_sets(torch.ones(20, 3), torch.ones(20, 3)).figures
    assert same["FID"].value == pytest.approx(0, abs=1e-9)
    assert same["coverage"].value == 0


def test_few_pictures_leave_out_only_figures_that_need_more():
    torch.manual_seed(0)
    few, many = torch.randn(5, 3), torch.randn(40, 3) + 0.5
    made = compare_sets(many, few)  # too few translations for their balls, so no recall
    assert made.figures.keys() == {"FID", "KID", "density", "coverage", "precision"}
    assert made.figures["FID"].value == pytest.approx(textbook_fid(many.numpy(), few.numpy()), rel=5e-3)
    assert [note.split(":")[0] for note in made.notes[:1]] == ["recall"]
    real = compare_sets(few, many)  # too few real pictures for their balls
    assert real.figures.keys() == {"FID", "KID", "recall"}
    # Recall is precision with real pictures and translations exchanged.
    assert real.figures["recall"].value == pytest.approx(made.figures["precision"].value)
    assert "precision: these need at least 6 real pictures, and there are 5" in real.notes[0]
    smallest = compare_sets(few[:2], many[:2])
    assert smallest.figures.keys() == {"FID"}
    assert any(note.startswith("KID: this needs at least 4") for note in smallest.notes)


def test_overall_figures_are_of_some_translations_if_there_are_many(pictures, monkeypatch):
    held, train = pictures
    monkeypatch.setattr(evaluate, "MOST_TRANSLATIONS", 25)
    kept = [int(rows.sum()) for rows in evaluate._kept([30, 40, 50], seed=1)]
    assert sum(kept) == 25
    assert min(kept) > 0
    result = evaluate_model(tiny_model(), held, train, NETWORK)
    assert result.figures["FID of all"].number == 25
    assert sum(figures["FID"].number for figures in result.groups.values()) > 25


def test_with_a_single_group_random_pairs_are_measured(pictures):
    held, train = pictures
    one = [Labelled(x.images, np.zeros(len(x.images), np.int64), ["a"]) for x in (held, train)]
    model = tiny_model()
    with torch.no_grad():
        model.guide.domain_head.bias[0] += 1e6  # every picture is in domain 0
    result = evaluate_model(model, *one, NETWORK, most_sources=20)
    assert result.domain_sizes == [len(held.images), 0, 0]
    assert {"FID of all", "KID of all", "cycle error (grey levels)"} <= result.figures.keys()
    assert result.groups == {}
    assert any("random pairs" in note for note in result.notes)
    for most, number in ((20, 20), (0, NUMBER), (500, NUMBER)):
        result = evaluate_model(model, *one, NETWORK, most_sources=most, beside_trivial=False)
        assert result.figures["FID of all"].number == number
    single = Labelled(held.images[:1], np.array([-1]), [])
    result = evaluate_model(model, single, one[1], NETWORK)
    assert any("a single picture" in note for note in result.notes)


def test_the_interval_of_a_mean_shrinks_with_more_values():
    mean = mean_of([Figure(1.0, 0.0, 2.0, 5), Figure(3.0, 2.0, 4.0, 7)])
    assert (mean.value, mean.number) == (2.0, 12)
    assert mean.high - mean.value == pytest.approx(2**0.5 / 2)


def test_the_interval_of_a_distance_that_cannot_be_negative_ends_at_0():
    torch.manual_seed(1)
    a = torch.randn(36, 40)
    near = compare_sets(a, a + 0.001 * torch.randn_like(a)).figures
    assert near["FID"].low == 0 < near["FID"].value
    assert near["KID"].low < 0  # its estimate is unbiased, so it may be negative
    mean = mean_of([near["FID"], near["FID"]])
    assert mean.low == 0
    assert mean.high - mean.value == pytest.approx((near["FID"].high - near["FID"].value) / 2**0.5)


@pytest.mark.parametrize("broken", ["none", "not finite"])
def test_without_usable_features_the_other_figures_are_reported(pictures, broken):
    nan = FeatureNetwork("nan", lambda x: x.mean((2, 3)) / 0 * 0, torch.device("cpu"))
    result = evaluate_model(tiny_model(), *pictures, None if broken == "none" else nan)
    assert {"accuracy", "reference's domain reached", "cycle error (grey levels)"} <= result.figures.keys()
    assert "mFID" not in result.figures
    if broken == "not finite":
        assert "nan gives features that are not finite for 90 of 90 pictures" in result.notes[0]


def test_a_group_whose_features_are_not_all_finite_has_one_note_and_no_figures_of_features(pictures):
    held, train = pictures
    many = Labelled(np.concatenate([held.images] * 6), np.tile(held.classes, 6), held.names)
    calls = []

    def sometimes_nan(x):
        calls.append(len(x))
        features = coarse(x).clone()
        features[0, 0] = torch.nan if len(calls) == 3 else 0.5  # 1 and 2 are the real pictures
        return features

    result = evaluate_model(
        tiny_model(), many, train, FeatureNetwork("sometimes", sometimes_nan, torch.device("cpu"))
    )
    (note,) = (note for note in result.notes if "not finite" in note)
    assert note.startswith("features of translations into a: sometimes gives")
    assert calls == [64, 26, 64, *(2 * [64, 64, 16])]  # no more of the first class's
    assert result.groups.keys() == {"b", "c"}
    assert result.figures["FID of all"].number == 2 * 144


def test_of_a_method_that_learns_no_domains_only_translations_are_measured(pictures, monkeypatch):
    monkeypatch.setattr(evaluate, "method_of", lambda config: SimpleNamespace(learns_domains=False))
    result = evaluate_model(tiny_model(), *pictures, NETWORK)
    assert "mFID" in result.figures
    assert not {"accuracy", "confidence", "reference's domain reached"} & result.figures.keys()
    assert result.trivial.rows == {}


def test_without_an_error_of_the_naive_answer_there_is_no_ratio():
    """The creatures of each pair are alike, so the source is the exact answer."""
    result = Evaluation()
    test = truth_test_of(tuple((creature, creature) for creature in sample_creatures(2, 3)), 32)
    evaluate._against_truth(result, tiny_model(), test)
    assert list(result.figures) == [EXACT_ERROR]
    assert result.figures[EXACT_ERROR] > 0
    assert result.notes == [
        "exact truth: no ratio, because the sources or the references are the exact answers"
    ]

"""The number of domains, found in sets whose number is known: groups of random vectors, drawn here."""

import dataclasses
import re

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import adjusted_rand_score

from gaussian_groups import blobs
from tunit.clustering import number
from tunit.clustering.choice import Candidate, Choice, read_choice, read_choice_file, write_choice_file
from tunit.clustering.dip import critical_dip, dip
from tunit.clustering.merging import merge_unconfirmed
from tunit.clustering.number import choose_number, components_of_variance
from tunit.clustering.separation import held_out_separation, separation
from tunit.clustering.ward import levels
from tunit.errors import RunError
from tunit.files.reading import Record, UnreadableError

MOST = 20


def heaps(sizes, axes=8, apart=7.0, seed=0):
    """Gaussian groups of these sizes, rotated at random in 40 dimensions; their centres form a simplex."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(len(sizes)), sizes)
    points = rng.normal(size=(len(classes), axes))
    points[:, : len(sizes)] += apart / np.sqrt(2) * np.eye(len(sizes))[classes]
    rotation = np.linalg.qr(rng.normal(size=(40, axes)))[0]
    return points @ rotation.T, classes


@pytest.mark.parametrize(
    "sizes",
    [[400], [150, 150], [80] * 3, [60] * 5, [50] * 8, [400, 20], [400, 200, 80, 20]],
    ids=["one", "two", "three", "five", "eight", "1 to 20", "1 to 20, four"],
)
def test_the_number_of_groups_is_found(sizes):
    codes, classes = heaps(sizes, axes=max(8, len(sizes)))
    choice, found = choose_number(codes, MOST, seed=0)
    assert choice.domains == len(sizes)
    assert adjusted_rand_score(classes, found) > 0.9
    assert np.bincount(found).tolist() == sorted(np.bincount(found), reverse=True)
    assert choice.candidates[0].domains == choice.domains and choice.candidates[0].score == 1
    assert choice.reasons and choice.pictures == sum(sizes)


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((30, 4)),
        np.ones((1, 4)),
        np.random.default_rng(0).normal(size=(3, 128)),
        np.random.default_rng(0).uniform(size=(400, 2)),
        np.random.default_rng(0).normal(size=(40, 8)),
        np.random.default_rng(0).normal(size=(100, 11)) * np.linspace(2, 0.5, 11),
        np.repeat(np.random.default_rng(0).normal(size=(4, 6)), 2, axis=0),
    ],
    ids=["all alike", "one picture", "three pictures", "an even square", "few", "few and long", "copies"],
)
def test_data_without_groups_give_one_domain(codes):
    choice, found = choose_number(codes.astype(np.float32), MOST, seed=0)
    assert choice.domains == 1 and not found.any()


@pytest.mark.parametrize("apart", [1.5, 2.0])
def test_kinds_whose_pictures_differ_more_than_the_kinds_are_not_cut_across(apart):
    """Three bars side by side, three to four times as long as they are apart: Ward's groups cut across them."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(3), 100)
    codes = np.column_stack([rng.uniform(0, 6, 300), apart * kinds, np.zeros(300)])
    codes += rng.normal(0, 0.15, codes.shape)
    wards = levels(codes, 3, seed=0)[3].groups
    assert adjusted_rand_score(kinds, wards) < 0.9
    choice, found = choose_number(codes.astype(np.float32), MOST, seed=0)
    assert choice.domains == 3 and adjusted_rand_score(kinds, found) == 1


def test_the_number_never_exceeds_the_limit():
    codes, _ = heaps([40] * 8)
    assert choose_number(codes, 5, seed=0)[0].domains <= 5


@pytest.mark.parametrize(
    ("groups", "each", "most", "found", "why"),
    [
        (60, 20, 80, 60, None),
        (60, 20, 40, 40, "40 is the largest number that could be found (--most-domains is 40)"),
        (3, 6, 40, 2, "2 is the largest number that could be found (there are only 18 pictures)"),
        (2, 7, 40, 2, "2 is the largest number that could be found (there are only 14 pictures)"),
    ],
)
def test_many_groups_are_found_and_a_limit_that_decides_is_named(groups, each, most, found, why):
    """Groups that are far apart."""
    rng = np.random.default_rng(0)
    codes = np.repeat(20 * rng.normal(size=(groups, 16)), each, axis=0)
    codes += 0.5 * rng.normal(size=codes.shape)
    choice, _ = choose_number(codes.astype(np.float32), most, seed=0)
    assert choice.domains == found
    if why is None:
        assert "largest number" not in " ".join(choice.reasons)
    else:
        assert choice.reasons[0] == f"{why}: there may be more domains"


@pytest.mark.parametrize(("pictures", "limited"), [(2, True), (9, True), (11, True), (12, False)])
def test_longer_training_is_advised_only_if_there_are_pictures_enough_for_two_domains(pictures, limited):
    """Groups have five pictures or more, also in clusterings of four fifths of the pictures: two need twelve."""
    codes = np.random.default_rng(0).normal(size=(pictures, 8)).astype(np.float32)
    said = choose_number(codes, MOST, seed=0)[0].reasons
    limit = f"1 is the largest number that could be found (two need at least 12 pictures, and there are {pictures})"
    assert (said[0] == f"{limit}: add pictures, or give --domains") == limited
    assert any("train alone for longer" in reason for reason in said) != limited


def test_the_same_seed_gives_the_same_number():
    codes, _ = heaps([60] * 4)
    (one, first), (other, second) = (choose_number(codes, MOST, seed=3) for _ in range(2))
    assert one == other and (first == second).all()


def shades(kinds=4, each=80, seed=0):
    """Codes that split every kind by a brightness, and two cues. In one cue the kinds are separate groups; the other
    has only a continuous brightness.
    """
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(kinds), each)
    shade = rng.uniform(size=len(classes))
    halves = 2 * classes + (shade > 0.5)
    codes = 7 * np.eye(2 * kinds)[halves] / np.sqrt(2) + rng.normal(size=(len(classes), 2 * kinds))
    colours = np.column_stack([8 * np.eye(kinds)[classes], 4 * shade]) + rng.normal(
        size=(len(classes), kinds + 1)
    )
    noise = rng.normal(size=(len(classes), 15))
    return codes, classes, halves, colours, noise


def test_halves_that_differ_by_a_continuous_brightness_are_one_kind():
    codes, classes, halves, colours, noise = shades()
    without, found = choose_number(codes, MOST, seed=0)
    assert without.domains == 8 and adjusted_rand_score(halves, found) > 0.95
    choice, found = choose_number(codes, MOST, seed=0, cues={"noise": noise, "colours": colours})
    assert choice.domains == 4 and adjusted_rand_score(classes, found) > 0.95
    assert choice.candidates[0].domains == 4 and any(
        "4 of the 8 groups" in reason for reason in choice.reasons
    )
    assert len(np.unique(found)) == 4 and sorted(np.bincount(found)) == [80] * 4


def test_cues_that_separate_nothing_are_ignored():
    codes, _, _, _, noise = shades()
    assert choose_number(codes, MOST, seed=0, cues={"noise": noise})[0].domains == 8


def test_a_tiny_group_does_not_make_useless_cues_count():
    """Five groups that noise cannot separate; one of them is too small to be judged. Nothing is merged."""
    groups = np.repeat(np.arange(5), [60, 60, 60, 60, 6])
    noise = np.random.default_rng(3).normal(size=(len(groups), 4))
    assert (merge_unconfirmed([noise], groups, seed=0) == groups).all()
    tiny = np.repeat(np.arange(3), 6)  # none can be judged
    assert (merge_unconfirmed([noise[: len(tiny)]], tiny, seed=0) == tiny).all()


def test_a_kind_that_only_one_cue_separates_is_kept():
    _, _, halves, colours, noise = shades()
    halved = np.column_stack([9.0 * (halves % 2), noise])  # this cue separates the halves and nothing else
    assert (merge_unconfirmed([colours, halved], halves, seed=0) == halves).all()


def test_held_out_separation_does_not_overfit_in_many_dimensions():
    """Random halves of one round group: in 30 dimensions there is always a direction that separates the pictures from
    which it was computed.
    """
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 40, 30))
    assert held_out_separation(one, other, seed=0) < 1 < held_out_separation(one, other + 1.5, seed=0)
    assert held_out_separation(one[:9], other, seed=0) == np.inf


def test_held_out_separation_agrees_with_scikit_learn():
    """With many pictures in few dimensions, the direction computed without one picture is close to that of
    scikit-learn's linear discriminant.
    """
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(2, 400, 3))
    other += [4, 2, 0]
    fitted = LinearDiscriminantAnalysis().fit(np.concatenate([one, other]), np.repeat([0, 1], 400))
    values = [np.sort(fitted.decision_function(group)) for group in (one, other)]
    both = np.concatenate([value[np.linspace(0, 399, 300).round().astype(int)] for value in values])
    assert held_out_separation(one, other, seed=0) == pytest.approx(dip(both) / critical_dip(600), rel=0.05)


def test_long_groups_side_by_side_are_counted_right():
    """Brightness varies within a kind more than kinds differ from each other. Ward's method cuts such groups across
    first.
    """
    rng = np.random.default_rng(5)
    codes = rng.normal(scale=0.2, size=(600, 6))
    codes[:, 0] += rng.uniform(0, 6, size=600)
    classes = np.arange(600) % 2
    codes[:, 1] += 2 * classes
    across = levels(components_of_variance(codes), MOST, seed=0)[2].groups
    assert adjusted_rand_score(classes, across) < 0.1
    choice, found = choose_number(codes, MOST, seed=0)
    assert choice.domains == 2 and choice.candidates[0].domains == 2
    assert adjusted_rand_score(classes, found) > 0.95


def test_a_large_group_does_not_absorb_a_small_one():
    codes, classes = heaps([600, 20])
    points = components_of_variance(codes)
    assert separation(points[classes == 0], points[classes == 1]) > 1.2
    half = np.arange(300)
    assert separation(points[half], points[half + 300]) < 1.2


def test_levels_merge_two_groups_at_a_time():
    found = levels(components_of_variance(heaps([50] * 4)[0]), MOST, seed=0)
    assert sorted(found) == list(range(1, MOST + 1))
    for k in range(1, MOST):
        pairs = set(zip(found[k + 1].groups.tolist(), found[k].groups.tolist(), strict=True))
        assert len(pairs) == k + 1  # each group goes into exactly one


CHOICE = Choice(
    3, (Candidate(3, 1.0, {"splits": 2.0}), Candidate(4, 0.5, {"splits": 1.5})), ("because",), 1200, 7
)


def test_a_choice_is_written_and_read_back(tmp_path):
    assert read_choice_file(tmp_path) is None
    write_choice_file(tmp_path, CHOICE)
    assert read_choice_file(tmp_path) == CHOICE
    assert CHOICE.headline == "3 domains found among 1,200 pictures (score 1.00); runners-up: 4 (0.50)"


def test_the_number_before_groups_were_merged_is_no_runner_up():
    candidates = tuple(Candidate(k, score, {}) for k, score in ((3, 0.2), (5, 1.0), (4, 0.5)))
    said = dataclasses.replace(CHOICE, candidates=candidates).headline
    assert said == (
        "3 domains found among 1,200 pictures (5 before groups were merged, score 1.00); runners-up: 4 (0.50)"
    )


def test_after_a_merge_the_number_before_it_keeps_the_score_1(monkeypatch):
    monkeypatch.setattr(number, "merge_unseparated", lambda points, split, *_: np.where(split == 1, 0, split))
    choice, groups = choose_number(heaps([60] * 4)[0], MOST, seed=0)
    assert choice.domains == len(np.unique(groups)) == 3
    scores = {candidate.domains: candidate.score for candidate in choice.candidates}
    assert scores[4] == 1.0 and scores[3] < 1
    assert "3 domains found among 240 pictures (4 before groups were merged, score 1.00)" in choice.headline


@pytest.mark.parametrize(
    "change",
    [
        {"domains": 0},
        {"domains": 10**9},
        {"domains": "3"},
        {"candidates": {}},
        {"candidates": [3]},
        {"candidates": [{"domains": 3, "score": "high", "votes": {}}]},
        {"candidates": [{"domains": 3, "score": 1.0, "votes": {"splits": None}}]},
        {"reasons": "because"},
        {"pictures": -1},
    ],
)
def test_an_invalid_choice_is_refused(change):
    with pytest.raises(UnreadableError):
        read_choice(Record(CHOICE.record() | change))


def test_a_damaged_file_is_named(tmp_path):
    write_choice_file(tmp_path, CHOICE)
    path = next(tmp_path.iterdir())
    path.write_text(path.read_text()[:-5])
    with pytest.raises(RunError, match=f"{path.name} is damaged.*--resume"):
        read_choice_file(tmp_path)


def test_the_reasons_say_what_speaks_for_the_number_and_what_against_one_more():
    codes, _ = blobs(4, each=60)
    choice, _ = choose_number(codes.numpy(), MOST, seed=0)
    said = [reason for reason in choice.reasons if "nearest of" in reason]
    assert choice.domains == 4 and len(said) == 2
    # The smaller of two parts has 60 of all pictures, and about 48 of four fifths of them: less than 100.
    needed_of = [float(re.search(r"needed: ([\d.]+)", reason)[1]) for reason in said]
    assert "speaks for 4 groups" in said[0]
    assert 1 + 0.32 * 0.40**0.5 < needed_of[0] < 1 + 0.32 * 0.60**0.5
    assert "speaks against 5 groups" in said[1]
    assert 1 < needed_of[1] < 1 + 0.40 * 0.30**0.5  # a group is cut in two


@pytest.mark.parametrize(("pictures", "near"), [(5, 4), (400, 10), (1099, 10), (1100, 11), (2050, 20)])
def test_the_graph_has_a_neighbour_for_every_hundred_pictures_but_at_least_ten(monkeypatch, pictures, near):
    class Asked(Exception):
        """The graph was asked for; the rest of the search is not needed."""

    def asked(vectors, k):
        raise Asked(k)

    monkeypatch.setattr(number, "find_neighbours", asked)
    codes = np.random.default_rng(0).normal(size=(pictures, 2))
    with pytest.raises(Asked) as found:
        choose_number(codes, 2, seed=0)
    assert found.value.args == (near,)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kinds", "each", "apart"), [(10, 30, 7.0), (12, 20, 9.0), (6, 30, 6.0)])
def test_the_number_is_found_in_few_pictures(kinds, each, apart, seed):
    """Clear groups, but the dip of so few pictures is never far above that by chance: less must be asked of it."""
    codes, classes = heaps([each] * kinds, axes=max(8, kinds), apart=apart, seed=seed)
    choice, found = choose_number(codes, MOST, seed=0)
    assert choice.domains == kinds
    assert adjusted_rand_score(classes, found) > 0.95


@pytest.mark.parametrize(("copies", "seed"), [(3, 1), (4, 0), (4, 1)])
def test_a_few_near_copies_are_no_domain(copies, seed):
    codes, _ = heaps([50] * 6, seed=seed)
    rng = np.random.default_rng(seed)
    far = codes.mean(0) + 2 * rng.normal(size=40) + 0.05 * rng.normal(size=(copies, 40))
    assert choose_number(np.concatenate([codes, far]), MOST, seed=0)[0].domains == 6

"""Neighbours in place of second views, and E's learning rate while it trains alone."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from packed_pictures import unlabelled, with_labels
from tiny_step import config_of, random_batch, random_state
from tunit.clustering.measures import choose_measures, reduced_cues
from tunit.clustering.neighbours import find_neighbours
from tunit.config import AugmentConfig
from tunit.data.batching.augment import to_float
from tunit.data.batching.batches import Batches
from tunit.methods import tunit
from tunit.methods.findings import UNKNOWN
from tunit.methods.neighbourhood import look_for_neighbours, neighbours_at
from tunit.methods.objectives import temperature_of
from tunit.methods.optimisers import guide_rate_at
from tunit.methods.tunit import TUNIT, tunit_step
from tunit.training.initial_state import new_state
from tunit.training.schedule import phase_at

SETTINGS = {
    "neighbours": 3,
    "neighbours_every": 4,
    "neighbours_from": 0.2,
    "guide_only_until": 10,
    "steps": 20,
}


def pictures(number=12, labelled=0):
    images = np.random.default_rng(0).integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)
    return with_labels(np.where(np.arange(number) < labelled, 0, -1), images)


def state_of(config, number=12):
    return new_state(config, torch.device("cpu"), number)


def test_second_views_are_of_the_picture_itself_before_the_search_and_after_e_trained_alone():
    config = config_of(**SETTINGS)
    state = state_of(config)
    itself = torch.arange(12)[:, None].repeat(1, 3)
    for step in range(2):
        state.step = step
        look_for_neighbours(state, pictures(), config)
        assert neighbours_at(state, config) is None
        assert state.own.table.eq(UNKNOWN).all()
    state.step = 2
    look_for_neighbours(state, pictures(), config)
    assert not (neighbours_at(state, config) == itself).any()
    for before in (
        torch.full((12, 3), UNKNOWN),
        itself,
    ):  # in checkpoints of before the search, of now and formerly
        state.own.table.copy_(before)
        assert neighbours_at(state, config) is None
    look_for_neighbours(state, pictures(), config)
    state.step = 10
    assert neighbours_at(state, config) is None


def test_a_search_among_many_pictures_and_the_decision_of_the_domains_are_announced(monkeypatch):
    config = config_of(**SETTINGS)
    state, given = state_of(config), pictures()

    def said(given=given):
        lines = []
        for state.step in range(12):
            lines.append(TUNIT.announce(state, given, config))
        return lines

    decided = [
        "after this step the domains are decided, which takes minutes if there are many pictures or domains"
    ]
    assert said() == [""] * 9 + decided + [""] * 2
    monkeypatch.setattr(tunit, "LARGE_SET", 11)
    announced = [step for step, line in enumerate(said()) if "12 pictures get their neighbours" in line]
    assert announced == [2, 6]  # from a fifth of E's ten steps alone on, every four steps
    assert said(pictures(labelled=12)) == [""] * 12


@pytest.mark.parametrize("both", [False, True])
def test_pictures_are_read_once_before_the_search_with_the_same_views(both):
    """A table in which each picture is its own neighbour gives the same batch, but reads its pictures twice."""
    config = config_of(**SETTINGS)
    state, given = state_of(config), pictures()
    read = []

    class Counting(np.ndarray):
        def __getitem__(self, rows):
            read.append(len(rows))
            return np.asarray(self)[rows]

    def drawn(table):
        read.clear()
        images = given.images.view(Counting)
        source = Batches(
            images, given.labels, AugmentConfig(), seed=1, device=torch.device("cpu"), resident_bytes=0
        )
        batch = source.draw(0, 4, {}, neighbours=table, both=both)
        source._reader.shutdown()  # waits for the batch that is read in advance
        return batch, list(read)

    batch, reads = drawn(neighbours_at(state, config))
    expected, reads_of_itself = drawn(torch.arange(len(given.images))[:, None].repeat(1, 3))
    assert torch.equal(batch.x, expected.x) and torch.equal(batch.x_plus, expected.x_plus)
    assert (reads, reads_of_itself) == ([4, 4], [4, 4, 4])


def test_the_search_is_repeated_with_the_codes_of_that_step():
    config = config_of(**SETTINGS)
    state = state_of(config)
    found = {}
    for step in range(10):
        state.step = step
        state.own.measures = []
        with torch.no_grad():  # E changes at every step
            state.networks.guide_average.style_head.weight.add_(torch.randn(16, 32))
        look_for_neighbours(state, pictures(), config)
        if state.own.measures:
            guide = state.networks.guide_average.eval()
            with torch.no_grad():
                codes = F.normalize(guide(to_float(torch.from_numpy(pictures().images))).style, dim=1)
            guide.train()
            simple = reduced_cues(pictures().images)
            names, _ = choose_measures(codes, simple, [config.networks.domains])
            found[step] = find_neighbours([(simple | {"codes": codes})[name] for name in names], 3)
            assert state.own.measures == names
            assert torch.equal(state.own.table, found[step])
    assert list(found) == [2, 6]


@pytest.mark.parametrize("domains", [3, "auto"])
def test_a_cue_that_separates_the_pictures_is_found_whether_their_number_is_given_or_not(domains):
    """Outlines and shapes separate two kinds of stripes, colours do not. By 0 groups, colours would be chosen."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (60, 32, 32, 3))
    for i in range(60):
        phase = rng.integers(0, 8)
        bright = (np.arange(32) + phase) // 4 % 2 == 0
        images[i] += np.where(bright[:, None] if i % 2 else bright[None], 180, 0)[..., None]
    config = config_of(**SETTINGS | {"domains": domains})
    state = state_of(config, len(images))
    state.step = 2
    look_for_neighbours(state, unlabelled(images.astype(np.uint8)), config)
    assert {"outlines", "shapes"} & set(state.own.measures)
    same_kind = (state.own.table % 2 == torch.arange(60)[:, None] % 2).float().mean()
    assert same_kind > 0.95


def steps_of_searches(config):
    """Before which of twelve steps neighbours are searched."""
    state = state_of(config)
    looked = []
    for step in range(12):
        state.step, state.own.measures = step, []
        look_for_neighbours(state, pictures(), config)
        looked += [step] * bool(state.own.measures)
    return looked


def test_the_search_is_made_once_by_default():
    config = config_of(**SETTINGS | {"neighbours_every": 0})
    assert steps_of_searches(config) == [2]


@pytest.mark.parametrize("share", [0.9, 0.96, 1.0])
def test_neighbours_are_searched_before_the_last_step_of_e_alone_at_the_latest(share):
    config = config_of(**SETTINGS | {"neighbours_every": 0, "neighbours_from": share})
    assert steps_of_searches(config) == [9]


def test_the_measures_are_named_only_before_the_step_that_the_search_precedes():
    config = config_of(**SETTINGS)
    state = state_of(config)
    named = []
    for step in range(12):
        state.step = step
        look_for_neighbours(state, pictures(), config)
        named += [step] * bool(TUNIT.neighbours_by(state))
    assert named == [2, 6]
    assert TUNIT.neighbours_by(state_of(config_of())) == []  # it has no neighbours


def test_no_neighbours_are_searched_if_e_never_trains_alone():
    config = config_of(**SETTINGS | {"guide_only_until": 0})
    state = state_of(config)
    for state.step in range(3):
        look_for_neighbours(state, pictures(), config)
    assert state.own.measures == []


@pytest.mark.parametrize(("labelled", "searched"), [(11, True), (12, False)])
def test_no_neighbours_are_searched_if_every_picture_has_a_label(labelled, searched):
    """Only an unlabelled picture uses its neighbours. The search takes minutes and gigabytes for a large set."""
    config = config_of(**SETTINGS)
    state = state_of(config)
    before = state.own.table.clone()
    state.step = 2
    look_for_neighbours(state, pictures(labelled=labelled), config)
    assert bool(state.own.cues) == bool(state.own.measures) == searched
    assert torch.equal(state.own.table, before) != searched


def test_the_search_does_not_change_e():
    config = config_of(**SETTINGS)
    state = state_of(config)
    before = {k: v.clone() for k, v in state.networks.guide_average.state_dict().items()}
    state.step = 2
    look_for_neighbours(state, pictures(), config)
    assert state.networks.guide_average.training
    for name, value in state.networks.guide_average.state_dict().items():
        assert torch.equal(value, before[name])


def test_no_neighbours_are_stored_if_none_are_requested():
    config = config_of()
    state = state_of(config)
    look_for_neighbours(state, pictures(), config)
    assert state.own is None
    assert neighbours_at(state, config) is None


def test_few_pictures_have_all_others_as_neighbours():
    assert state_of(config_of(**SETTINGS), number=3).own.table.shape == (3, 2)


def test_the_rate_rises_then_falls_by_a_cosine_and_is_constant_in_the_paper():
    config = config_of(
        guide_rate=1e-4, guide_only_rate=2e-3, guide_warm_up=9, guide_only_until=100, steps=200
    )
    for step in range(100):
        cosine = 1e-4 + (2e-3 - 1e-4) * 0.5 * (1 + math.cos(math.pi * step / 100))
        assert guide_rate_at(step, config) == pytest.approx(cosine * min(1, (step + 1) / 10), rel=1e-12)
    assert guide_rate_at(100, config) == guide_rate_at(199, config) == 1e-4
    lower = config.with_overrides({"joint_guide_rate": 3e-5})
    assert [guide_rate_at(step, lower) for step in range(100)] == [
        guide_rate_at(step, config) for step in range(100)
    ]
    assert guide_rate_at(100, lower) == guide_rate_at(199, lower) == 3e-5
    paper = config_of(guide_rate=1e-4, guide_only_until=100, steps=200)
    assert {guide_rate_at(step, paper) for step in range(200)} == {1e-4}


@pytest.mark.parametrize(("size", "length"), [(1.0, 4.0), (0.3, 1.2)])
def test_normalised_codes_are_compared_by_their_angle(size, length):
    config = config_of(normalise_style=True, style_width=16, style_size=size, temperature=0.2)
    one, other = (F.normalize(codes, dim=1) * length for codes in torch.randn(2, 5, 16, dtype=torch.float64))
    products = (one * other).sum(1) / temperature_of(config)
    assert torch.allclose(products, F.cosine_similarity(one, other) / 0.2)


def test_styles_are_learnt_before_the_search_for_neighbours():
    config = config_of(domains_from=0.3, guide_only_until=10, steps=20, overclusters=5, candidate_heads=2)
    state = random_state(config)
    before = {name: value.clone() for name, value in state.networks.guide.named_parameters()}
    for step in range(4):
        batch, permutation = random_batch(step, [-1, -1, -1, -1])
        terms = tunit_step(state, batch, permutation, phase_at(step, config), config)
        informed = {"guide/mutual_information", "guide/overcluster_information"} & set(terms)
        assert bool(informed) == (step >= 3)
        assert "guide/style" in terms
        if step == 2:  # no gradient reached the heads, and no weight decay either
            for name, value in state.networks.guide.named_parameters():
                head = name.startswith(("domain_head", "candidate_heads", "overcluster_head"))
                assert torch.equal(value, before[name]) == head, name

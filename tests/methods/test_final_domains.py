"""The division of the pictures into domains after E has trained alone, and the head that is fitted to it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score

from packed_pictures import unlabelled, with_labels
from tiny_step import config_of
from tunit.clustering import partition as partition_of_clusterings
from tunit.clustering.choice import Candidate, Choice
from tunit.data.batching.augment import random_view, to_float
from tunit.data.batching.batches import Batches
from tunit.data.batching.randomness import torch_generator
from tunit.methods import final_domains, inference, neighbourhood
from tunit.methods.candidates import install_best_head
from tunit.methods.final_domains import CONFIDENCE, measures_of, outputs_of, partition, settle_domains
from tunit.methods.fitted_heads import NEVER, fitted_head, softened
from tunit.networks.guide import Guide
from tunit.training import samples
from tunit.training.alarms.watch import output_summary
from tunit.training.initial_state import new_state

COLOURS = [(220, 30, 30), (30, 220, 30), (30, 30, 220)]
KINDS = np.repeat(np.arange(3), 30)


@pytest.fixture
def pictures():
    """Noisy pictures of three colours, 30 of each; any random network distinguishes them."""
    rng = np.random.default_rng(0)
    images = np.array(COLOURS)[KINDS][:, None, None, :] + rng.integers(-20, 21, (90, 32, 32, 3))
    return unlabelled(images.clip(0, 255).astype(np.uint8))


def state_of(config):
    state = new_state(config, torch.device("cpu"), 90)
    for guide in (state.networks.guide, state.networks.guide_average):
        torch.nn.init.normal_(guide.style_head.weight, std=1.0, generator=torch.Generator().manual_seed(0))
    for parameter in state.networks.guide.parameters():
        state.optimisers.guide.state[parameter] = {"step": torch.tensor(3.0)}
    return state


def domains_of(state, pictures, guide=None):
    guide = (guide or state.networks.guide_average).eval()
    with torch.no_grad():
        return guide(to_float(torch.from_numpy(pictures.images))).logits.argmax(1).numpy()


def test_a_head_with_one_answer_for_all_is_replaced_by_a_clustering(pictures):
    config = config_of(candidate_heads=1, neighbours=3)
    state = state_of(config)
    for guide in (state.networks.guide, state.networks.guide_average):
        for head in (guide.domain_head, *guide.candidate_heads):
            torch.nn.init.zeros_(head.weight)
    before = {name: value.clone() for name, value in state.networks.guide.state_dict().items()}
    settle_domains(state, pictures, config)
    assert adjusted_rand_score(domains_of(state, pictures), KINDS) == 1
    guide, average = state.networks.guide, state.networks.guide_average
    heads = ("domain_head.weight", "domain_head.bias", "candidate_heads.0.weight", "candidate_heads.0.bias")
    for name, value in guide.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in heads)
        assert name not in heads or torch.equal(value, average.state_dict()[name])
    kept = {name for name, value in guide.named_parameters() if value in state.optimisers.guide.state}
    assert kept == {name for name, _ in guide.named_parameters()} - set(heads)
    assert guide.training


def test_e_and_its_average_have_the_same_domains_though_their_weights_differ(pictures):
    """As at the end of a short training at a high rate, where the EMA is far behind."""
    config = config_of(candidate_heads=1, neighbours=3)
    state = state_of(config)
    other = new_state(config.with_overrides({"seed": 5}), torch.device("cpu"), 90).networks.guide
    state.networks.guide.load_state_dict(other.state_dict())
    settle_domains(state, pictures, config)
    average = domains_of(state, pictures)
    assert adjusted_rand_score(average, KINDS) == 1
    assert (domains_of(state, pictures, state.networks.guide) == average).all()


@pytest.mark.parametrize("whole_statistics", [True, False])
def test_domains_are_those_that_e_gives_to_whole_pictures_in_training(pictures, whole_statistics):
    """In training, E normalises whole pictures by their own statistics. Its running ones are of other pictures."""
    config = config_of(candidate_heads=1, neighbours=3, whole_statistics=whole_statistics)
    state = state_of(config)
    whole = to_float(torch.from_numpy(pictures.images))
    for guide in (state.networks.guide, state.networks.guide_average):
        for _ in range(50):
            guide.train()(torch.rand(16, 3, 32, 32) * 0.2 - 0.9)
    settle_domains(state, pictures, config)
    with torch.no_grad():
        in_training = state.networks.guide.train()(whole).logits.argmax(1).numpy()
    found = adjusted_rand_score(in_training, KINDS)
    model = samples.model_of(state, pictures, config)
    saved = adjusted_rand_score(domains_of(state, pictures, model.guide), KINDS)
    assert ((found, saved) == (1, 1)) == whole_statistics


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_final_domains_domains_keep_the_numbers_that_d_has_learnt(pictures, order):
    """After --from, E tells the kinds apart already, and D's last layer has the order of its domains."""
    config = config_of(candidate_heads=1, neighbours=3)
    state = state_of(config)
    settle_domains(state, pictures, config)
    for guide in (state.networks.guide, state.networks.guide_average):
        for parameter in guide.domain_head.parameters():
            parameter.data = parameter.data[list(order)].clone()
    before = domains_of(state, pictures)
    settle_domains(state, pictures, config)
    assert (domains_of(state, pictures) == before).all()


def test_d_judges_pictures_by_their_labels_as_by_the_domains_before(pictures):
    """E's former domains and the labels are the same kinds, in another order."""
    config = config_of(candidate_heads=1, neighbours=3)
    state = state_of(config)
    settle_domains(state, pictures, config)
    x, before = to_float(torch.from_numpy(pictures.images)), torch.from_numpy(domains_of(state, pictures))
    torch.nn.init.normal_(state.networks.discriminator.head.bias, generator=torch.Generator().manual_seed(0))
    labels = (before + 1) % 3
    with torch.no_grad():
        judged = state.networks.discriminator.judge(x, before)
        final_domains.fit_to_labels(state, with_labels(labels.numpy(), pictures.images))
        assert (domains_of(state, pictures) == labels.numpy()).all()
        torch.testing.assert_close(state.networks.discriminator.judge(x, labels), judged)


def test_codes_decide_nothing_if_e_has_not_learnt_from_its_neighbours(pictures):
    """E's codes divide the pictures by colour. The neighbours from training divide them into halves that no colour
    shows.
    """
    config = config_of(candidate_heads=1, neighbours=3, domains=2)
    state = state_of(config)
    halves = torch.arange(90) % 2
    generator = torch.Generator().manual_seed(0)
    others = torch.stack([torch.randperm(44, generator=generator)[:3] + 1 for _ in range(90)])
    state.own.table.copy_((torch.arange(90)[:, None] + 2 * others) % 90)
    outputs = outputs_of(state, pictures, config)
    groups = partition(outputs, 2, halves.numpy(), state, pictures, 0)
    assert adjusted_rand_score(groups, halves) == 1
    state.own.table.copy_(torch.arange(90)[:, None].repeat(1, 3))  # no neighbours were found
    assert adjusted_rand_score(partition(outputs, 2, halves.numpy(), state, pictures, 0), halves) < 0.1


def test_heads_are_outvoted_by_codes_and_features(pictures):
    """E's heads merge two of three kinds; k-means on its codes and features tells all three apart."""
    config = config_of(candidate_heads=1, neighbours=3)
    state = state_of(config)
    outputs = outputs_of(state, pictures, config)
    outputs = replace(outputs, heads=10 * torch.eye(3)[np.minimum(KINDS, 1)][None], cues={})
    assert adjusted_rand_score(partition(outputs, 3, None, state, pictures, 0), KINDS) == 1


@pytest.mark.parametrize(
    ("settings", "learnt"),
    [
        ({"domains_from": 1.0}, False),
        ({"domains_from": 0.5}, True),
        ({"domains_from": 1.0, "guide_style_weight": 0.0}, True),  # E then learns domains from the start
    ],
)
def test_heads_vote_only_if_e_has_trained_them(pictures, monkeypatch, settings, learnt):
    config = config_of(candidate_heads=1, neighbours=3, **settings)
    state = state_of(config)
    outputs = outputs_of(state, pictures, config)
    assert outputs.heads_learnt == learnt
    voters = []
    real = final_domains.agreed_groups
    monkeypatch.setattr(
        final_domains, "agreed_groups", lambda some, number: voters.append(len(some)) or real(some, number)
    )
    partition(outputs, 3, None, state, pictures, 0)
    assert voters[0] == 2 * partition_of_clusterings.REPEATS + 2 * learnt


@pytest.mark.parametrize(
    ("settings", "taught", "expected"),
    [
        ({"domains_from": 1.0}, "kinds", ["own"]),
        ({"domains_from": 0.5}, "kinds", ["taught", "own"]),  # its heads have shaped its codes
        ({"domains_from": 1.0}, "halves", ["taught", "own"]),  # it has not learnt what it was taught
    ],
)
def test_the_neighbours_from_training_count_until_e_has_learnt_from_them(
    pictures, monkeypatch, settings, taught, expected
):
    """Kinds: its codes show them, too. Halves: they do not."""
    config = config_of(neighbours=3, **settings)
    state = state_of(config)
    halves, each = np.arange(90) % 2, np.arange(90)[:, None]
    tables = {
        "kinds": each // 30 * 30 + (each + np.array([1, 2, 3])) % 30,
        "halves": (each + np.array([44, 22, 62])) % 90,
    }
    state.own.table.copy_(torch.from_numpy(tables[taught]))
    names = []

    def record(graphs, *_):
        names.append(["taught" if graph is state.own.table else "own" for graph in graphs])
        return halves, [halves]

    monkeypatch.setattr(final_domains, "best_refined", record)
    partition(outputs_of(state, pictures, config), 3, halves, state, pictures, 0)
    assert names == [expected]


def test_the_chosen_division_is_refined(pictures, monkeypatch):
    """The choice falls on a division that merges two kinds and splits the third."""
    config = config_of(neighbours=3)
    state = state_of(config)
    wrong = np.where(KINDS == 1, 0, KINDS)
    wrong[(KINDS == 2) & (np.arange(90) % 2 == 0)] = 1
    monkeypatch.setattr(final_domains, "best_partition", lambda graphs, divisions: ("given", {}))
    found = partition(outputs_of(state, pictures, config), 3, wrong, state, pictures, 0)
    assert adjusted_rand_score(found, KINDS) == 1


def test_groups_of_maps_are_taken_if_these_agree_more(pictures, monkeypatch):
    """The maps see what partition's neighbours are found by, and what was compared before."""
    config, seen = config_of(neighbours=3), []
    state = state_of(config)

    def record(found, refined, measures, number, seed):
        seen.append((found, refined, measures, number, seed))
        return KINDS

    monkeypatch.setattr(final_domains, "more_certain", record)
    outputs = outputs_of(state, pictures, config)
    assert partition(outputs, 3, None, state, pictures, 7) is KINDS
    ((found, refined, measures, *rest),) = seen
    assert rest == [3, 7]
    assert any(found is each for each in refined) and len(refined) > 1
    assert all(torch.equal(one, other) for one, other in zip(measures, measures_of(outputs, 3), strict=True))


def test_outputs_are_what_e_predicts_if_views_are_the_pictures(pictures):
    same = dict.fromkeys(
        ("rotation", "translation", "shear", "brightness", "contrast", "saturation", "hue"), 0
    )
    config = config_of(candidate_heads=2, flip=0, crop_area=(1, 1), crop_aspect=(1, 1), **same)
    state = state_of(config)
    outputs = outputs_of(state, pictures, config)
    guide = state.networks.guide_average.eval()
    with torch.no_grad():
        said = guide(to_float(torch.from_numpy(pictures.images)))
    probabilities = torch.cat([said.logits[None], said.candidate_logits]).softmax(2)
    torch.testing.assert_close(outputs.heads, probabilities, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(outputs.styles, F.normalize(said.style, dim=1), atol=1e-4, rtol=1e-3)


def test_outputs_are_means_over_views(pictures):
    """Sixteen views of each picture, one after the other; the average of all that E says of them."""
    config = config_of(candidate_heads=1, crop_area=(0.1, 0.7))
    state = state_of(config)
    guide = state.networks.guide_average.train()
    outputs = outputs_of(state, pictures, config)
    assert guide.training
    guide.eval()
    x, generator = (
        to_float(torch.from_numpy(pictures.images)),
        torch_generator(config.run.seed, "averaged views", 0),
    )
    codes, heads = torch.zeros(90, guide.style_width), torch.zeros(2, 90, config.networks.domains)
    with torch.no_grad():
        for _ in range(16):
            said = guide(random_view(x, config.augment, generator))
            codes += said.style / said.style.norm(dim=1, keepdim=True)
            heads += torch.cat([said.logits[None], said.candidate_logits]).softmax(2) / 16
    torch.testing.assert_close(outputs.styles, codes / codes.norm(dim=1, keepdim=True))
    torch.testing.assert_close(outputs.heads, heads)


def test_a_fitted_head_is_the_regression_and_keeps_empty_domains_empty():
    generator = np.random.default_rng(0)
    groups = np.repeat([0, 2, 3], 20)
    features = (3 + 5 * np.eye(4)[groups] + generator.standard_normal((60, 4))).astype(np.float32)
    weight, bias = fitted_head(features, groups, 5)
    logits = features @ weight.numpy().T + bias.numpy()
    standard = (features - features.mean(0)) / features.std(0)
    expected = LogisticRegression(max_iter=500).fit(standard, groups).predict_proba(standard)
    ours = torch.from_numpy(logits).softmax(1).numpy()
    assert np.abs(ours[:, [0, 2, 3]] - expected).max() < 1e-3
    assert ours[:, [1, 4]].max() < 1e-9


def test_a_softened_head_chooses_the_same_domains_with_the_given_mean_confidence():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 6, generator=generator)
    weight, bias = 5 * torch.randn(4, 6, generator=generator), torch.randn(4, generator=generator)
    weight[2], bias[2] = 0.0, NEVER  # a domain without pictures
    before = features @ weight.T + bias
    weight, bias = softened((weight, bias), features, 0.6)
    after = features @ weight.T + bias
    assert torch.equal(after.argmax(1), before.argmax(1))
    assert after.softmax(1).amax(1).mean().item() == pytest.approx(0.6, abs=1e-6)
    assert after[:, 2].max() == NEVER
    again = softened((weight, bias), features, 0.7)  # never made surer
    assert torch.equal(again[0], weight) and torch.equal(again[1], bias)


def test_the_final_head_is_right_and_not_too_sure(pictures):
    config = config_of(candidate_heads=1, neighbours=3)
    state = state_of(config)
    settle_domains(state, pictures, config)
    for guide in (state.networks.guide, state.networks.guide_average):
        guide.eval()
        with torch.no_grad():
            p = guide(to_float(torch.from_numpy(pictures.images))).logits.softmax(1)
        assert adjusted_rand_score(p.argmax(1).numpy(), KINDS) == 1
        assert p.amax(1).mean().item() == pytest.approx(CONFIDENCE, abs=1e-3)


def test_a_fitted_head_for_two_domains_and_for_one():
    features = np.concatenate([np.zeros((10, 2)), np.ones((10, 2))]).astype(np.float32)
    groups = np.repeat([0, 1], 10)
    weight, bias = fitted_head(features, groups, 2)
    assert ((features @ weight.numpy().T + bias.numpy()).argmax(1) == groups).all()
    weight, bias = fitted_head(features, np.zeros(20, np.int64), 1)
    assert not weight.any() and not bias.any()


def test_a_rare_label_is_among_those_to_which_heads_are_fitted(pictures, monkeypatch):
    """Of more pictures than are used, only some are taken, but at least one of every label."""
    monkeypatch.setattr(final_domains, "MOST_PICTURES", 20)
    state = state_of(config_of())
    labels = KINDS.copy()
    labels[labels == 1] = -1
    labels[31] = 1  # the only one; about every third labelled picture is taken, not this one
    final_domains.fit_to_labels(state, with_labels(labels, pictures.images))
    assert domains_of(state, pictures)[31] == 1


def test_the_reasons_tell_the_sizes_of_the_final_domains(pictures, monkeypatch):
    """The groups by which the number was found have other sizes: here, half of one group belongs to another."""
    config = config_of(domains="auto", most_domains=6, candidate_heads=1, neighbours=3)
    state = state_of(config)
    moved = np.where(np.arange(90) < 45, 0, KINDS)
    choice = Choice(3, (Candidate(3, 1.0, {}),), ("a reason",), 90)
    monkeypatch.setattr(final_domains, "choose_number", lambda *arguments: (choice, moved))
    final_domains.find_number(state, pictures, config)
    assert state.choice.reasons == (
        "a reason",
        "at that time the largest domain had 30 pictures, the smallest 30",
    )
    assert sorted(np.bincount(domains_of(state, pictures))) == [30, 30, 30]


def test_no_pass_over_the_pictures_rounds_to_tf32(pictures, monkeypatch):
    """A bfloat16 run lets a GPU round to TF32, but only for the gradient penalty of a training step."""
    config = config_of(candidate_heads=1, neighbours=3, neighbours_from=0, guide_only_until=10, steps=20)
    state, used, trunk = state_of(config), [], Guide.trunk_features

    def noted(guide, x):
        used.append(torch.backends.cudnn.allow_tf32)
        return trunk(guide, x)

    monkeypatch.setattr(Guide, "trunk_features", noted)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    batches = Batches(pictures.images, pictures.labels, config.augment, seed=0, device=torch.device("cpu"))
    for run_e in (
        lambda: install_best_head(state, batches, 512),
        lambda: neighbourhood.look_for_neighbours(state, pictures, config),
        lambda: final_domains.features_of(state.networks.guide_average, state, pictures, np.arange(90)),
        lambda: final_domains.outputs_of(state, pictures, config),
        lambda: samples.model_of(state, pictures, config),
        lambda: output_summary(state, pictures, config, 64),
    ):
        used.clear()
        run_e()
        assert used and not any(used)
    assert torch.backends.cudnn.allow_tf32


def test_large_pictures_go_through_e_a_few_at_a_time(pictures, monkeypatch):
    """Otherwise this would need more memory than a training step. Pictures of 32 px are large in this test."""
    config = config_of(neighbours=3, neighbours_from=0, guide_only_until=10, steps=20)
    state, seen, trunk = state_of(config), [], Guide.trunk_features

    def noted(guide, x):
        seen.append(len(x))
        return trunk(guide, x)

    monkeypatch.setattr(Guide, "trunk_features", noted)
    monkeypatch.setattr(inference, "LARGE", 8)
    rows, average = np.arange(90), state.networks.guide_average
    for encode, most in (
        (
            lambda: neighbourhood.look_for_neighbours(state, pictures, config),
            4,
        ),  # as many as 64 pictures of 8 px
        (lambda: final_domains.features_of(average, state, pictures, rows), 16),
        (lambda: final_domains.outputs_of(state, pictures, config), 16),
        (lambda: samples.model_of(state, pictures, config), 8),
    ):
        seen.clear()
        encode()
        assert max(seen) == most

"""The domains that E found while it trained alone, kept in joint steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from packed_pictures import with_labels
from tiny_step import config_of, random_batch, random_state
from tunit.data.batching.augment import to_float
from tunit.data.batching.batches import Batches
from tunit.data.packing.packed import PackedPictures
from tunit.methods.final_domains import settle_domains
from tunit.methods.findings import UNKNOWN, Findings, found_domains, new_findings, note_domains
from tunit.methods.method import Phase
from tunit.methods.objectives import domain_loss
from tunit.methods.parts import guidance_of
from tunit.methods.tunit import TUNIT, tunit_step
from tunit.training.checkpoint import state_tensors
from tunit.training.initial_state import new_state

ALONE, JOINT = Phase(False, False, False), Phase(True, True, True)
KEEPS = {"found_domains_weight": 0.7, "guide_only_until": 10, "steps": 20}
COLOURS = [(220, 30, 30), (30, 220, 30), (30, 30, 220)]


KINDS = np.repeat(np.arange(3), 10)  # of `of_three_colours`


def of_three_colours(labels: int = 0) -> PackedPictures:
    """Noisy pictures of three colours, ten of each; the first `labels` have a label."""
    rng = np.random.default_rng(0)
    images = np.array(COLOURS)[KINDS][:, None, None, :] + rng.integers(-20, 21, (30, 32, 32, 3))
    return with_labels(np.where(np.arange(30) < labels, KINDS, -1), images.clip(0, 255).astype(np.uint8))


def with_domains(state, domains):
    """The state, with these found domains of the pictures 0, 1, 2 ..."""
    state.own = Findings(domains=torch.tensor(domains))
    return state


@pytest.mark.parametrize("heads", [{}, {"candidate_heads": 2, "overclusters": 5, "overcluster_weight": 2.0}])
def test_the_loss_is_the_cross_entropy_of_both_views_in_place_of_the_mutual_information(heads):
    config = config_of(**KEEPS, **heads)
    state = random_state(config)
    batch, _ = random_batch(0, [-1] * 4)
    found = torch.tensor([2, 0, 0, 1])
    view, view_plus = (guidance_of(state.networks.guide, x) for x in (batch.x, batch.x_plus))
    loss, terms = domain_loss(view, view_plus, batch, JOINT, config, found)
    expected: Tensor = torch.zeros((), dtype=torch.float64)
    for logits in (view.logits, view_plus.logits):
        for row, domain in zip(logits, found, strict=True):
            expected = expected - 0.7 * row.softmax(0)[domain].log() / 4
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    parameters = list(state.networks.guide.parameters())
    gradients = (
        torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        for value in (loss, expected)
    )
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    p, p_plus = (each.logits.softmax(1).detach().numpy() for each in (view, view_plus))
    joint = (p.T @ p_plus + p_plus.T @ p) / 8
    outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    assert terms["guide/mutual_information"].item() == pytest.approx((joint * np.log(joint / outer)).sum())
    assert not terms["guide/mutual_information"].requires_grad


def test_a_joint_step_learns_the_found_domains_of_its_pictures_and_a_step_alone_does_not():
    """Their numbers are looked up by the pictures' rows in the pack, not by their places in the batch."""
    config = config_of(**KEEPS)
    batch, permutation = random_batch(0, [-1] * 4)
    batch = replace(batch, index=torch.tensor([5, 1, 1, 3]))
    domains = [0, 2, 0, 1, 0, 2]
    for phase, kept in ((ALONE, False), (JOINT, True)):
        state = with_domains(random_state(config), domains)
        with torch.no_grad():
            views = [state.networks.guide(x).logits for x in (batch.x, batch.x_plus)]
        terms = tunit_step(state, batch, permutation, phase, config)
        assert ("guide/found_domains" in terms) == kept
        if kept:
            target = torch.tensor([2, 2, 2, 1])
            expected = sum(F.cross_entropy(logits, target) for logits in views)
            torch.testing.assert_close(terms["guide/found_domains"], expected, rtol=1e-9, atol=1e-9)


def test_joint_steps_go_on_with_the_mutual_information_if_no_domains_were_decided():
    """As before the setting existed: with labels, or with --from if E never trains alone."""
    batch, permutation = random_batch(0, [-1, 2, -1, 0])
    batch = replace(batch, index=torch.arange(4))
    tensors = []
    for settings in ({"found_domains_weight": 0.0}, {"labels": "csv"}, {"guide_only_until": 0}):
        config = config_of(**KEEPS | settings)
        state = random_state(config)
        state.own = new_findings(4, config, torch.device("cpu"))
        tunit_step(state, batch, permutation, JOINT, config)
        tensors.append(state_tensors(state))
    for other in tensors[1:]:
        assert tensors[0].keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in tensors[0].items())


def test_nothing_is_kept_by_default_nor_if_e_never_trains_alone():
    cpu = torch.device("cpu")
    assert new_findings(4, config_of(guide_only_until=10, steps=20), cpu) is None
    assert new_findings(4, config_of(**KEEPS | {"guide_only_until": 0}), cpu) is None
    assert new_findings(4, config_of(**KEEPS, labels="folders"), cpu) is None
    own = new_findings(4, config_of(**KEEPS, neighbours=2), cpu)
    assert own is not None
    assert own.named().keys() == {"neighbours", "found_domains"}
    assert own.named()["found_domains"].tolist() == [UNKNOWN] * 4


@pytest.mark.parametrize("settings", [{"neighbours": 3}, {"candidate_heads": 2}, {}])
def test_the_last_step_alone_notes_the_domain_that_e_gives_to_each_whole_picture(settings):
    pictures = of_three_colours()
    config = config_of(**KEEPS, **settings)
    state = new_state(config, torch.device("cpu"), 30)
    domains = state.own.named()["found_domains"]
    batches = Batches(pictures.images, pictures.labels, config.augment, seed=0, device=torch.device("cpu"))
    for state.step in range(9, 12):
        TUNIT.after_step(state, batches, pictures, config)
        if state.step == 9:
            assert (domains == UNKNOWN).all()
        elif state.step == 10:
            guide = state.networks.guide_average.eval()
            with torch.no_grad():
                expected = guide(to_float(torch.from_numpy(pictures.images))).logits.argmax(1)
            assert torch.equal(domains, expected)
            with torch.no_grad():  # what E says later does not matter
                guide.domain_head.bias += 100 * torch.eye(3)[1]
        else:
            assert torch.equal(domains, expected)


def test_found_domains_are_known_after_they_were_loaded_from_a_checkpoint():
    """Loading fills the tensor in place, before the first joint step asks."""
    config = config_of(**KEEPS)
    state = random_state(config)
    state.own = new_findings(6, config, torch.device("cpu"))
    batch = replace(random_batch(0, [-1] * 4)[0], index=torch.tensor([5, 1, 1, 3]))
    assert found_domains(state, batch, ALONE) is None
    state.own.named()["found_domains"].copy_(torch.tensor([0, 2, 0, 1, 0, 2]))
    assert found_domains(state, batch, ALONE) is None
    assert found_domains(state, batch, JOINT).tolist() == [2, 2, 2, 1]


def test_domains_of_a_settled_e_are_those_of_its_groups():
    pictures = of_three_colours()
    config = config_of(**KEEPS, neighbours=3, candidate_heads=1)
    state = new_state(config, torch.device("cpu"), 30)
    settle_domains(state, pictures, config)
    note_domains(state, pictures)
    found = state.own.named()["found_domains"].numpy()
    assert len(np.unique(found)) == 3
    assert all(len(np.unique(found[kind == KINDS])) == 1 for kind in range(3))

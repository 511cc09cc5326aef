"""The choice of the domain head by mutual information. All tensors that belong to a head move with it."""

import numpy as np
import pytest
import torch

from tiny_run import tiny_config, write_pictures
from tunit.data.batching.batches import Batches
from tunit.methods import tunit
from tunit.methods.candidates import install_best_head
from tunit.training.initial_state import new_state
from tunit.training.launch import start_run

pytestmark = pytest.mark.usefixtures("one_thread")
RED_OR_BLUE = 64


@pytest.fixture
def batches():
    """Plain red and plain blue pictures, half of each: two kinds that any random network distinguishes."""
    images = np.zeros((RED_OR_BLUE, 32, 32, 3), np.uint8)
    images[::2, :, :, 0] = 200
    images[1::2, :, :, 2] = 200
    plain = dict.fromkeys(
        ("rotation", "translation", "shear", "brightness", "contrast", "saturation", "hue"), 0.0
    )
    config = tiny_config(domains=2, crop_area=(1.0, 1.0), **plain)
    labels = np.full(RED_OR_BLUE, -1)
    return Batches(images, labels, config.augment, seed=0, device=torch.device("cpu"))


def state_with_moments(candidates):
    state = new_state(tiny_config(domains=2, candidate_heads=candidates), torch.device("cpu"))
    for i, parameter in enumerate(state.networks.guide.parameters()):
        moments = {"step": torch.tensor(3.0), "exp_avg": torch.full_like(parameter, i)}
        state.optimisers.guide.state[parameter] = moments
    return state


def separate(state, candidate):
    """Make one head distinguish red from blue with certainty, and let all others give the same answer for every
    picture.
    """
    guide = state.networks.guide_average
    guide.eval()
    with torch.no_grad():
        x = torch.zeros(2, 3, 32, 32) - 1
        x[0, 0], x[1, 2] = 0.57, 0.57
        features = torch.nn.functional.adaptive_avg_pool2d(guide.trunk(x), 1).flatten(1)
        direction = (features[0] - features[1]) * 1e4
        middle = -direction @ (features[0] + features[1]) / 2
        for network in (state.networks.guide, guide):
            for index, head in enumerate([network.domain_head, *network.candidate_heads], start=-1):
                head.weight.zero_(), head.bias.zero_()
                if index == candidate:
                    head.weight[0], head.bias[0] = direction, middle
    guide.train()


@pytest.mark.parametrize("best", [-1, 0, 2])
def test_the_head_that_distinguishes_the_kinds_becomes_the_domain_head(batches, best):
    state = state_with_moments(3)
    separate(state, best)
    guide, average = state.networks.guide, state.networks.guide_average
    heads = [guide.domain_head, *guide.candidate_heads]
    weight = heads[best + 1].weight.clone()
    moment = state.optimisers.guide.state[heads[best + 1].weight]["exp_avg"].clone()
    information = install_best_head(state, batches, 16)
    assert information.argmax() == best + 1
    # Two equal kinds known with certainty give ln 2, or a little less because random batches are not exactly half and
    # half.
    assert information.max() == pytest.approx(np.log(2), abs=0.02)
    assert sorted(information.tolist())[:-1] == pytest.approx([0, 0, 0], abs=1e-4)
    assert torch.equal(guide.domain_head.weight, weight)
    assert torch.equal(average.domain_head.weight, weight)
    assert torch.equal(state.optimisers.guide.state[guide.domain_head.weight]["exp_avg"], moment)
    assert not guide.candidate_heads[max(best, 0)].weight.any()


def test_only_the_heads_change_and_no_running_statistics(batches):
    state = state_with_moments(2)
    separate(state, 1)
    before = {k: v.clone() for k, v in state.networks.guide_average.state_dict().items()}
    install_best_head(state, batches, 16)
    after = state.networks.guide_average.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {
        f"{head}.{part}" for head in ("domain_head", "candidate_heads.1") for part in ("weight", "bias")
    }
    assert state.networks.guide_average.training


@pytest.mark.parametrize("labels", ["none", "csv"])
def test_a_head_that_was_trained_on_labels_is_not_replaced(tmp_path, monkeypatch, labels):
    folder = write_pictures(tmp_path / "pictures")
    rows = [f"{p.name},{'ab'[i % 2] if i % 2 else ''}" for i, p in enumerate(sorted(folder.iterdir()))]
    (folder / "table.csv").write_text("picture,label\n" + "\n".join(rows) + "\n")
    asked = []
    monkeypatch.setattr(tunit, "install_best_head", lambda *words: asked.append(words))
    config = tiny_config(candidate_heads=2, labels=labels, steps=5)
    start_run(folder / "table.csv", tmp_path / "run", config, quiet=True)
    assert len(asked) == (labels == "none")

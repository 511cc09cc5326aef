"""The choice of the domain head: by mutual information, with everything that belongs to a head."""

import numpy as np
import pytest
import torch

from tiny_run import tiny_config, write_pictures
from tunit.data.batches import Batches
from tunit.methods import tunit
from tunit.methods.candidates import choose_domain_head, information_of_heads, modularity_of_heads
from tunit.networks.guide import Guidance
from tunit.training.initial_state import new_state
from tunit.training.launch import start_run

pytestmark = pytest.mark.usefixtures("one_thread")
RED_OR_BLUE = 64


@pytest.fixture
def batches():
    """Plain red and plain blue pictures, half of each: two kinds that any random trunk tells apart."""
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
    """Make one head tell red from blue, for sure, and all others say the same of every picture."""
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
def test_the_head_that_tells_the_kinds_apart_becomes_the_domain_head(batches, best):
    state = state_with_moments(3)
    separate(state, best)
    guide, average = state.networks.guide, state.networks.guide_average
    heads = [guide.domain_head, *guide.candidate_heads]
    weight = heads[best + 1].weight.clone()
    moment = state.optimisers.guide.state[heads[best + 1].weight]["exp_avg"].clone()
    information = information_of_heads(state, batches, 16)
    choose_domain_head(state, information)
    assert information.argmax() == best + 1
    # Two equal kinds known for sure: one bit, less what the unequal halves of drawn batches cost.
    assert information.max() == pytest.approx(np.log(2), abs=0.02)
    assert sorted(information.tolist())[:-1] == pytest.approx([0, 0, 0], abs=1e-4)
    assert torch.equal(guide.domain_head.weight, weight)
    assert torch.equal(average.domain_head.weight, weight)
    assert torch.equal(state.optimisers.guide.state[guide.domain_head.weight]["exp_avg"], moment)
    assert not guide.candidate_heads[max(best, 0)].weight.any()


def test_nothing_moves_but_the_heads_and_no_statistics(batches):
    state = state_with_moments(2)
    separate(state, 1)
    before = {k: v.clone() for k, v in state.networks.guide_average.state_dict().items()}
    choose_domain_head(state, information_of_heads(state, batches, 16))
    after = state.networks.guide_average.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {
        f"{head}.{part}" for head in ("domain_head", "candidate_heads.1") for part in ("weight", "bias")
    }
    assert state.networks.guide_average.training


def test_by_modularity_the_head_wins_that_parts_the_codes_where_they_are_apart():
    """Four heads on two clouds of codes: right, right but for a few, by lot, all the same."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(2).repeat_interleave(30)
    codes = torch.randn(60, 5, generator=generator) + 8 * torch.eye(5)[kinds]
    nearly = torch.where(torch.arange(60) % 10 == 0, 1 - kinds, kinds)
    by_lot = torch.randint(2, (60,), generator=generator)
    heads = [torch.eye(2)[domains] for domains in (by_lot, kinds, nearly, torch.zeros_like(kinds))]
    scores = modularity_of_heads(Guidance(heads[0], codes, candidate_logits=torch.stack(heads[1:])))
    assert scores[1].item() == pytest.approx(0.5, abs=0.01)  # two separate halves: 1 - 2 / 4
    assert scores[1] > scores[2] > scores[0]
    assert scores[3].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("neighbours", "asked"), [(0, ["information"]), (3, ["modularity"])])
def test_heads_that_learnt_from_neighbours_are_judged_by_the_graph(tmp_path, monkeypatch, neighbours, asked):
    found = []
    for name in ("information", "modularity"):
        score = getattr(tunit, f"{name}_of_heads")

        def noted(*words, score=score, name=name):
            found.append(name)
            return score(*words)

        monkeypatch.setattr(tunit, f"{name}_of_heads", noted)
    config = tiny_config(candidate_heads=2, steps=5, neighbours=neighbours)
    start_run(write_pictures(tmp_path / "pictures"), tmp_path / "run", config, quiet=True)
    assert found == asked


@pytest.mark.parametrize("labels", ["none", "csv"])
def test_a_head_that_learnt_labels_keeps_its_place(tmp_path, monkeypatch, labels):
    folder = write_pictures(tmp_path / "pictures")
    rows = [f"{p.name},{'ab'[i % 2] if i % 2 else ''}" for i, p in enumerate(sorted(folder.iterdir()))]
    (folder / "table.csv").write_text("picture,label\n" + "\n".join(rows) + "\n")
    asked = []
    monkeypatch.setattr(tunit, "choose_domain_head", lambda *words: asked.append(words))
    config = tiny_config(candidate_heads=2, labels=labels, steps=5)
    start_run(folder / "table.csv", tmp_path / "run", config, quiet=True)
    assert len(asked) == (labels == "none")

"""FUNIT's training step, compared with one written out slowly in float64; and whole tiny runs."""

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tiny_run import tiny_config, train_whole_and_in_parts, write_pictures
from tiny_step import (
    SMALL_BASELINE,
    LiteralNetworks,
    assert_bfloat16_is_near,
    perturb,
    random_second_views,
)
from tunit.config import Config, FunitConfig, read_config
from tunit.data.batching.augment import random_affine, two_views
from tunit.data.batching.batches import Batch
from tunit.errors import ConfigError, DataError
from tunit.methods import losses
from tunit.methods.funit import funit_step
from tunit.methods.method import Phase
from tunit.methods.model_file import load_model
from tunit.methods.state import TrainingState
from tunit.networks.funit_networks import ClassEncoder
from tunit.training.initial_state import new_state
from tunit.training.launch import start_run

pytestmark = pytest.mark.usefixtures("one_thread")

Y = [1, 2, 0, 2]


def config_of(**overrides: Any) -> Config:
    return read_config("table1-a").with_overrides(SMALL_BASELINE | overrides)


def random_state(config: Config, dtype: torch.dtype = torch.float64) -> TrainingState:
    """A new state whose averages differ from their networks."""
    state = new_state(config, torch.device("cpu"))
    perturb(state, dtype)
    return state


def random_batch(
    seed: int, y: list[int] | None = None, dtype: torch.dtype = torch.float64
) -> tuple[Batch, Tensor]:
    return random_second_views(seed, y or Y, dtype=dtype)


class SlowTraining(LiteralNetworks):
    """FUNIT's training step, one part after the other.

    Each picture passes each network by itself. G and the class encoder share one RMSprop.
    """

    def __init__(self, state: TrainingState, config: Config) -> None:
        networks = copy.deepcopy(state.networks)
        for network in networks.named().values():
            # With channels last, torch 2.13 on a CPU computes wrong gradients of instance norm for a batch of one.
            network.to(memory_format=torch.contiguous_format)
        self.E, self.E_bar = networks.guide, networks.guide_average
        self.G, self.G_bar, self.D = networks.generator, networks.generator_average, networks.discriminator
        self.w, self.own, o = config.losses, config.of(FunitConfig), config.optimisers
        self.decay = o.average_decay
        self.rmsprop_G, self.rmsprop_D = (
            torch.optim.RMSprop(
                parameters,
                rate,
                alpha=o.rmsprop_alpha,
                eps=o.rmsprop_eps,
                weight_decay=o.weight_decay,
                foreach=False,
            )
            for parameters, rate in (
                ([*self.E.parameters(), *self.G.parameters()], o.generator_rate),
                (list(self.D.parameters()), o.discriminator_rate),
            )
        )

    def zero_grad(self) -> None:
        for network in (self.E, self.G, self.D):
            network.zero_grad(set_to_none=True)

    def judge(self, x: Tensor, y: Tensor) -> Tensor:
        """D's patches for one picture (1, 3, S, S) and class y."""
        return self.D(x)[0, int(y)]

    def differences(self, a: Tensor, b: Tensor) -> Tensor:
        """Mean absolute difference of D's features, each averaged over positions."""
        return (self.D.features(a)[0].mean((1, 2)) - self.D.features(b)[0].mean((1, 2))).abs().mean()

    def step(self, batch: Batch, perm: Tensor, phase: Phase) -> dict[str, float]:
        w, n = self.w, len(batch.y)
        x = [picture[None] for picture in batch.x_plus]
        x_ref, y_ref = [x[i] for i in perm], batch.y[perm]
        terms: dict[str, Tensor] = {}
        # D learns from translations of the current G and class encoder.
        with torch.no_grad():
            x_fake = [self.G(a, self.E(b).style) for a, b in zip(x, x_ref, strict=True)]
        self.zero_grad()
        zero = torch.zeros((), dtype=torch.float64)
        real, fake, penalty, sign = zero, zero, zero, zero
        for i in range(n):
            leaf = x_ref[i].clone().requires_grad_()
            patches = self.judge(leaf, y_ref[i])
            (gradient,) = torch.autograd.grad(patches.mean(), leaf, create_graph=True)
            penalty = penalty + gradient.square().sum() / n
            real = real + torch.clamp(1 - patches, min=0).mean() / n
            sign = sign + torch.where(patches > 0, 1.0, -1.0).mean() / n
            fake = fake + torch.clamp(1 + self.judge(x_fake[i], y_ref[i]), min=0).mean() / n
        loss = w.adversarial_weight * (real + fake)
        terms |= {"discriminator/real": real, "discriminator/fake": fake, "discriminator/real_sign": sign}
        if phase.penalise:
            loss = loss + w.r1_weight * w.r1_every * penalty
            terms["discriminator/r1"] = penalty
        loss.backward()
        self.rmsprop_D.step()
        # G and the class encoder learn from the updated D.
        self.zero_grad()
        fake, rec, l1, matching = zero, zero, zero, zero
        for i in range(n):
            translated = self.G(x[i], self.E(x_ref[i]).style)
            repeated = self.G(x[i], self.E(x[i]).style)
            fake = fake - self.judge(translated, y_ref[i]).mean() / n
            rec = rec - self.judge(repeated, batch.y[i]).mean() / n
            l1 = l1 + (repeated - x[i]).abs().mean() / n
            matching = matching + self.differences(repeated, x[i]) / n
            matching = matching + self.differences(translated, x_ref[i]) / n
        loss = (
            w.adversarial_weight * self.own.funit_adversarial_factor * fake
            + w.adversarial_weight * self.own.funit_adversarial_factor * rec
            + w.reconstruction_weight * l1
            + self.own.feature_matching_weight * matching
        )
        loss.backward()
        self.rmsprop_G.step()
        terms |= {
            "generator/adversarial": fake,
            "generator/adversarial_reconstruction": rec,
            "generator/reconstruction": l1,
            "generator/feature_matching": matching,
        }
        for bar, live in ((self.E_bar, self.E), (self.G_bar, self.G)):
            decay = self.decay if phase.average_generator else 0
            for mine, theirs in zip(bar.parameters(), live.parameters(), strict=True):
                mine.data = decay * mine.data + (1 - decay) * theirs.data
        return {name: term.item() for name, term in terms.items()}


CASES: dict[str, tuple[dict[str, Any], int]] = {
    "the method's constants": ({}, 0),
    "lazy R1": ({"r1_every": 2}, 0),
    "averages start late": ({}, 2),
    "other weights": (
        {
            "adversarial_weight": 0.7,
            "funit_adversarial_factor": 0.8,
            "reconstruction_weight": 3.0,
            "feature_matching_weight": 0.2,
            "r1_weight": 0.5,
        },
        0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_three_steps_equal_the_slow_ones(name: str) -> None:
    overrides, average_from = CASES[name]
    config = config_of(**overrides)
    state = random_state(config)
    slow = SlowTraining(state, config)
    before = {n: copy.deepcopy(net.state_dict()) for n, net in state.networks.named().items()}
    for i in range(3):
        phase = Phase(True, i >= average_from, penalise=i % config.losses.r1_every == 0)
        batch, permutation = random_batch(i)
        expected = slow.step(batch, permutation, phase)
        terms = funit_step(state, batch, permutation, phase, config)
        assert set(terms) == set(expected)
        for term, value in expected.items():
            assert terms[term].item() == pytest.approx(value, rel=1e-9, abs=1e-9), (i, term)
            assert not terms[term].requires_grad
        for network, theirs in slow.named().items():
            ours = dict(state.networks.named()[network].named_parameters())
            for key, value in theirs.named_parameters():
                torch.testing.assert_close(
                    ours[key].data, value.data, atol=1e-9, rtol=1e-9, msg=f"step {i}: {network} {key}"
                )
    assert state.step == 3
    # The comparison is only valid if the weights really changed, by much more than the tolerance.
    for network, theirs in state.networks.named().items():
        moved = max((p.data - before[network][key]).abs().max() for key, p in theirs.named_parameters())
        assert moved > 1e-5, network
        assert all(p.requires_grad != network.endswith("average") for p in theirs.parameters())


def test_the_preset_has_the_methods_constants() -> None:
    config = read_config("table1-a").resolved_schedule()
    w, own, o = config.losses, config.of(FunitConfig), config.optimisers
    assert (w.adversarial_weight, own.funit_adversarial_factor) == (1.0, 0.5)
    assert (w.reconstruction_weight, own.feature_matching_weight) == (0.1, 1.0)
    assert (w.r1_weight, w.r1_every) == (10, 1)
    assert (o.generator_rate, o.discriminator_rate, o.weight_decay, o.average_decay) == (
        1e-4, 1e-4, 1e-4, 0.999,
    )  # fmt: skip
    assert (o.batch_size, config.schedule.steps, config.data.image_size) == (64, 100_000, 128)
    assert (config.networks.style_width, config.networks.guide_width) == (64, 64)


def test_the_class_encoder_learns_by_rmsprop_at_the_generators_rate() -> None:
    optimisers = new_state(config_of(guide_rate=0.5), torch.device("cpu")).optimisers
    assert type(optimisers.guide) is type(optimisers.generator)
    assert isinstance(optimisers.guide, torch.optim.RMSprop)
    ours, theirs = optimisers.guide.param_groups[0], optimisers.generator.param_groups[0]
    assert {k: v for k, v in ours.items() if k != "params"} == {
        k: v for k, v in theirs.items() if k != "params"
    }
    assert ours["lr"] == 5e-4


def test_the_presets_augmentation_is_random_crops_and_flips() -> None:
    """Crops are 128 of 140 px in each direction: a window of that share inside the picture, mirrored or not."""
    settings = read_config("table1-a").augment
    theta = random_affine(200, settings, torch.Generator().manual_seed(0)).double()
    share = 128 / 140
    assert theta[:, 0, 0].abs().numpy() == pytest.approx(share, abs=1e-4)
    assert theta[:, 1, 1].numpy() == pytest.approx(share, abs=1e-4)
    assert not theta[:, 0, 1].any()
    assert not theta[:, 1, 0].any()
    assert 60 < (theta[:, 0, 0] < 0).sum() < 140
    assert theta[:, :, 2].abs().max() <= 1 - share + 1e-4
    assert theta[:, :, 2].std(0).numpy() == pytest.approx((1 - share) / 3**0.5, rel=0.2)
    grey = torch.full((2, 3, 32, 32), 0.25)
    _, x_plus = two_views(grey, settings, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x_plus, grey, atol=1e-6, rtol=0)  # colours do not change


# ---- losses ----


def test_feature_matching_is_the_mean_difference_of_averages() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 4, 3, 5, 5))
    expected = np.abs(a.mean((2, 3)) - b.mean((2, 3))).mean()
    assert losses.feature_matching(*map(torch.from_numpy, (a, b))).item() == pytest.approx(
        expected, rel=1e-12
    )
    shuffled = torch.from_numpy(a).flip(2, 3)  # the position of a feature does not matter
    assert losses.feature_matching(torch.from_numpy(a), shuffled).item() == pytest.approx(0, abs=1e-12)
    half = torch.full((1, 1, 64, 64), 1.001, dtype=torch.bfloat16)
    assert losses.feature_matching(half, half + 1).dtype == torch.float32


def test_r1_of_patches_uses_their_mean() -> None:
    """The patches are 3 times the 16 pixels, so their mean has the gradient 3 / 16 at each pixel."""
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64).requires_grad_()
    assert losses.r1_penalty(3 * x[:, 0], x).item() == pytest.approx(16 * (3 / 16) ** 2, rel=1e-12)


# ---- bfloat16 ----


def test_bfloat16_losses_are_near_those_of_float32() -> None:
    def losses_in(precision: str) -> losses.Terms:
        config = config_of(discriminator_rate=2e-5, precision=precision)
        batch, permutation = random_batch(0, dtype=torch.float32)
        phase = Phase(True, True, penalise=True)
        return funit_step(random_state(config, torch.float32), batch, permutation, phase, config)

    full, half = assert_bfloat16_is_near(losses_in)
    # D's first step uses the same references, and R1 is float32 at any precision.
    for name in ("discriminator/real", "discriminator/r1"):
        assert half[name] == pytest.approx(full[name], rel=1e-6)


# ---- whole runs ----

RUN = {"guide_only_until": 0, "average_from": 0, "guide_only_batch_size": 0, "steps": 2, "style_width": 5}


@pytest.fixture
def pictures(tmp_path):
    for seed, name in enumerate(("cat", "dog", "fox")):
        write_pictures(tmp_path / "pictures" / name, 4, side=32, seed=seed)
    return tmp_path / "pictures"


def test_a_tiny_run_of_the_preset(tmp_path, pictures) -> None:
    state = start_run(pictures, tmp_path / "run", tiny_config("table1-a", **RUN), quiet=True)
    assert state.step == 2
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(last["generator/feature_matching"])
    model = load_model(tmp_path / "run")
    assert isinstance(model.guide, ClassEncoder)
    # The domains are the classes, although the class encoder does not predict them.
    assert model.domain_sizes.tolist() == [4, 4, 4]
    assert (tmp_path / "run" / "samples" / "step_00000002.png").is_file()


def test_resumed_equals_uninterrupted(tmp_path, pictures) -> None:
    config = tiny_config("table1-a", **RUN | {"steps": 3, "sample_every": 0})
    train_whole_and_in_parts(pictures, tmp_path, config, stop=1)


def test_unlabelled_pictures_are_refused_by_name(tmp_path, pictures) -> None:
    write_pictures(pictures, 1, side=32, seed=9)  # pictures next to the class folders
    with pytest.raises(DataError, match=r"1 of 13 pictures have no label \(000\.png is the first\).*'funit'"):
        start_run(pictures, tmp_path / "run", tiny_config("table1-a", **RUN), quiet=True)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"labels": "none"}, ConfigError, "labels is 'none'.*set --labels folders"),
        ({"guide_only_until": 1}, ConfigError, "guide_only_until is 1.*set --guide-only-until 0"),
        ({"micro_batch": 2}, ConfigError, "micro_batch is 2.*lower --batch-size"),
        ({"domains": 2}, DataError, "3 classes, more than the 2 domains: raise --domains to 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, pictures, overrides, error, message) -> None:
    with pytest.raises(error, match=message):
        start_run(pictures, tmp_path / "run", tiny_config("table1-a", **RUN | overrides), quiet=True)


def test_more_classes_than_domains_are_refused_for_tunit_too(tmp_path, pictures) -> None:
    config = tiny_config("table1-b", **RUN | {"domains": 2})
    with pytest.raises(DataError, match="3 classes, more than the 2 domains"):
        start_run(pictures, tmp_path / "run", config, quiet=True)


def test_a_training_step_refuses_an_unlabelled_picture() -> None:
    config = config_of()
    state = random_state(config)
    batch, permutation = random_batch(0, [1, -1])
    with pytest.raises(DataError, match="no label"):
        funit_step(state, batch, permutation, Phase(True, True, True), config)
    assert state.step == 0

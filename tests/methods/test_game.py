"""Options for D and G that the paper does not have, each written out: augmentation, LeCam, R1 by rule, rates."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from slow_step import MIXED, UNLABELLED_6, Case, SlowTraining, assert_equals_slow_steps
from tiny_step import config_of, random_batch, random_state
from tunit.config import AUTO_WEIGHT, Config, read_config
from tunit.data.batching.randomness import torch_generator
from tunit.errors import ConfigError
from tunit.methods import losses
from tunit.methods.adversarial_memory import AdversarialMemory, new_adversarial_memory
from tunit.methods.checks import check_config
from tunit.methods.differentiable_augment import (
    Draw,
    InputKind,
    augment_of,
    cut_out,
    shifted_over_grey,
)
from tunit.methods.method import Phase
from tunit.methods.objectives import discriminator_loss, weight_of_r1
from tunit.methods.optimisers import set_rates, set_rates_of_baseline, share_of_rate
from tunit.methods.state import TrainingState
from tunit.methods.tunit import tunit_step

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = 32


# ---- the transforms, for one picture ----


def slow_shift(picture: Tensor, down: int, right: int) -> Tensor:
    """(3, S, S), shifted by whole pixels; the new area is grey."""
    size = picture.shape[1]
    wide = torch.zeros(3, 3 * size, 3 * size, dtype=picture.dtype)
    wide[:, size : 2 * size, size : 2 * size] = 1
    inside = wide.bool()
    wide = wide.masked_scatter(inside, picture)
    return wide[:, size - down : 2 * size - down, size - right : 2 * size - right]


def slow_cut(picture: Tensor, row: int, column: int) -> Tensor:
    """(3, S, S) with a grey square of half the side, centred on a pixel."""
    out, size = picture.clone(), picture.shape[1]
    top, left = max(row - size // 4, 0), max(column - size // 4, 0)
    out[:, top : row + size // 4, left : column + size // 4] = 0
    return out


def slow_view(picture: Tensor, u: list[float], probability: float) -> Tensor:
    """One picture (3, S, S) as D gets it, from its six uniform random numbers."""
    size = picture.shape[1]
    if u[Draw.SHIFTS] < probability:
        most = size // 8
        down, right = (math.floor(u[d] * (2 * most + 1)) - most for d in (Draw.DOWN, Draw.RIGHT))
        picture = slow_shift(picture, down, right)
    if u[Draw.CUTS] < probability:
        row, column = (math.floor(u[d] * size) for d in (Draw.CUT_ROW, Draw.CUT_COLUMN))
        picture = slow_cut(picture, row, column)
    return picture


def draws_of(step: int, batch: int, seed: int = 0) -> Tensor:
    generator = torch_generator(seed, "what D sees", step)
    return torch.rand(len(InputKind), batch, len(Draw), generator=generator, dtype=torch.float64).float()


@pytest.mark.parametrize("probability", [0.0, 0.6, 1.0])
def test_d_gets_each_picture_transformed_as_by_hand(probability: float) -> None:
    config = config_of(discriminator_augment=probability)
    x = torch.rand(9, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    augment = augment_of(5, 9, torch.tensor(probability), config)
    u = draws_of(5, 9)
    for seen in InputKind:
        found = augment(x[2:7], seen, slice(2, 7))
        for i in range(5):
            expected = slow_view(x[2 + i], u[seen, 2 + i].tolist(), probability)
            torch.testing.assert_close(found[i], expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(found, x[2:7]) == (probability == 0)


def test_shifts_reach_an_eighth_of_the_side_and_no_further() -> None:
    x = torch.zeros(500, 3, SIZE, SIZE)
    x[:, :, 16, 16] = 1
    u = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    places = shifted_over_grey(x, u, torch.ones(500, dtype=torch.bool))[:, 0].nonzero()[:, 1:] - 16
    assert len(places) == 500
    assert set(places.flatten().tolist()) == set(range(-4, 5))


def test_translations_in_bfloat16_are_augmented_as_real_pictures_in_float32() -> None:
    """Zeros and ones are exact in both, so shifts and squares must be equal."""
    x = torch.zeros(2000, 3, SIZE, SIZE)
    x[:, :, ::3, ::5] = 1
    for probability in (0.5001, 1.0):
        config = config_of(discriminator_augment=probability)
        augment = augment_of(5, 2000, torch.tensor(probability), config)
        found = augment(x.bfloat16(), InputKind.FAKE, slice(None))
        assert found.dtype == torch.bfloat16
        expected = augment(x, InputKind.FAKE, slice(None))
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=0)


def test_a_random_number_that_is_rounded_to_one_shifts_no_further_than_an_eighth() -> None:
    x = torch.zeros(1, 3, SIZE, SIZE)
    x[:, :, 16, 16] = 1
    moved = shifted_over_grey(x, torch.ones(1, 2), torch.tensor([True]))
    assert moved[0, 0].nonzero().tolist() == [[20, 20]]


@pytest.mark.parametrize("what", [shifted_over_grey, cut_out])
def test_first_and_second_derivatives_of_the_augmentation_are_correct(what: Any) -> None:
    """The result is squared, so that its second derivative is not 0."""
    g = torch.Generator().manual_seed(3)
    x = (torch.rand(1, 3, 4, 4, generator=g, dtype=torch.float64) * 2 - 1).requires_grad_()
    u = torch.rand(1, 2, generator=g, dtype=torch.float64)
    chosen = torch.tensor([True])

    def squared(x: Tensor) -> Tensor:
        return what(x, u, chosen).square().sum((1, 2, 3))

    assert torch.autograd.gradcheck(squared, (x,))
    assert torch.autograd.gradgradcheck(squared, (x,))


# ---- the step ----


class SlowGame(SlowTraining):
    """The training step with the additional options, step by step."""

    def __init__(self, state: TrainingState, config: Config) -> None:
        super().__init__(state, config)
        self.own, self.config, self.taken = config.adversarial, config, 0
        self.strength, self.signs = 0.0, list[float]()
        if state.adversarial_memory:
            self.strength = state.adversarial_memory.strength.item()
        self.usual_real, self.usual_fake = 0.0, 0.0

    def seen(self, x: Tensor, what: InputKind, order: Tensor | None = None) -> Tensor:
        if not (self.own.discriminator_augment or self.own.discriminator_augment_target):
            return x
        u = draws_of(self.taken, len(x))[what]
        u = u if order is None else u[order]
        return torch.stack([slow_view(p, n.tolist(), self.strength) for p, n in zip(x, u, strict=True)])

    def discriminate(
        self, x_ref: Tensor, x_fake: Tensor, y_ref: Tensor, perm: Tensor, phase: Phase
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x_ref = x_ref.clone().requires_grad_()
        rows = torch.arange(len(x_ref))
        # Random numbers follow the picture, whichever picture it is a reference for.
        real = self.D(self.seen(x_ref, InputKind.REAL, perm))[rows, y_ref]
        fake = self.D(self.seen(x_fake, InputKind.FAKE))[rows, y_ref]
        parts = torch.clamp(1 - real, min=0).mean(), torch.clamp(1 + fake, min=0).mean()
        loss = self.w.adversarial_weight * (parts[0] + parts[1])
        terms = {"discriminator/real": parts[0], "discriminator/fake": parts[1]}
        terms["discriminator/real_sign"] = real.sign().mean()
        if phase.penalise:
            gamma = 2 * self.w.r1_weight
            if self.w.r1_weight == AUTO_WEIGHT:
                gamma = 0.0002 * self.config.data.image_size**2 / self.config.optimisers.batch_size
            (slope,) = torch.autograd.grad(real.sum(), x_ref, create_graph=True)
            penalty = (slope**2).sum() / len(rows)
            loss = loss + gamma / 2 * self.w.r1_every * penalty
            terms["discriminator/r1"] = penalty
        if self.own.lecam_weight:
            kept = ((real - self.usual_fake) ** 2).mean() + ((fake - self.usual_real) ** 2).mean()
            loss = loss + self.own.lecam_weight * kept
            answers = real.detach().mean(), fake.detach().mean()
            terms |= {"discriminator/lecam": kept}
            terms |= {f"discriminator/{n}_answer": a for n, a in zip(("real", "fake"), answers, strict=True)}
        return loss, terms

    def persuade(
        self, translated: Tensor, repeated: Tensor, y: Tensor, y_ref: Tensor
    ) -> tuple[Tensor, Tensor]:
        translated = self.seen(translated, InputKind.FAKE_AGAIN)
        return super().persuade(translated, self.seen(repeated, InputKind.RECONSTRUCTION), y, y_ref)

    def step(self, batch: Any, perm: Tensor, phase: Phase) -> dict[str, float]:
        used = self.own.discriminator_augment or self.own.discriminator_augment_target
        terms = super().step(batch, perm, phase)
        self.taken += 1
        if self.own.discriminator_augment_target:
            self.signs.append(terms["discriminator/real_sign"])
            if len(self.signs) == 4:
                up = sum(self.signs) / 4 > self.own.discriminator_augment_target
                change = 4 * len(batch.x) / self.own.discriminator_augment_pace
                self.strength = min(max(self.strength + (change if up else -change), 0.0), 1.0)
                self.signs = []
        if self.own.lecam_weight:
            decay = self.own.lecam_decay
            real, fake = (terms[f"discriminator/{n}_answer"] for n in ("real", "fake"))
            self.usual_real = decay * self.usual_real + (1 - decay) * real
            self.usual_fake = decay * self.usual_fake + (1 - decay) * fake
        if used:
            terms["discriminator/augment"] = self.strength
        return terms


AUGMENT = {"discriminator_augment": 0.7}
CASES = {
    "augmented": Case(AUGMENT),
    "augmented, few labels, in parts": Case(AUGMENT, y=MIXED, micro_batch=4),
    "LeCam": Case({"lecam_weight": 0.3, "lecam_decay": 0.5}),
    "LeCam in parts": Case({"lecam_weight": 0.3, "lecam_decay": 0.5}, y=UNLABELLED_6, micro_batch=2),
    "R1 by rule": Case({"r1_weight": "auto", "batch_size": 4}),
    "all": Case(
        AUGMENT | {"lecam_weight": 0.3, "r1_weight": "auto", "r1_every": 2}, y=UNLABELLED_6, micro_batch=2
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_three_steps_equal_the_slow_ones(name: str) -> None:
    assert_equals_slow_steps(CASES[name], SlowGame)


def test_a_step_that_is_repeated_after_a_rollback_shows_d_other_views(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, seen = config_of(discriminator_augment=0.5), []
    real = AdversarialMemory.augment

    def noted(self: AdversarialMemory, *arguments: Any) -> Any:
        found = real(self, *arguments)
        seen.append(found.draws)
        return found

    monkeypatch.setattr(AdversarialMemory, "augment", noted)
    for rollbacks in (0, 1, 2, 1):
        state = random_state(config)
        state.rollbacks = rollbacks
        tunit_step(state, *random_batch(0, [-1] * 4), Phase(True, True, penalise=False), config)
    assert torch.equal(seen[0], draws_of(state.step - 1, 4))
    assert torch.equal(seen[1], seen[3])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(seen[one], seen[other])


@pytest.mark.parametrize(("pace", "target"), [(300, 0.999), (20, 0.6)])
def test_the_adaptive_strength_follows_the_signs(pace: int, target: float) -> None:
    """Nine steps. The strength changes twice, by the pictures of four steps over the pace, and stays in [0, 1]."""
    config = config_of(
        discriminator_augment=0.5, discriminator_augment_target=target, discriminator_augment_pace=pace
    )
    state = random_state(config)
    slow = SlowGame(state, config)
    seen = []
    for i in range(9):
        batch, permutation = random_batch(i, [-1] * 4)
        phase = Phase(True, True, penalise=i == 0)
        expected = slow.step(batch, permutation, phase)
        terms = tunit_step(state, batch, permutation, phase, config)
        for name, value in expected.items():
            assert terms[name].item() == pytest.approx(value, rel=1e-6, abs=1e-7), (i, name)
        seen.append(round(terms["discriminator/augment"].item(), 6))
    assert len(set(seen)) > 1
    assert [i for i in range(1, 9) if seen[i] != seen[i - 1]] == [3, 7][
        : len(set(seen)) - 1 if pace > 20 else 1
    ]


@pytest.mark.parametrize(
    ("signs", "expected"), [([1.0] * 4, 0.54), ([0.0] * 4, 0.46), ([1.0] * 3, 0.5), ([0.6] * 4, 0.5)]
)
def test_the_strength_rule_is_that_of_ada(signs: list[float], expected: float) -> None:
    config = config_of(
        discriminator_augment=0.5, discriminator_augment_target=0.6, discriminator_augment_pace=400
    )
    memory = new_adversarial_memory(config, torch.device("cpu"))
    assert isinstance(memory, AdversarialMemory)
    for sign in signs:
        memory.learn({"discriminator/real_sign": torch.tensor(sign)}, 4, config)
    assert memory.strength.item() == pytest.approx(expected)


def test_the_papers_setting_stores_no_extra_state() -> None:
    paper = read_config("paper")
    assert dataclasses.asdict(paper.adversarial) == dataclasses.asdict(type(paper.adversarial)())
    assert new_adversarial_memory(paper, torch.device("cpu")) is None
    assert paper.optimisers.joint_warm_up == 0
    assert weight_of_r1(paper) == 10


@pytest.mark.parametrize(
    ("size", "batch", "gamma"), [(1024, 32, 6.5536), (256, 64, 0.2048), (32, 16, 0.0128)]
)
def test_the_r1_rule_is_that_of_stylegan2_ada(size: int, batch: int, gamma: float) -> None:
    """Values from the table in its paper for these sizes and batches; our weight is half of gamma."""
    config = Config().with_overrides({"image_size": size, "batch_size": batch, "r1_weight": "auto"})
    assert weight_of_r1(config) == pytest.approx(gamma / 2)


# ---- rates ----


def test_rates_rise_then_stay() -> None:
    config = config_of(steps=100, guide_only_until=20, joint_warm_up=9)
    shares = [share_of_rate(step, config) for step in range(20, 100)]
    assert shares[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert shares[10:] == [1.0] * 70
    state = random_state(config)
    set_rates(state.optimisers, 24, config)
    rates = {name: o.param_groups[0]["lr"] for name, o in state.optimisers.named().items()}
    assert rates == pytest.approx({"guide": 1e-3, "generator": 2.5e-4, "discriminator": 1e-4})


def test_the_first_rmsprop_step_is_ten_times_the_rate_but_not_with_a_warm_up() -> None:
    """The reason for the warm-up: after one step the mean square is a hundredth of the squared gradient, so its root
    is a tenth, and the step is ten times the rate. A warm-up divides that by ten.
    """
    moved = []
    for warm_up in (0, 9):
        config = config_of(guide_only_until=0, joint_warm_up=warm_up, weight_decay=0.0)
        state = random_state(config)
        set_rates(state.optimisers, 0, config)
        before = [p.detach().clone() for p in state.networks.generator.parameters()]
        for parameter in state.networks.generator.parameters():
            parameter.grad = torch.ones_like(parameter)
        state.optimisers.generator.step()
        after = state.networks.generator.parameters()
        (first, *_) = [(b - a).mean().item() for a, b in zip(after, before, strict=True)]
        moved.append(first)
    assert moved == pytest.approx([10 * 5e-4, 5e-4], rel=1e-4)


def test_a_class_encoder_follows_the_generators_rate_and_alone_uses_all_of_it() -> None:
    config = config_of(steps=100, guide_only_until=20, joint_warm_up=9)
    state = random_state(config)
    for step, share in ((0, 1.0), (20, 0.1), (24, 0.5), (50, 1.0)):
        set_rates_of_baseline(state.optimisers, step, config)
        rates = {name: o.param_groups[0]["lr"] for name, o in state.optimisers.named().items()}
        assert rates["guide"] == pytest.approx(share * 5e-4)
        assert step < 20 or rates["generator"] == pytest.approx(share * 5e-4)


def test_the_papers_rates_are_constant() -> None:
    config = read_config("paper")
    assert {share_of_rate(step, config) for step in (0, 65_000, 65_001, 130_000, 199_999)} <= {1.0, 0.0}
    assert {share_of_rate(step, config) for step in range(65_000, 200_000, 999)} == {1.0}


# ---- settings that other methods do not accept ----


@pytest.mark.parametrize(
    ("name", "value"),
    [("lecam_weight", 0.1), ("discriminator_augment", 0.5), ("discriminator_augment_target", 0.6)],
)
def test_a_baseline_refuses_settings_it_does_not_use(name: str, value: Any) -> None:
    config = Config().with_overrides(
        {"method": "funit", "labels": "folders", "guide_only_until": 0, name: value}
    )
    with pytest.raises(ConfigError, match=f"{name} is {value}, .*'funit'"):
        check_config(config.resolved_schedule())
    check_config(config.with_overrides({"method": "tunit"}).resolved_schedule())


@pytest.mark.parametrize("bad", ["-0.5", "automatic", "nan"])
def test_a_weight_is_a_number_or_auto(bad: str) -> None:
    with pytest.raises(ConfigError, match="r1_weight"):
        Config().with_overrides({"r1_weight": bad})
    assert 'r1_weight = "auto"' in Config().with_overrides({"r1_weight": "auto"}).to_toml()


def test_r1_without_a_weight_is_measured_but_not_differentiated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second derivatives take most of the time of D's step."""
    penalties: list[Tensor] = []
    real = losses.r1_penalty

    def noted(*given: Any, **named: Any) -> Tensor:
        penalties.append(real(*given, **named))
        return penalties[-1]

    monkeypatch.setattr(losses, "r1_penalty", noted)
    phase = Phase(joint=True, average_generator=True, penalise=True)
    x, x_fake, y = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32), torch.tensor([0, 2])
    gradients, measured = [], []
    for weight in (0.0, 1e-30):  # the tiny weight adds less than any rounding
        config = config_of(r1_weight=weight)
        discriminator = random_state(config, torch.float32).networks.discriminator
        loss, terms = discriminator_loss(discriminator, x, y, x_fake, y, phase, config)
        loss.backward()
        gradients.append([parameter.grad for parameter in discriminator.parameters()])
        measured.append(terms["discriminator/r1"])
    assert [penalty.requires_grad for penalty in penalties] == [False, True]
    assert measured[0] == measured[1] > 0
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)

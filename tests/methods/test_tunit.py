"""The training step, compared with one written out slowly in float64, with each forward pass separate."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from slow_step import LABELLED, MIXED, UNLABELLED_6, Case, SlowTraining, assert_equals_slow_steps
from tiny_step import config_of, random_batch, random_state
from tunit.methods.method import Phase
from tunit.methods.state import TrainingState
from tunit.methods.tunit import tunit_step

pytestmark = pytest.mark.usefixtures("one_thread")


SUPERVISED = {"labelled_guide_factor": 0.1, "classification_weight": 0.0}
CASES = {
    "unsupervised": Case(),
    "guide alone": Case(joint=False),
    "guide alone, few labels": Case(y=MIXED, joint=False),
    "guide alone, labels only": Case(y=LABELLED, joint=False),
    "styles alone": Case({"overclusters": 5, "candidate_heads": 2}, joint=False, learns_domains=False),
    "styles alone, few labels": Case(y=MIXED, joint=False, learns_domains=False),
    "few labels": Case(y=MIXED),
    "few labels, other factors": Case({"labelled_guide_factor": 0.7, "joint_guide_factor": 0.3}, y=MIXED),
    "all labelled": Case(y=LABELLED),
    "supervised": Case(SUPERVISED, y=LABELLED),
    "lazy R1": Case({"r1_every": 2}),
    "one domain": Case({"domains": 1}),
    "overclusters": Case(
        {"overclusters": 5, "overcluster_weight": 2.0, "marginal_balance": 1.3}, y=UNLABELLED_6
    ),
    "overclusters, few labels": Case({"overclusters": 5, "overcluster_weight": 2.0}, y=MIXED),
    "candidate heads": Case({"candidate_heads": 2, "marginal_balance": 1.3}, y=UNLABELLED_6),
    "candidate heads, few labels": Case({"candidate_heads": 3}, y=MIXED),
    "swapped assignments": Case({"clustering_objective": "swapped-assignments"}),
    "swapped assignments, all heads, few labels": Case(
        {
            "clustering_objective": "swapped-assignments",
            "overclusters": 5,
            "overcluster_weight": 2.0,
            "candidate_heads": 2,
        },
        y=MIXED,
    ),
    "other weights": Case(
        {
            "mutual_information_weight": 2.0,
            "guide_style_weight": 0.5,
            "adversarial_weight": 0.7,
            "reconstruction_weight": 3.0,
            "generator_style_weight": 1.5,
            "r1_weight": 0.5,
            "temperature": 0.3,
        }
    ),
    "back-translation": Case({"back_translation_weight": 2.0}),
    "adversarial loss for G alone": Case({"adversarial_trains": "generator"}),
    "average of G starts late": Case(average_from=2),
    "in parts": Case(y=UNLABELLED_6, micro_batch=2),
    "in unequal parts": Case({"adversarial_trains": "generator"}, y=MIXED, micro_batch=4),
    "back-translation, in unequal parts": Case(
        {"adversarial_trains": "generator", "back_translation_weight": 2.0}, y=MIXED, micro_batch=4
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_three_steps_equal_the_slow_ones(name: str) -> None:
    assert_equals_slow_steps(CASES[name], SlowTraining)


@pytest.mark.parametrize(
    ("learns_domains", "labels", "passes"),
    [(False, UNLABELLED_6, 1), (True, UNLABELLED_6, 2), (False, MIXED, 2)],
)
def test_e_sees_second_views_only_if_a_loss_needs_its_output(
    learns_domains: bool, labels: tuple[int, ...], passes: int
) -> None:
    config = config_of()
    state = random_state(config)
    seen: list[int] = []
    state.networks.guide.register_forward_hook(lambda guide, inputs, output: seen.append(len(inputs[0])))
    batch, permutation = random_batch(0, list(labels))
    tunit_step(state, batch, permutation, Phase(False, False, False, learns_domains), config)
    assert seen == [6] * passes


def test_the_average_of_g_equals_g_until_its_start() -> None:
    config = config_of()
    state = random_state(config)
    for i, follows in enumerate((False, True)):
        batch, permutation = random_batch(i, [-1] * 4)
        tunit_step(state, batch, permutation, Phase(True, follows, True), config)
        pairs = zip(
            state.networks.generator_average.parameters(), state.networks.generator.parameters(), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs) != follows


def test_batch_norm_statistics_of_the_average_equal_those_of_the_network() -> None:
    config = config_of()
    state = random_state(config)
    batch, permutation = random_batch(0, [-1] * 4)
    before = [b.clone() for b in state.networks.guide.buffers()]
    tunit_step(state, batch, permutation, Phase(True, True, True), config)
    live, average = state.networks.guide.buffers(), state.networks.guide_average.buffers()
    for mine, theirs, old in zip(average, live, before, strict=True):
        assert torch.equal(mine, theirs)
        assert not torch.equal(theirs, old)


def test_returned_terms_have_no_graph_and_the_discriminator_can_learn_again() -> None:
    config = config_of()
    state = random_state(config)
    batch, permutation = random_batch(0, [-1] * 4)
    terms = tunit_step(state, batch, permutation, Phase(True, True, True), config)
    assert not any(term.requires_grad for term in terms.values())
    assert not state.queue.requires_grad
    networks = state.networks.named()
    for name, network in networks.items():
        assert all(p.requires_grad != name.endswith("average") for p in network.parameters()), name


def test_discriminator_learns_again_after_a_failed_step(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of()
    state = random_state(config)
    batch, permutation = random_batch(0, [-1] * 4)

    def fail(*_: Any) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("tunit.methods.losses.reconstruction", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        tunit_step(state, batch, permutation, Phase(True, True, True), config)
    assert all(p.requires_grad for p in state.networks.discriminator.parameters())


def test_the_discriminator_does_not_change_while_g_learns() -> None:
    """The gradients of D's own step must not be mixed with those from G's step."""
    config = config_of(adversarial_weight=0.0, r1_weight=0.0, weight_decay=0.0)
    state = random_state(config)
    before = [p.clone() for p in state.networks.discriminator.parameters()]
    for i in range(2):
        batch, permutation = random_batch(i, [-1] * 4)
        tunit_step(state, batch, permutation, Phase(True, True, True), config)
    after = state.networks.discriminator.parameters()
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


# ---- bfloat16 ----


def step_in(precision: str, y: tuple[int, ...], **overrides: Any) -> tuple[TrainingState, dict[str, float]]:
    config = config_of(**{"temperature": 0.07, "precision": precision, **overrides})
    state = random_state(config, torch.float32)
    batch, permutation = random_batch(0, list(y), torch.float32)
    phase = Phase(joint=True, average_generator=True, penalise=True)
    terms = tunit_step(state, batch, permutation, phase, config)
    return state, {name: term.item() for name, term in terms.items()}


@pytest.mark.parametrize(("y", "domains"), [(UNLABELLED_6, 1), (LABELLED, 3)])
def test_bfloat16_losses_are_near_those_of_float32(y: tuple[int, ...], domains: int) -> None:
    """bfloat16 has 8 bits, a precision of 0.4 %; after about twenty layers of rounding, a few per cent remain.

    Only with certain labels: rounding may change the label of a picture between two domains. Rates are low, because
    RMSprop's first step is as large as its rate for any gradient that is not 0.
    """
    slow = {"domains": domains, "guide_rate": 1e-4, "discriminator_rate": 2e-5}
    full, half = (step_in(p, y, **slow) for p in ("float32", "bfloat16"))
    assert set(full[1]) == set(half[1])
    assert full[1] != half[1]  # bfloat16 was really used
    for name, value in full[1].items():
        if "gradient" not in name:  # rounding errors of many layers add up in gradients, which are no losses
            assert half[1][name] == pytest.approx(value, rel=0.1, abs=0.1), name
    state = half[0]
    for name, network in state.networks.named().items():
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in network.parameters()), name
        assert all(b.isfinite().all() for b in network.buffers()), name
    assert state.queue.dtype == torch.float32


def test_r1_is_float32_at_any_precision() -> None:
    """With true labels, D gets the same references at its first step, so R1 is the same too."""
    full, half = (step_in(p, LABELLED, adversarial_weight=0.0) for p in ("float32", "bfloat16"))
    for name in ("discriminator/real", "discriminator/r1"):
        assert half[1][name] == pytest.approx(full[1][name], rel=1e-6)
    for ours, theirs in zip(
        half[0].networks.discriminator.parameters(), full[0].networks.discriminator.parameters(), strict=True
    ):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


class MatrixProducts(TorchDispatchMode):
    """Records the types of all matrix products, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm"):
            self.types.append(out.dtype)
        return out


def test_heads_and_losses_of_e_are_float32_in_both_directions() -> None:
    """While E trains alone, only its heads and losses contain matrix products."""
    config = config_of(overclusters=5, overcluster_weight=1.0, precision="bfloat16")
    state = random_state(config, torch.float32)
    batch, permutation = random_batch(0, list(MIXED), torch.float32)
    with MatrixProducts() as products:
        phase = Phase(joint=False, average_generator=False, penalise=False)
        tunit_step(state, batch, permutation, phase, config)
    # Three passes through three heads, two mutual informations, one contrastive loss, and their backward passes.
    assert len(products.types) > 9 + 3
    assert set(products.types) == {torch.float32}


def test_bfloat16_uses_the_current_weights() -> None:
    """Autocast can cache its copies of weights, but E and D change within a step."""
    config = config_of(guide_rate=0.1, precision="bfloat16")
    state = random_state(config, torch.float32)
    errors: dict[str, list[float]] = {}

    def check(name: str) -> Any:
        def hook(module: torch.nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
            if output.dtype != torch.bfloat16:
                return
            x, weight, bias = (t.detach().bfloat16() for t in (*inputs, module.weight, module.bias))
            expected = F.conv2d(x, weight, bias, padding=1)
            errors.setdefault(name, []).append((output.detach() - expected).abs().max().item())

        return hook

    state.networks.guide.trunk[0].register_forward_hook(check("guide"))
    state.networks.discriminator.stem.register_forward_hook(check("discriminator"))
    batch, permutation = random_batch(0, [-1] * 4, torch.float32)
    phase = Phase(joint=True, average_generator=True, penalise=True)
    tunit_step(state, batch, permutation, phase, config)
    assert errors == {"guide": [0, 0, 0, 0], "discriminator": [0, 0]}


@pytest.mark.parametrize(
    ("settings", "head"),
    [
        ({"guide_style_weight": 0}, "style_head"),
        ({"mutual_information_weight": 0, "overcluster_weight": 0}, "domain_head"),
        ({"mutual_information_weight": 0, "overcluster_weight": 0, "guide_style_weight": 0}, "trunk.0"),
    ],
)
def test_a_loss_with_a_weight_of_0_changes_no_weights(settings: dict[str, float], head: str) -> None:
    """With a gradient of 0 instead of none, Adam's weight decay would shrink the head to 0."""
    config = config_of(guide_only_until=10, **settings)
    state = random_state(config)
    weights = state.networks.guide.get_submodule(head).weight
    before = weights.detach().clone()
    for step in range(3):
        terms = tunit_step(state, *random_batch(step, [-1] * 6), Phase(False, True, False), config)
    assert torch.equal(weights, before)
    assert terms["guide/style"] > 0 and terms["guide/mutual_information"] > 0  # still shown


def test_with_a_factor_of_0_joint_steps_do_not_change_the_domain_head() -> None:
    config = config_of(joint_guide_factor=0)
    state = random_state(config)
    before = state.networks.guide.domain_head.weight.detach().clone()
    tunit_step(state, *random_batch(0, [-1] * 6), Phase(True, True, True), config)
    assert torch.equal(state.networks.guide.domain_head.weight, before)

"""The training step against the method's section 4 written out slowly, each forward pass by itself, in float64."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tiny_step import LiteralNetworks, config_of, random_batch, random_state
from tunit.config import Config
from tunit.data.batches import Batch
from tunit.methods.method import Phase
from tunit.methods.state import TrainingState
from tunit.methods.tunit import tunit_step

pytestmark = pytest.mark.usefixtures("one_thread")


class SlowTraining(LiteralNetworks):
    """Section 4 of the method, literally. Everything of its own but the networks' forward passes."""

    def __init__(self, state: TrainingState, config: Config) -> None:
        networks = copy.deepcopy(state.networks)
        self.E, self.E_bar = networks.guide, networks.guide_average
        self.G, self.G_bar, self.D = networks.generator, networks.generator_average, networks.discriminator
        self.queue = [key.clone() for key in state.queue]
        self.w, o = config.losses, config.optimisers
        self.decay = o.average_decay
        self.adam_E = torch.optim.Adam(
            self.E.parameters(), o.guide_rate, o.guide_betas, weight_decay=o.guide_weight_decay, foreach=False
        )
        self.rmsprop_G, self.rmsprop_D = (
            torch.optim.RMSprop(
                network.parameters(),
                rate,
                alpha=o.rmsprop_alpha,
                eps=o.rmsprop_eps,
                weight_decay=o.weight_decay,
                foreach=False,
            )
            for network, rate in ((self.G, o.generator_rate), (self.D, o.discriminator_rate))
        )

    def zero_grad(self) -> None:
        for network in (self.E, self.G, self.D):
            network.zero_grad(set_to_none=True)

    @staticmethod
    def information(logits: Tensor, logits_plus: Tensor, balance: float) -> Tensor:
        p, q = F.softmax(logits, 1), F.softmax(logits_plus, 1)
        joint = sum(torch.outer(a, b) for a, b in zip(p, q, strict=True)) / len(p)
        joint = (joint + joint.T) / 2
        joint = torch.clamp(joint / joint.sum(), min=1e-10)
        independent = torch.outer(joint.sum(1), joint.sum(0))
        return (joint * torch.log(joint)).sum() - balance * (joint * torch.log(independent)).sum()

    def contrast(self, query: Tensor, key: Tensor) -> Tensor:
        positive = torch.stack([torch.dot(a, b) for a, b in zip(query, key, strict=True)])
        negatives = query @ torch.stack(self.queue).T
        logits = torch.cat([positive[:, None], negatives], 1) / self.w.temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64))

    def guide_loss(
        self, x: Tensor, x_plus: Tensor, y: Tensor, factor: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Step 1: the unlabelled and the labelled part of the batch, each by itself, by their shares."""
        w, here, plus = self.w, self.E(x), self.E(x_plus)
        keys = self.E_bar(x_plus).style.detach()
        terms: dict[str, Tensor] = {}
        loss: Tensor = torch.zeros((), dtype=x.dtype)
        style, shares = torch.zeros((), dtype=x.dtype), 0.0
        for labelled, of_part in ((False, factor), (True, w.labelled_guide_factor)):
            rows = torch.tensor([i for i in range(len(y)) if (y[i] >= 0) == labelled], dtype=torch.int64)
            if not len(rows):
                continue
            share = of_part * len(rows) / len(y)
            contrast = self.contrast(here.style[rows], keys[rows])
            style, shares = style + share * contrast, shares + share
            loss = loss + share * w.guide_style_weight * contrast
            if not labelled:
                # What is reported is the mutual information; what E maximises has the balanced marginals.
                clusterings = [(here.logits, plus.logits, "mutual", w.mutual_information_weight)]
                if here.overcluster_logits is not None:
                    pair = (here.overcluster_logits, plus.overcluster_logits)
                    clusterings.append((*pair, "overcluster", w.overcluster_weight))
                for logits, logits_plus, name, weight in clusterings:
                    views = (logits[rows], logits_plus[rows])
                    terms[f"guide/{name}_information"] = self.information(*views, 1.0)
                    objective = self.information(*views, w.marginal_balance)
                    if name == "mutual" and here.candidate_logits is not None:
                        heads = len(here.candidate_logits)
                        for h in range(heads):
                            views = (here.candidate_logits[h][rows], plus.candidate_logits[h][rows])
                            objective = objective + self.information(*views, w.marginal_balance)
                        objective = objective / (1 + heads)
                    loss = loss - share * weight * objective
            elif w.classification_weight:
                entropy = F.cross_entropy(here.logits[rows], y[rows])
                entropy = entropy + F.cross_entropy(plus.logits[rows], y[rows])
                terms["guide/classification"] = entropy
                loss = loss + share * w.classification_weight * entropy
        return loss, terms | {"guide/style": style / shares}

    def step(self, batch: Batch, perm: Tensor, phase: Phase) -> dict[str, float]:
        x, x_plus, w = batch.x, batch.x_plus, self.w
        x_ref = x[perm]
        keys = self.E_bar(x_plus).style.detach()
        # 1. E learns.
        self.zero_grad()
        loss, terms = self.guide_loss(x, x_plus, batch.y, w.joint_guide_factor if phase.joint else 1.0)
        loss.backward()
        self.adam_E.step()
        if phase.joint:
            # 2. Labels and translations of the updated E, no gradients.
            with torch.no_grad():
                guessed, guessed_ref = self.E(x).logits.argmax(1), self.E(x_ref).logits.argmax(1)
                y = torch.tensor([t if t >= 0 else g for t, g in zip(batch.y, guessed, strict=True)])
                y_ref = torch.tensor(
                    [t if t >= 0 else g for t, g in zip(batch.y[perm], guessed_ref, strict=True)]
                )
                x_fake = self.G(x, self.E(x_ref).style)
            # 3. D learns.
            self.zero_grad()
            rows = torch.arange(len(x))
            real = torch.clamp(1 - self.D(x_ref)[rows, y_ref], min=0).mean()
            fake = torch.clamp(1 + self.D(x_fake)[rows, y_ref], min=0).mean()
            loss = w.adversarial_weight * (real + fake)
            terms |= {"discriminator/real": real, "discriminator/fake": fake}
            if phase.penalise:
                penalty = torch.zeros((), dtype=x.dtype)
                for i in range(len(x)):
                    picture = x_ref[i : i + 1].clone().requires_grad_()
                    (slope,) = torch.autograd.grad(self.D(picture)[0, y_ref[i]], picture, create_graph=True)
                    penalty = penalty + (slope**2).sum() / len(x)
                terms["discriminator/r1"] = penalty
                loss = loss + w.r1_weight * w.r1_every * penalty
            loss.backward()
            self.rmsprop_D.step()
            # 4. G and, once more, E learn from the updated D.
            self.zero_grad()
            translated = self.G(x, self.E(x_ref).style)
            repeated = self.G(x, self.E(x).style)
            adversarial = -self.D(translated)[rows, y_ref].mean()
            adversarial_rec = -self.D(repeated)[rows, y].mean()
            l1 = (repeated - x).abs().sum() / x.numel()
            style = self.contrast(self.E(translated).style, self.E_bar(x_ref).style.detach())
            loss = (
                w.adversarial_weight * adversarial
                + w.adversarial_weight * adversarial_rec
                + w.reconstruction_weight * l1
                + w.generator_style_weight * style
            )
            if w.adversarial_trains == "generator":
                # E's gradients come from a loss without D, in passes of their own; G's are those of all terms.
                loss.backward()
                kept = [parameter.grad for parameter in self.G.parameters()]
                self.zero_grad()
                translated, repeated = self.G(x, self.E(x_ref).style), self.G(x, self.E(x).style)
                l1 = (repeated - x).abs().sum() / x.numel()
                style = self.contrast(self.E(translated).style, self.E_bar(x_ref).style.detach())
                (w.reconstruction_weight * l1 + w.generator_style_weight * style).backward()
                for parameter, gradient in zip(self.G.parameters(), kept, strict=True):
                    parameter.grad = gradient
            else:
                loss.backward()
            self.rmsprop_G.step()
            self.adam_E.step()
            terms |= {
                "generator/adversarial": adversarial,
                "generator/adversarial_reconstruction": adversarial_rec,
                "generator/reconstruction": l1,
                "generator/style": style,
            }
        # 5. Keys and averages.
        self.queue = (self.queue + list(keys))[-len(self.queue) :]
        self.average(self.E_bar, self.E, self.decay)
        if phase.joint:
            self.average(self.G_bar, self.G, self.decay if phase.average_generator else 0)
        return {name: term.item() for name, term in terms.items()}

    @staticmethod
    def average(bar: torch.nn.Module, live: torch.nn.Module, decay: float) -> None:
        for mine, theirs in zip(bar.parameters(), live.parameters(), strict=True):
            mine.data = decay * mine.data + (1 - decay) * theirs.data


@dataclasses.dataclass
class Case:
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    y: tuple[int, ...] = (-1, -1, -1, -1)
    joint: bool = True
    average_from: int = 0
    micro_batch: int = 0


UNLABELLED_6, MIXED, LABELLED = (-1,) * 6, (-1, 2, -1, 0, -1, -1), (1, 2, 0, 2)
SUPERVISED = {"labelled_guide_factor": 0.1, "classification_weight": 0.0}
CASES = {
    "unsupervised": Case(),
    "guide alone": Case(joint=False),
    "guide alone, few labels": Case(y=MIXED, joint=False),
    "guide alone, labels only": Case(y=LABELLED, joint=False),
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
    "adversarial loss for G alone": Case({"adversarial_trains": "generator"}),
    "average of G starts late": Case(average_from=2),
    "in parts": Case(y=UNLABELLED_6, micro_batch=2),
    "in unequal parts": Case({"adversarial_trains": "generator"}, y=MIXED, micro_batch=4),
}


@pytest.mark.parametrize("name", CASES)
def test_three_steps_equal_the_slow_ones(name: str) -> None:
    case = CASES[name]
    config = config_of(**case.overrides, micro_batch=case.micro_batch)
    state = random_state(config)
    slow = SlowTraining(state, config)
    before = {n: copy.deepcopy(net.state_dict()) for n, net in state.networks.named().items()}
    for i in range(3):
        phase = Phase(case.joint, i >= case.average_from, penalise=i % config.losses.r1_every == 0)
        batch, permutation = random_batch(i, list(case.y))
        expected = slow.step(batch, permutation, phase)
        terms = tunit_step(state, batch, permutation, phase, config)
        assert set(terms) == set(expected)
        for term, value in expected.items():
            assert terms[term].item() == pytest.approx(value, rel=1e-9, abs=1e-9), (i, term)
        for network, theirs in slow.named().items():
            ours = dict(state.networks.named()[network].named_parameters())
            for key, value in theirs.named_parameters():
                torch.testing.assert_close(
                    ours[key].data, value.data, atol=1e-9, rtol=1e-9, msg=f"step {i}: {network} {key}"
                )
        torch.testing.assert_close(state.queue, torch.stack(slow.queue), atol=1e-9, rtol=1e-9)
    assert state.step == 3
    # The comparison means something: the steps moved what they should, by far more than its tolerance.
    for network, theirs in state.networks.named().items():
        moved = max((p.data - before[network][key]).abs().max() for key, p in theirs.named_parameters())
        if case.joint or network.startswith("guide"):
            assert moved > 1e-5, network
        else:
            assert moved == 0, network


def test_the_average_of_g_is_g_until_its_start() -> None:
    config = config_of()
    state = random_state(config)
    for i, follows in enumerate((False, True)):
        batch, permutation = random_batch(i, [-1] * 4)
        tunit_step(state, batch, permutation, Phase(True, follows, True), config)
        pairs = zip(
            state.networks.generator_average.parameters(), state.networks.generator.parameters(), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs) != follows


def test_batch_norm_statistics_of_the_average_are_those_of_the_live_network() -> None:
    config = config_of()
    state = random_state(config)
    batch, permutation = random_batch(0, [-1] * 4)
    before = [b.clone() for b in state.networks.guide.buffers()]
    tunit_step(state, batch, permutation, Phase(True, True, True), config)
    live, average = state.networks.guide.buffers(), state.networks.guide_average.buffers()
    for mine, theirs, old in zip(average, live, before, strict=True):
        assert torch.equal(mine, theirs)
        assert not torch.equal(theirs, old)


def test_terms_are_free_of_the_graph_and_discriminator_learns_again() -> None:
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


def test_the_discriminator_stays_as_it_is_while_g_learns() -> None:
    """D's gradients of its own step must not mix with those of G's."""
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
    """bfloat16 keeps 8 bits, 0.4 %: over some twenty layers of roundings a few per cent remain.

    Only where every label is sure: a picture between two domains may change its label by rounding. With slow
    rates, since RMSprop's first step has the size of its rate wherever the gradient has a sign, however small.
    """
    slow = {"domains": domains, "guide_rate": 1e-4, "discriminator_rate": 2e-5}
    full, half = (step_in(p, y, **slow) for p in ("float32", "bfloat16"))
    assert set(full[1]) == set(half[1])
    assert full[1] != half[1]  # bfloat16 was at work
    for name, value in full[1].items():
        assert half[1][name] == pytest.approx(value, rel=0.1, abs=0.1), name
    state = half[0]
    for name, network in state.networks.named().items():
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in network.parameters()), name
        assert all(b.isfinite().all() for b in network.buffers()), name
    assert state.queue.dtype == torch.float32


def test_r1_is_float32_whatever_the_precision() -> None:
    """With true labels, D sees the same references at its first step: all that R1 does is the same."""
    full, half = (step_in(p, LABELLED, adversarial_weight=0.0) for p in ("float32", "bfloat16"))
    for name in ("discriminator/real", "discriminator/r1"):
        assert half[1][name] == pytest.approx(full[1][name], rel=1e-6)
    for ours, theirs in zip(
        half[0].networks.discriminator.parameters(), full[0].networks.discriminator.parameters(), strict=True
    ):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


class MatrixProducts(TorchDispatchMode):
    """Notes the types of all matrix products, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm"):
            self.types.append(out.dtype)
        return out


def test_heads_and_losses_of_e_are_float32_in_both_directions() -> None:
    """While E trains alone, the only matrix products are those of its heads and losses."""
    config = config_of(overclusters=5, overcluster_weight=1.0, precision="bfloat16")
    state = random_state(config, torch.float32)
    batch, permutation = random_batch(0, list(MIXED), torch.float32)
    with MatrixProducts() as products:
        phase = Phase(joint=False, average_generator=False, penalise=False)
        tunit_step(state, batch, permutation, phase, config)
    # Three passes with three heads, two informations, one contrast, and their backward passes.
    assert len(products.types) > 9 + 3
    assert set(products.types) == {torch.float32}


def test_bfloat16_uses_the_weights_of_the_moment() -> None:
    """Autocast can keep its copies of weights, but E and D change within the step."""
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

"""TUNIT's training step, written out slowly with each forward pass separate, and its comparison with ours.

docs/equations.md has the equations.
"""

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tiny_step import LiteralNetworks, config_of, random_batch, random_state
from tunit.config import Config
from tunit.data.batching.batches import Batch
from tunit.methods.method import Phase
from tunit.methods.state import TrainingState
from tunit.methods.tunit import tunit_step


class SlowTraining(LiteralNetworks):
    """TUNIT's training step, one part after the other. Only the networks' forward passes are shared with our code."""

    def __init__(self, state: TrainingState, config: Config) -> None:
        networks = copy.deepcopy(state.networks)
        self.E, self.E_bar = networks.guide, networks.guide_average
        self.G, self.G_bar, self.D = networks.generator, networks.generator_average, networks.discriminator
        self.queue = [key.clone() for key in state.queue]
        self.w, o = config.losses, config.optimisers
        objectives = {"mutual-information": self.information, "swapped-assignments": self.swapped}
        self.objective = objectives[config.clustering.clustering_objective]
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

    def length_of_gradient(self) -> Tensor:
        """The length of E's gradient as one vector; weights without a gradient add nothing."""
        squares = [(p.grad**2).sum() for p in self.E.parameters() if p.grad is not None]
        return torch.stack(squares).sum().sqrt()

    @staticmethod
    def information(logits: Tensor, logits_plus: Tensor, balance: float) -> Tensor:
        p, q = F.softmax(logits, 1), F.softmax(logits_plus, 1)
        joint = sum(torch.outer(a, b) for a, b in zip(p, q, strict=True)) / len(p)
        joint = (joint + joint.T) / 2
        joint = torch.clamp(joint / joint.sum(), min=1e-10)
        independent = torch.outer(joint.sum(1), joint.sum(0))
        return (joint * torch.log(joint)).sum() - balance * (joint * torch.log(independent)).sum()

    @staticmethod
    def swapped(logits: Tensor, logits_plus: Tensor, balance: float) -> Tensor:
        """SwAV's objective as its authors write it: a matrix of domains and pictures, scaled in turn by row sums and
        column sums.
        """

        def assigned(scores: Tensor) -> Tensor:
            matrix = torch.exp(scores.detach() / 0.5).T
            for _ in range(3):
                matrix = matrix / matrix.sum(1, keepdim=True) / len(matrix)
                matrix = matrix / matrix.sum(0, keepdim=True) / matrix.shape[1]
            return matrix.T * len(scores)

        return -(
            F.cross_entropy(logits, assigned(logits_plus)) + F.cross_entropy(logits_plus, assigned(logits))
        )

    def contrast(self, query: Tensor, key: Tensor) -> Tensor:
        positive = torch.stack([torch.dot(a, b) for a, b in zip(query, key, strict=True)])
        negatives = query @ torch.stack(self.queue).T
        logits = torch.cat([positive[:, None], negatives], 1) / self.w.temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64))

    def guide_loss(
        self, x: Tensor, x_plus: Tensor, y: Tensor, factor: float, learns_domains: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Step 1: the unlabelled and the labelled part of the batch, computed separately and weighted by their
        shares.
        """
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
            if not labelled and learns_domains:
                # The mutual information is reported; E maximises the objective.
                clusterings = [(here.logits, plus.logits, "mutual", w.mutual_information_weight)]
                if here.overcluster_logits is not None:
                    pair = (here.overcluster_logits, plus.overcluster_logits)
                    clusterings.append((*pair, "overcluster", w.overcluster_weight))
                for logits, logits_plus, name, weight in clusterings:
                    views = (logits[rows], logits_plus[rows])
                    terms[f"guide/{name}_information"] = self.information(*views, 1.0)
                    objective = self.objective(*views, w.marginal_balance)
                    if name == "mutual" and here.candidate_logits is not None:
                        heads = len(here.candidate_logits)
                        for h in range(heads):
                            views = (here.candidate_logits[h][rows], plus.candidate_logits[h][rows])
                            objective = objective + self.objective(*views, w.marginal_balance)
                        objective = objective / (1 + heads)
                    loss = loss - share * weight * objective
            elif labelled and w.classification_weight:
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
        factor = w.joint_guide_factor if phase.joint else 1.0
        loss, terms = self.guide_loss(x, x_plus, batch.y, factor, phase.learns_domains)
        loss.backward()
        if phase.joint:
            terms["guide/gradient"] = self.length_of_gradient()
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
            loss, more = self.discriminate(x_ref, x_fake, y_ref, perm, phase)
            terms |= more
            loss.backward()
            self.rmsprop_D.step()
            # 4. G and E learn from the updated D (E for the second time).
            self.zero_grad()
            translated = self.G(x, self.E(x_ref).style)
            repeated = self.G(x, self.E(x).style)
            adversarial, adversarial_rec = self.persuade(translated, repeated, y, y_ref)
            style = self.contrast(self.E(translated).style, self.E_bar(x_ref).style.detach())
            reconstruction = self.reconstruction(repeated, x)
            back = self.back_translation(translated, x)
            loss = (
                w.adversarial_weight * adversarial
                + w.adversarial_weight * adversarial_rec
                + w.reconstruction_weight * reconstruction
                + w.generator_style_weight * style
                + w.back_translation_weight * back
            )
            if w.adversarial_trains == "generator":
                # E's gradients come from a loss without D, in separate passes. G's gradients come from all terms.
                loss.backward()
                gradients = [parameter.grad for parameter in self.G.parameters()]
                self.zero_grad()
                translated, repeated = self.G(x, self.E(x_ref).style), self.G(x, self.E(x).style)
                reconstruction = self.reconstruction(repeated, x)
                style = self.contrast(self.E(translated).style, self.E_bar(x_ref).style.detach())
                loss = w.reconstruction_weight * reconstruction + w.generator_style_weight * style
                (loss + w.back_translation_weight * self.back_translation(translated, x)).backward()
                for parameter, gradient in zip(self.G.parameters(), gradients, strict=True):
                    parameter.grad = gradient
            else:
                loss.backward()
            self.rmsprop_G.step()
            terms["guide/gradient_from_generator"] = self.length_of_gradient()
            self.adam_E.step()
            if w.back_translation_weight:
                terms["generator/back_translation"] = back
            terms |= {
                "generator/adversarial": adversarial,
                "generator/adversarial_reconstruction": adversarial_rec,
                "generator/style": style,
                "generator/reconstruction": reconstruction,
            }
        # 5. Keys of the queue, and averages.
        self.queue = (self.queue + list(keys))[-len(self.queue) :]
        self.average(self.E_bar, self.E, self.decay)
        if phase.joint:
            self.average(self.G_bar, self.G, self.decay if phase.average_generator else 0)
        return {name: term.item() for name, term in terms.items()}

    def discriminate(
        self, x_ref: Tensor, x_fake: Tensor, y_ref: Tensor, perm: Tensor, phase: Phase
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """D's loss and its terms."""
        w, rows = self.w, torch.arange(len(x_ref))
        answers = self.D(x_ref)[rows, y_ref]
        real = torch.clamp(1 - answers, min=0).mean()
        fake = torch.clamp(1 + self.D(x_fake)[rows, y_ref], min=0).mean()
        loss = w.adversarial_weight * (real + fake)
        called_real = sum(1 if answer > 0 else -1 for answer in answers) / len(answers)
        terms = {"discriminator/real": real, "discriminator/fake": fake}
        terms["discriminator/real_sign"] = torch.tensor(called_real, dtype=torch.float64)
        if phase.penalise:
            penalty = torch.zeros((), dtype=x_ref.dtype)
            for i in range(len(x_ref)):
                picture = x_ref[i : i + 1].clone().requires_grad_()
                (slope,) = torch.autograd.grad(self.D(picture)[0, y_ref[i]], picture, create_graph=True)
                penalty = penalty + (slope**2).sum() / len(x_ref)
            terms["discriminator/r1"] = penalty
            loss = loss + w.r1_weight * w.r1_every * penalty
        return loss, terms

    def persuade(
        self, translated: Tensor, repeated: Tensor, y: Tensor, y_ref: Tensor
    ) -> tuple[Tensor, Tensor]:
        """G's adversarial losses, of translations and of reconstructions."""
        rows = torch.arange(len(translated))
        return -self.D(translated)[rows, y_ref].mean(), -self.D(repeated)[rows, y].mean()

    @staticmethod
    def reconstruction(repeated: Tensor, x: Tensor) -> Tensor:
        return (repeated - x).abs().sum() / x.numel()

    def back_translation(self, translated: Tensor, x: Tensor) -> Tensor:
        """The mean error of each translation, redrawn in its source's style as if it were a given picture."""
        given = torch.tensor(translated.tolist(), dtype=x.dtype)
        pairs = [(self.G(a[None], self.E(x).style[[i]])[0], x[i]) for i, a in enumerate(given)]
        return torch.stack([(drawn - target).abs().mean() for drawn, target in pairs]).mean()

    @staticmethod
    def average(bar: torch.nn.Module, live: torch.nn.Module, decay: float) -> None:
        for mine, theirs in zip(bar.parameters(), live.parameters(), strict=True):
            mine.data = decay * mine.data + (1 - decay) * theirs.data


@dataclasses.dataclass
class Case:
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    y: tuple[int, ...] = (-1, -1, -1, -1)
    joint: bool = True
    learns_domains: bool = True
    average_from: int = 0
    micro_batch: int = 0


UNLABELLED_6, MIXED, LABELLED = (-1,) * 6, (-1, 2, -1, 0, -1, -1), (1, 2, 0, 2)


def assert_equals_slow_steps(case: Case, kind: type[SlowTraining]) -> None:
    """Three steps on a random state give the same losses, weights and keys as `kind` does."""
    config = config_of(**case.overrides, micro_batch=case.micro_batch)
    state = random_state(config)
    slow = kind(state, config)
    before = {n: copy.deepcopy(net.state_dict()) for n, net in state.networks.named().items()}
    for i in range(3):
        penalise = i % config.losses.r1_every == 0
        phase = Phase(case.joint, i >= case.average_from, penalise, case.learns_domains)
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
    # The comparison is only valid if the weights really changed, by much more than the tolerance.
    for network, theirs in state.networks.named().items():
        moved = max((p.data - before[network][key]).abs().max() for key, p in theirs.named_parameters())
        if case.joint or network.startswith("guide"):
            assert moved > 1e-5, network
        else:
            assert moved == 0, network

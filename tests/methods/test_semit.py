"""SEMIT's training step, compared with a step written out in float64; whole tiny runs; the commands on them."""

import copy
import csv
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tiny_run import flags, tiny_config, train_whole_and_in_parts, write_pictures
from tiny_step import (
    SMALL_BASELINE,
    LiteralNetworks,
    assert_bfloat16_is_near,
    perturb,
    random_second_views,
)
from tunit.cli import main
from tunit.config import Config, FunitConfig, SemitConfig, read_config
from tunit.data.batching.batches import Batch
from tunit.errors import ConfigError, DataError
from tunit.methods.funit import funit_step
from tunit.methods.losses import Terms
from tunit.methods.method import Phase
from tunit.methods.model_file import load_model
from tunit.methods.semit import semit_step, soft_labels_of
from tunit.methods.state import TrainingState
from tunit.networks.semit_networks import OctaveGenerator, SemitEncoder
from tunit.networks.tensor_file import read_tensors
from tunit.training.checkpoint import checkpoints
from tunit.training.initial_state import new_state
from tunit.training.launch import resume_run, start_run

pytestmark = pytest.mark.usefixtures("one_thread")

PICTURES = 7
# The labels and picture numbers of each step: labelled and unlabelled pictures with one picture twice, only
# unlabelled, pictures seen before, only labelled.
STEPS = (
    ([1, -1, -1, 2], [0, 3, 5, 1]),
    ([-1, -1, -1, 0], [5, 4, 5, 2]),
    ([-1, -1, -1, -1], [3, 4, 5, 6]),
    ([0, 1, 2, 1], [2, 0, 1, 0]),
)


def config_of(**overrides: Any) -> Config:
    return read_config("semit").with_overrides(SMALL_BASELINE | overrides)


def random_state(config: Config, dtype: torch.dtype = torch.float64) -> TrainingState:
    """A new state whose averages differ from their networks, and whose heads prefer some classes."""
    state = new_state(config, torch.device("cpu"), PICTURES)
    perturb(state, dtype, ("classifier.2.weight", "content_head.weight"))
    if state.own is not None:
        labels = soft_labels_of(state)
        labels.logits, labels.first = labels.logits.to(dtype), labels.first.to(dtype)
        labels.begin([torch.randn(PICTURES, 3, dtype=dtype).softmax(1)])
    return state


class SlowTraining(LiteralNetworks):
    """The training step, step by step. Each picture passes each network by itself; one RMSprop for G and the class
    encoder.

    `labels` stores for each picture its first soft label and the logits of the current one.
    """

    def __init__(self, state: TrainingState, config: Config) -> None:
        networks = copy.deepcopy(state.networks)
        for network in networks.named().values():
            # With channels last, torch 2.13 on a CPU computes wrong gradients of instance norm for a batch of one.
            network.to(memory_format=torch.contiguous_format)
        self.E, self.E_bar = networks.guide, networks.guide_average
        self.G, self.G_bar, self.D = networks.generator, networks.generator_average, networks.discriminator
        self.w, self.o = config.losses, config.optimisers
        self.funit, self.own = config.of(FunitConfig), config.of(SemitConfig)
        self.labels = {i: (p, p.log()) for i, p in enumerate(soft_labels_of(state).first.clone())}
        self.rmsprop_E, self.rmsprop_G, self.rmsprop_D = (
            torch.optim.RMSprop(
                network.parameters(),
                rate,
                alpha=self.o.rmsprop_alpha,
                eps=self.o.rmsprop_eps,
                weight_decay=self.o.weight_decay,
                foreach=False,
            )
            for network, rate in (
                (self.E, self.o.generator_rate),
                (self.G, self.o.generator_rate),
                (self.D, self.o.discriminator_rate),
            )
        )

    def zero_grad(self) -> None:
        for network in (self.E, self.G, self.D):
            network.zero_grad(set_to_none=True)

    def means_of_same(self, batch: Batch, p: list[Tensor]) -> dict[int, Tensor]:
        """For each unlabelled picture, the mean of the classifier's answers to its copies in the batch."""
        rows: dict[int, list[Tensor]] = {}
        for i, picture in enumerate(batch.index.tolist()):
            if batch.y[i] < 0:
                rows.setdefault(picture, []).append(p[i])
        return {picture: torch.stack(values).mean(0) for picture, values in rows.items()}

    def classifier(self, batch: Batch, x: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """PENCIL's loss for the classifier, averaged over the pictures of the batch."""
        zero = torch.zeros((), dtype=torch.float64)
        loss, ce, kl, h = zero, zero, zero, zero
        labelled = int((batch.y >= 0).sum())
        for i, picture in enumerate(batch.index.tolist()):
            p = self.E(x[i]).logits[0].softmax(0)
            if batch.y[i] >= 0:
                each = -p[batch.y[i]].log()
                ce = ce + each / labelled
                loss = loss + self.w.classification_weight * each / len(x)
            else:
                y = self.labels[picture][1].softmax(0)
                divergence, surprise = (p * (p / y).log()).sum(), -(p * p.log()).sum()
                kl, h = kl + divergence / (len(x) - labelled), h + surprise / (len(x) - labelled)
                each = (
                    self.own.pseudo_label_weight * divergence + self.own.prediction_entropy_weight * surprise
                )
                loss = loss + each / len(x)
        terms = {"guide/classification": ce} if labelled else {}
        if labelled < len(x):
            terms |= {"guide/pseudo_label_divergence": kl, "guide/prediction_entropy": h}
        return loss, terms

    def step(self, batch: Batch, perm: Tensor, phase: Phase) -> dict[str, float]:
        x = [picture[None] for picture in batch.x_plus]
        with torch.no_grad():
            means = self.means_of_same(batch, [self.E(a).logits[0].softmax(0) for a in x])
        loss, terms = self.classifier(batch, x)
        if phase.joint:
            pictures = batch.index.tolist()
            y = [
                int(k) if k >= 0 else int(self.labels[n][1].argmax())
                for k, n in zip(batch.y, pictures, strict=True)
            ]
            terms |= self.discriminate(x, y, perm, phase)
            more, own_terms = self.generate(x, y, perm)
            self.zero_grad()
            (self.classifier(batch, x)[0] + more).backward()
            self.rmsprop_E.step()
            self.rmsprop_G.step()
            terms |= own_terms
        else:
            self.zero_grad()
            loss.backward()
            self.rmsprop_E.step()
        for picture, p in means.items():
            first, logits = self.labels[picture]
            leaf = logits.clone().requires_grad_()
            soft = leaf.softmax(0)
            own = self.own.pseudo_label_weight * (p * (p / soft).log()).sum()
            (own - self.own.compatibility_weight * (first * soft.log()).sum()).backward()
            self.labels[picture] = (first, logits - self.own.soft_label_rate * leaf.grad)
        for bar, live in ((self.E_bar, self.E), (self.G_bar, self.G)):
            decay = self.o.average_decay if phase.average_generator else 0
            for mine, theirs in zip(bar.parameters(), live.parameters(), strict=True):
                mine.data = decay * mine.data + (1 - decay) * theirs.data
        return {name: term.item() for name, term in terms.items()}

    def discriminate(self, x: list[Tensor], y: list[int], perm: Tensor, phase: Phase) -> dict[str, Tensor]:
        n = len(x)
        with torch.no_grad():
            x_fake = [self.G(x[i], self.E(x[perm[i]]).style) for i in range(n)]
        self.zero_grad()
        real = fake = penalty = sign = torch.zeros((), dtype=torch.float64)
        for i in range(n):
            k = y[perm[i]]
            leaf = x[perm[i]].clone().requires_grad_()
            patches = self.D(leaf)[0, k]
            (gradient,) = torch.autograd.grad(patches.mean(), leaf, create_graph=True)
            penalty = penalty + gradient.square().sum() / n
            real = real + torch.clamp(1 - patches, min=0).mean() / n
            sign = sign + torch.where(patches > 0, 1.0, -1.0).mean() / n
            fake = fake + torch.clamp(1 + self.D(x_fake[i])[0, k], min=0).mean() / n
        loss = self.w.adversarial_weight * (real + fake)
        terms = {"discriminator/real": real, "discriminator/fake": fake, "discriminator/real_sign": sign}
        if phase.penalise:
            loss = loss + self.w.r1_weight * self.w.r1_every * penalty
            terms["discriminator/r1"] = penalty
        loss.backward()
        self.rmsprop_D.step()
        return terms

    def features(self, x: Tensor) -> Tensor:
        return self.D.features(x)[0].mean((1, 2))

    def generate(self, x: list[Tensor], y: list[int], perm: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        w, n = self.w, len(x)
        fake = rec = l1 = matching = cycle = reading = uncertainty = torch.zeros((), dtype=torch.float64)
        for i in range(n):
            j = int(perm[i])
            s, s_ref = self.E(x[i]).style, self.E(x[j]).style
            c = self.G.encode(x[i])
            translated, repeated = self.G.decode(c, s_ref), self.G.decode(c, s)
            fake = fake - self.D(translated)[0, y[j]].mean() / n
            rec = rec - self.D(repeated)[0, y[i]].mean() / n
            l1 = l1 + (repeated - x[i]).abs().mean() / n
            matching = matching + (self.features(repeated) - self.features(x[i])).abs().mean() / n
            matching = matching + (self.features(translated) - self.features(x[j])).abs().mean() / n
            cycle = cycle + (self.G(translated, s) - x[i]).abs().mean() / n
            mean = c[0].mean((1, 2))
            head = self.G.content_head
            p = (head.weight @ mean.detach() + head.bias).softmax(0)
            reading = reading - p[y[i]].log() / n
            p = (head.weight.detach() @ mean + head.bias.detach()).softmax(0)
            uncertainty = uncertainty - (p * p.log()).sum() / n
        loss = (
            w.adversarial_weight * self.funit.funit_adversarial_factor * (fake + rec)
            + w.reconstruction_weight * l1
            + self.funit.feature_matching_weight * matching
            + self.own.cycle_weight * cycle
            + reading
            - self.own.content_entropy_weight * uncertainty
        )
        return loss, {
            "generator/adversarial": fake,
            "generator/adversarial_reconstruction": rec,
            "generator/reconstruction": l1,
            "generator/feature_matching": matching,
            "generator/cycle": cycle,
            "generator/content_classification": reading,
            "generator/content_entropy": uncertainty,
        }


# What each case changes; the step from which everything trains; the step from which the averages follow.
CASES: dict[str, tuple[dict[str, Any], int, int]] = {
    "the preset's constants": ({}, 0, 0),
    "alone at first": ({}, 2, 2),
    "lazy R1, averages start late": ({"r1_every": 2}, 0, 3),
    "other weights": (
        {
            "adversarial_weight": 0.7,
            "reconstruction_weight": 3.0,
            "feature_matching_weight": 0.2,
            "r1_weight": 0.5,
            "classification_weight": 2.0,
            "pseudo_label_weight": 0.6,
            "compatibility_weight": 0.3,
            "prediction_entropy_weight": 0.9,
            "soft_label_rate": 2.0,
            "cycle_weight": 4.0,
            "content_entropy_weight": 1.5,
            "octave_share": 0.25,
            "generator_width": 4,
        },
        0,
        0,
    ),
}


def assert_equal(state: TrainingState, slow: SlowTraining, step: int) -> None:
    for network, theirs in slow.named().items():
        ours = dict(state.networks.named()[network].named_parameters())
        for key, value in theirs.named_parameters():
            torch.testing.assert_close(
                ours[key].data, value.data, atol=1e-9, rtol=1e-9, msg=f"step {step}: {network} {key}"
            )
    labels = soft_labels_of(state)
    for picture in range(PICTURES):
        first, logits = slow.labels[picture]
        torch.testing.assert_close(labels.first[picture], first, atol=1e-9, rtol=0)
        torch.testing.assert_close(labels.logits[picture], logits, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_four_steps_equal_the_slow_ones(name: str) -> None:
    overrides, joint_from, average_from = CASES[name]
    config = config_of(**overrides)
    state = random_state(config)
    slow = SlowTraining(state, config)
    before = {n: copy.deepcopy(net.state_dict()) for n, net in state.networks.named().items()}
    for i, (y, index) in enumerate(STEPS):
        phase = Phase(i >= joint_from, i >= average_from, penalise=i % config.losses.r1_every == 0)
        batch, permutation = random_second_views(i, y, index)
        expected = slow.step(batch, permutation, phase)
        terms = semit_step(state, batch, permutation, phase, config)
        assert set(terms) == set(expected)
        for term, value in expected.items():
            assert terms[term].item() == pytest.approx(value, rel=1e-9, abs=1e-9), (i, term)
            assert not terms[term].requires_grad
        assert_equal(state, slow, i)
    assert state.step == 4
    # The comparison is only valid if the weights really changed, by much more than the tolerance.
    for network, theirs in state.networks.named().items():
        for key, p in theirs.named_parameters():
            own = (p.data - before[network][key]).abs().max()
            # Biases before instance norm have no gradient except that of weight decay.
            assert own > (0 if key.endswith("bias") else 1e-5), (network, key)
            assert p.requires_grad != network.endswith("average")
    labels = soft_labels_of(state)
    moved = labels.logits.softmax(1) - labels.first
    assert moved[[3, 4, 5]].abs().amax(1).min() > 1e-4


def test_in_the_first_phase_only_the_class_encoder_learns() -> None:
    state = random_state(config_of())
    before = {n: copy.deepcopy(net.state_dict()) for n, net in state.networks.named().items()}
    batch, permutation = random_second_views(0, *STEPS[0])
    phase = Phase(joint=False, average_generator=False, penalise=True)
    terms = semit_step(state, batch, permutation, phase, config_of())
    assert all(name.startswith("guide/") for name in terms)
    for name in ("generator", "discriminator"):
        now = state.networks.named()[name].state_dict()
        assert all(torch.equal(now[key], value) for key, value in before[name].items())


def test_with_all_labels_and_without_its_own_losses_it_equals_funit() -> None:
    """No low frequency, no cycle loss, no content entropy and no classifier: the step of the FUNIT baseline."""
    own = {
        "octave_share": 0.0,
        "cycle_weight": 0.0,
        "content_entropy_weight": 0.0,
        "classification_weight": 0.0,
    }
    config = config_of(**own)
    semit = random_state(config)
    funit = random_state(config.with_overrides({"method": "funit"}))
    for name, network in funit.networks.named().items():
        values = semit.networks.named()[name].state_dict()
        renamed = {key.replace("high_to_high.", ""): value.clone() for key, value in values.items()}
        network.load_state_dict({key: renamed[key] for key in network.state_dict()})
    phase = Phase(joint=True, average_generator=True, penalise=True)
    for i in range(2):
        batch, permutation = random_second_views(i, [1, 2, 0, 2], [0, 1, 2, 3])
        ours = semit_step(semit, batch, permutation, phase, config)
        theirs = funit_step(funit, batch, permutation, phase, config)
        for term, value in theirs.items():
            assert ours[term].item() == pytest.approx(value.item(), rel=1e-9, abs=1e-12), term
    for name, network in funit.networks.named().items():
        values = {
            key.replace("high_to_high.", ""): value
            for key, value in semit.networks.named()[name].state_dict().items()
        }
        for key, value in network.state_dict().items():
            torch.testing.assert_close(values[key], value, atol=1e-10, rtol=0, msg=f"{name} {key}")


def test_bfloat16_losses_are_near_those_of_float32() -> None:
    def losses_in(precision: str) -> Terms:
        config = config_of(discriminator_rate=2e-5, precision=precision)
        state = random_state(config, torch.float32)
        batch, permutation = random_second_views(0, *STEPS[0], dtype=torch.float32)
        return semit_step(state, batch, permutation, Phase(True, True, penalise=True), config)

    assert_bfloat16_is_near(losses_in)


def test_the_preset() -> None:
    config = read_config("semit")
    funit = read_config("table1-a")
    assert config.method.method == "semit"
    assert (config.augment, config.optimisers) == (funit.augment, funit.optimisers)
    few = read_config("few-labels").schedule
    own = config.schedule
    assert own.labelled_only_until / own.steps == few.labelled_only_until / few.steps
    assert own.guide_only_until / own.steps == few.guide_only_until / few.steps


# ---- whole runs ----

RUN = {
    "style_width": 5,
    "guide_only_batch_size": 0,
    "steps": 9,
    "labelled_only_until": 2,
    "guide_only_until": 4,
    "average_from": 4,
    "checkpoint_every": 100,
    "sample_every": 0,
    "labels": "csv",
}


@pytest.fixture
def table(tmp_path):
    """Eighteen pictures of three classes; every second picture has its label."""
    rows = ["picture,label"]
    for seed, name in enumerate(("cat", "dog", "fox")):
        write_pictures(tmp_path / "pictures" / name, 6, side=32, seed=seed)
        rows += [f"{name}/{i:03d}.png,{name if i % 2 else ''}" for i in range(6)]
    path = tmp_path / "pictures" / "table.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("ratio", [0.0, 0.4])
@pytest.mark.parametrize("stop", [1, 3, 6])
def test_resumed_equals_uninterrupted(tmp_path, table, stop, ratio) -> None:
    config = tiny_config("semit", **RUN | {"labelled_ratio": ratio})
    ours = train_whole_and_in_parts(table, tmp_path, config, stop)
    # The soft labels of unlabelled pictures have changed; those of labelled pictures have not.
    moved = (ours["soft_labels.logits"].softmax(1) - ours["soft_labels.first"]).abs().amax(1)
    assert moved[::2].max() > 1e-5
    assert moved[1::2].max() < 1e-6


def test_soft_labels_start_as_predictions_of_the_classifier_trained_on_labels(tmp_path, table) -> None:
    start_run(table, tmp_path / "run", tiny_config("semit", **RUN | {"steps": 2}), quiet=True)
    state = resume_run(tmp_path / "run", overrides={"steps": "3"}, quiet=True)
    (before, after) = (read_tensors(path)[0] for path in checkpoints(tmp_path / "run" / "checkpoints"))
    assert not before["soft_labels.first"].any()
    taught = state.networks.guide
    taught.load_state_dict({key: before[f"guide.{key}"] for key in taught.state_dict()})
    files = [table.parent / kind / f"{i:03d}.png" for kind in ("cat", "dog", "fox") for i in range(6)]
    x = torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files]))
    with torch.no_grad():
        p = taught(x.permute(0, 3, 1, 2).float() / 127.5 - 1).logits.softmax(1)
    torch.testing.assert_close(after["soft_labels.first"], p, atol=1e-6, rtol=0)


def test_train_domains_translate_evaluate(tmp_path, table, capsys) -> None:
    run = tmp_path / "run"
    assert main(["train", str(table), "--out", str(run), "--preset", "semit", *flags(**RUN)]) == 0
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(last["generator/cycle"])
    model = load_model(run)
    assert isinstance(model.guide, SemitEncoder)
    assert isinstance(model.generator, OctaveGenerator)
    assert main(["domains", str(run), str(table), "--out", str(tmp_path / "domains")]) == 0
    with (tmp_path / "domains" / "domains.csv").open() as file:
        listed = list(csv.DictReader(file))
    x = torch.from_numpy(np.stack([np.asarray(Image.open(table.parent / row["picture"])) for row in listed]))
    with torch.no_grad():
        p = model.guide(x.permute(0, 3, 1, 2).float() / 127.5 - 1).logits.softmax(1)
    assert [int(row["domain"]) for row in listed] == p.argmax(1).tolist()
    picture = table.parent / "cat" / "000.png"
    assert main(["translate", str(run), str(picture), "--to-label", "fox", "--out", str(tmp_path / "t")]) == 0
    assert (tmp_path / "t" / "000.png").is_file()
    assert main(["evaluate", str(run), str(table.parent), "--labels", "folders", "--sources", "4"]) == 0
    found = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert {"FID of all", "accuracy"} <= found["figures"].keys()
    # A published checkpoint cannot store it.
    assert main(["convert", str(run), "--to", "published", "--out", str(tmp_path / "x.ckpt")]) == 2
    assert "is of method 'semit', which the published implementation does not have" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"labels": "none"}, ConfigError, "labels is 'none'.*'semit'.*set --labels folders or --labels csv"),
        ({"domains": 2}, DataError, "3 classes, more than the 2 domains: raise --domains to 3"),
    ],
)
def test_sources_it_cannot_learn_from_are_refused(tmp_path, table, overrides, error, message) -> None:
    with pytest.raises(error, match=message):
        start_run(table, tmp_path / "run", tiny_config("semit", **RUN | overrides), quiet=True)


def test_a_set_without_any_label_is_refused(tmp_path, table) -> None:
    table.write_text("picture,label\n" + "".join(f"cat/{i:03d}.png,\n" for i in range(6)))
    with pytest.raises(DataError, match="no picture has a label, but method 'semit' needs some"):
        start_run(table, tmp_path / "run", tiny_config("semit", **RUN), quiet=True)

"""Alarms about G, D and E in joint steps: figures of a few translations, each rule, and trainings made to fail."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from packed_pictures import with_labels
from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.data.packing.packed import open_packed
from tunit.training.alarms import joint_alarms as judges
from tunit.training.alarms.evidence import Evidence, Line, OutputSummary, outline_of
from tunit.training.alarms.remedies import remedy_for
from tunit.training.alarms.translation_check import TranslationSummary, summary_of, translation_summary
from tunit.training.alarms.watch import Watch, alarms_of, watch_of
from tunit.training.checkpoint import state_tensors
from tunit.training.initial_state import new_state
from tunit.training.launch import start_run
from tunit.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("one_thread")


def outline(**overrides):
    """1,000 steps of E alone, then 1,000 joint steps."""
    return outline_of(
        tiny_config(**{"steps": 2000, "guide_only_until": 1000, "domains": 4} | overrides), False
    )


def lines(*, every=50, **values):
    """A log line every 50 joint steps."""
    number = len(next(iter(values.values())))
    return Evidence(
        [
            Line(1000 + every * (i + 1), 1.0, 1.0, **{name: each[i] for name, each in values.items()})
            for i in range(number)
        ]
    )


def translated(style, content, reconstruction=0.3, step=1500):
    return Evidence(translations=TranslationSummary(step, style, content, reconstruction))


# ---- the figures ----


def test_the_figures_equal_their_definition():
    random = torch.Generator().manual_seed(0)
    sources = torch.rand(3, 3, 4, 4, generator=random)
    drawn = torch.rand(2, 3, 3, 4, 4, generator=random)
    rebuilt = torch.rand(3, 3, 4, 4, generator=random)

    def difference(a, b):
        return float(np.abs(a.numpy() - b.numpy()).mean())

    pairs = [(0, 1), (0, 2), (1, 2)]
    spread = np.mean([difference(sources[i], sources[j]) for i, j in pairs])
    style = np.mean([difference(drawn[0, i], drawn[1, i]) for i in range(3)])
    content = np.mean([difference(drawn[r, i], drawn[r, j]) for r in range(2) for i, j in pairs])
    error = np.mean([difference(sources[i], rebuilt[i]) for i in range(3)])
    found = summary_of(7, sources, drawn, rebuilt)
    assert found.step == 7
    assert found.style_effect == pytest.approx(style / spread, rel=1e-5)
    assert found.content_effect == pytest.approx(content / spread, rel=1e-5)
    assert found.reconstruction == pytest.approx(error / spread, rel=1e-5)


class Copying(nn.Module):
    """A G that returns its input."""

    def encode(self, x):
        return x

    def decode(self, c, s):
        return c


class Constant(Copying):
    """A G that draws grey pictures."""

    def decode(self, c, s):
        return torch.zeros_like(c)


class Painting(Copying):
    """A G that draws one flat colour for each reference."""

    def decode(self, c, s):
        return s[:, :3, None, None].tanh().expand_as(c)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    write_pictures(folder / "pictures", 20)
    start_run(folder / "pictures", folder / "run", tiny_config(steps=1), quiet=True)
    return open_packed(folder / "run" / "data")


def state_of(generator):
    state = new_state(tiny_config(), torch.device("cpu"), 20)
    state.networks.generator_average = generator
    return state


@pytest.mark.parametrize(
    ("generator", "style", "content", "error"),
    [(Copying(), 0.0, 1.0, 0.0), (Constant(), 0.0, 0.0, None), (Painting(), None, 0.0, None)],
)
def test_generators_that_fail_are_recognised(packed, generator, style, content, error):
    found = translation_summary(state_of(generator), packed, tiny_config())
    values = found.style_effect, found.content_effect, found.reconstruction
    for value, expected in zip(values, (style, content, error), strict=True):
        if expected is None:
            assert value > 0
        else:
            assert value == pytest.approx(expected, abs=1e-6)


def test_a_check_does_not_change_the_training(packed):
    state = new_state(tiny_config(), torch.device("cpu"), 20)
    before = {name: tensor.clone() for name, tensor in state_tensors(state).items()}
    random = torch.get_rng_state()
    translation_summary(state, packed, tiny_config())
    assert all(torch.equal(tensor, before[name]) for name, tensor in state_tensors(state).items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(network.training for network in state.networks.named().values())


@pytest.mark.parametrize(
    ("side", "statistics", "parts"), [(32, [20], [20]), (512, [16, 4], [4] * 5)], ids=["small", "large"]
)
def test_large_pictures_go_through_e_a_few_at_a_time(packed, side, statistics, parts):
    """Up to 128 px all at once; of 512 px, as many as have the pixels of 64 of those (256 for the statistics)."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, side, side, 3), dtype=np.uint8)
    config, seen = tiny_config(whole_statistics=True), {True: [], False: []}
    state = new_state(config, torch.device("cpu"), 20)
    state.networks.generator_average = Copying()
    state.networks.guide_average.register_forward_pre_hook(
        lambda guide, given: seen[guide.training].append(len(given[0]))
    )
    found = translation_summary(state, dataclasses.replace(packed, images=pixels), config)
    assert seen == {True: statistics, False: parts}
    assert (found.style_effect, found.reconstruction) == (0, 0)
    assert found.content_effect == pytest.approx(1)


# ---- the rules ----


def test_one_picture_for_all_inputs():
    said = judges.judge_output(translated(0.4, 0.01), outline(), False)
    assert "differ by only 1.0%" in said
    assert judges.judge_output(translated(0.4, 0.5), outline(), False) is None
    assert judges.judge_output(translated(0.4, 0.07), outline(), False) is None
    assert judges.judge_output(translated(0.4, 0.07), outline(), True)  # it ends above a higher limit
    assert judges.judge_output(translated(0.4, 0.01, step=1080), outline(), False) is None  # too early
    assert judges.judge_output(translated(0.4, 0.01), outline(joint_warm_up=600), False) is None
    assert judges.judge_output(Evidence(), outline(), False) is None


def test_references_that_change_nothing():
    assert "G returns its input" in judges.judge_references(translated(0.01, 0.9, 0.1), outline(), False)
    assert "G ignores the reference" in judges.judge_references(translated(0.01, 0.9, 0.8), outline(), False)
    assert judges.judge_references(translated(0.3, 0.9), outline(), False) is None
    assert judges.judge_references(translated(0.04, 0.9), outline(), False) is None
    assert judges.judge_references(translated(0.04, 0.9), outline(), True)
    assert judges.judge_references(translated(0.0, 0.0), outline(), False) is None  # the other alarm says it


def test_a_discriminator_that_is_always_right_is_too_strong():
    fake = [0.2] + [0.001] * 9
    strong = lines(real_loss=[0.3] + [0.002] * 9, fake_loss=fake)
    assert "its loss is 0.1% of" in judges.judge_strong(strong, outline(), False)
    assert judges.judge_strong(lines(real_loss=[0.002] * 9 + [0.3], fake_loss=fake), outline(), False) is None
    assert judges.judge_strong(lines(real_loss=[0.0], fake_loss=[0.0]), outline(), False) is None  # too early
    assert judges.judge_strong(Evidence(), outline(), False) is None


def test_a_discriminator_with_constant_answers_does_not_learn():
    """Its loss is 1 on each side."""
    constant = lines(real_loss=[0.99] * 10, fake_loss=[1.01] * 10)
    assert "its loss is 100% of" in judges.judge_constant(constant, outline(), False)
    assert judges.judge_constant(lines(real_loss=[0.9] * 10, fake_loss=[0.9] * 10), outline(), False) is None
    assert judges.judge_constant(lines(real_loss=[0.98] * 10, fake_loss=[0.98] * 10), outline(), True)


def test_a_gradient_from_G_that_is_much_longer_than_Es_own():
    drowned = lines(own_gradient=[0.1] * 10, gradient_from_generator=[80.0] * 10)
    assert "is 800 times as long" in judges.judge_drowned(drowned, outline(), False)
    fine = lines(own_gradient=[1.0] * 10, gradient_from_generator=[8.0] * 10)
    assert judges.judge_drowned(fine, outline(), False) is None
    assert (
        judges.judge_drowned(lines(own_gradient=[None], gradient_from_generator=[None]), outline(), False)
        is None
    )


def few_pictures(pictures=300):
    """1,000 steps of E alone, then 1,000 steps of G and D with batches of 16."""
    settings = {"steps": 2000, "guide_only_until": 1000, "batch_size": 16}
    return outline_of(tiny_config(**settings), False, pictures)


def test_a_discriminator_that_is_certain_of_few_pictures_over_fits():
    sentence = judges.judge_overfitting(lines(real_sign=[0.5, 0.7] + [0.99] * 8), few_pictures(), False)
    assert sentence
    assert "calls 99% of the pictures real" in sentence or "calls 100% of the pictures real" in sentence
    assert "about 27 times" in sentence  # 500 steps with 16 pictures each, out of 300 pictures


@pytest.mark.parametrize(
    ("values", "pictures"),
    [
        ([0.5, 0.7] + [0.99] * 8, 5000),  # each was seen twice only: D is certain because G is still bad
        ([0.5, 0.7] + [0.6] * 8, 300),  # D is uncertain
        ([0.99, 0.99], 300),  # too early
        ([0.99, 0.4] * 5, 300),  # not for long enough
    ],
)
def test_other_trainings_do_not_over_fit(values, pictures):
    assert judges.judge_overfitting(lines(real_sign=values), few_pictures(pictures), False) is None


def test_over_fitting_ends_when_the_discriminator_is_uncertain_again():
    assert judges.judge_overfitting(lines(real_sign=[0.99] * 8 + [0.9] * 4), few_pictures(), True)
    assert judges.judge_overfitting(lines(real_sign=[0.99] * 8 + [0.8] * 4), few_pictures(), True) is None


def test_the_remedy_for_over_fitting_suggests_options_not_yet_used():
    assert "--discriminator-augment-target 0.6" in remedy_for("overfitting", tiny_config())
    assert "--lecam-weight" in remedy_for("overfitting", tiny_config())
    both = remedy_for("overfitting", tiny_config(discriminator_augment=0.5, lecam_weight=0.1))
    assert "--discriminator" not in both
    assert "--lecam" not in both
    assert "more pictures" in both


def emptied(before, now, step=1500):
    return Evidence(summary=OutputSummary(step, now, None, 1.0), first_counts=before)


def test_a_domain_that_loses_its_pictures():
    before = [140, 130, 120, 122]
    said = judges.judge_emptied(emptied(before, [270, 5, 120, 117]), outline(), False)
    assert "E loses domain 1: it held 25% of the pictures" in said
    assert "holds 1% now" in said
    assert "(and 1 more)" in judges.judge_emptied(emptied(before, [400, 5, 107, 0]), outline(), False)
    assert judges.judge_emptied(emptied(before, [220, 50, 120, 122]), outline(), False) is None
    assert judges.judge_emptied(emptied(before, [220, 50, 120, 122]), outline(), True)
    assert judges.judge_emptied(emptied([500, 4, 4, 4], [512, 0, 0, 0]), outline(), False) is None  # small
    assert judges.judge_emptied(emptied(None, [512, 0, 0, 0]), outline(), False) is None
    assert judges.judge_emptied(emptied([512, 0, 0, 0], [300, 212]), outline(), False) is None
    assert judges.judge_emptied(emptied([0] * 4, [500, 4, 4, 4]), outline(), False) is None  # a damaged log
    # The counts of an older version are of fewer pictures: 30 of 1,024 are fewer than 130 of 512.
    assert judges.judge_emptied(emptied(before, [514, 30, 240, 240]), outline(), False)


@pytest.mark.parametrize(("alone", "early"), [(0, False), (1000, True)])
def test_an_e_that_has_not_trained_cannot_lose_domains(alone, early):
    """What it says at the first joint step says nothing yet, so what it says later is no loss."""
    config = tiny_config(steps=2000, guide_only_until=alone, average_from=alone, domains=4)
    watch = Watch(with_labels(np.full(8, -1)))
    for after in (50, 300):
        watch._evidence.summary = OutputSummary(alone + after, [3, 3, 1, 1], None, 1.0)
        watch.judge(alone + after, {}, config)
        assert (watch._evidence.first_counts is not None) == (early or after == 300)


@pytest.mark.parametrize(
    ("about", "early"),
    [
        ({}, False),
        ({"start_from": {"run": "x", "anew": []}}, True),
        ({"start_from": {"run": "x", "anew": ["guide.domain_head.weight"]}}, False),
    ],
)
def test_an_e_of_another_run_has_its_domains_from_the_beginning(tmp_path, about, early):
    """Unless its domain head is new, because the number of domains differs."""
    (tmp_path / "run.json").write_text(json.dumps(about))
    config = tiny_config(steps=2000, guide_only_until=0, average_from=0, domains=4)
    watch = watch_of(RunFolder(tmp_path), with_labels(np.full(8, -1)))
    watch._evidence.summary = OutputSummary(100, [3, 3, 1, 1], None, 1.0)
    watch.judge(100, {}, config)
    assert (watch._evidence.first_counts is not None) == early


def test_without_a_loss_of_its_own_e_cannot_be_drowned():
    """Whatever the reason: its losses have no weight, or act on no picture of this run."""
    silent = lines(own_gradient=[0.0] * 10, gradient_from_generator=[0.3] * 10)
    assert judges.judge_drowned(silent, outline(), False) is None
    labelled = outline_of(tiny_config(steps=2000, guide_only_until=1000, labelled_guide_factor=0), True)
    assert judges.judge_drowned(silent, labelled, False) is None
    faint = lines(own_gradient=[1e-9] * 10, gradient_from_generator=[0.3] * 10)
    assert judges.judge_drowned(faint, outline(), False)  # a loss that is almost silent is drowned
    assert (
        judges.judge_drowned(silent, outline(), True) is None
    )  # the alarm ends when there is no loss any more


@pytest.mark.parametrize("name", ["emptied", "one output", "references", "strong", "constant", "drowned"])
def test_remedies_name_an_option_and_its_value(name):
    said = remedy_for(name, tiny_config())
    assert "--" in said
    assert "(now " in said


# ---- trainings made to fail ----

JOINT = {
    "steps": 150,
    "guide_only_until": 10,
    "average_from": 20,
    "log_every": 10,
    "checkpoint_every": 1000,
    "sample_every": 0,
}
JUDGED = 110  # the first line of the log by which G and D are judged: they have trained for 100 steps


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("set") / "pictures", 20)


def alarms_after(pictures, run, **settings):
    """The alarms of a short training through the command line."""
    words = flags(**JOINT | settings)
    assert main(["train", str(pictures), "--preset", "paper", *words, "--out", str(run), "--quiet"]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {alarm.name: alarm for alarm in alarms_of(rows)}, rows


def test_a_discriminator_that_is_too_strong_is_reported(pictures, tmp_path):
    """G and E stand still, so D soon knows all their translations."""
    settings = {"r1_weight": 0, "discriminator_rate": 1e-3, "generator_rate": 1e-12, "guide_rate": 1e-12}
    found, _ = alarms_after(pictures, tmp_path / "run", **settings)
    assert "recognises every translation" in found["strong"].sentence


def test_a_discriminator_that_does_not_learn_and_a_drowned_gradient_are_reported(pictures, tmp_path):
    settings = {"steps": JUDGED, "discriminator_rate": 1e-12, "joint_guide_factor": 1e-6}
    found, _ = alarms_after(pictures, tmp_path / "run", **settings)
    assert "does not tell real pictures from translations" in found["constant"].sentence
    assert "times as long" in found["drowned"].sentence


def test_one_picture_for_all_inputs_is_reported(pictures, tmp_path):
    """Weight decay takes weights of G to 0."""
    settings = {"steps": JUDGED, "weight_decay": 300, "generator_rate": 2e-3}
    found, _ = alarms_after(pictures, tmp_path / "run", **settings)
    assert "draws one picture for all inputs" in found["one output"].sentence


def test_ignored_references_are_reported(pictures, tmp_path):
    """With such a rate G saturates, and style codes have no effect any more."""
    settings = {"steps": JUDGED, "reconstruction_weight": 10, "generator_rate": 1e-2}
    found, _ = alarms_after(pictures, tmp_path / "run", **settings)
    assert "by very different references differ by only" in found["references"].sentence


def test_a_lost_domain_is_reported_once_and_after_a_resume(packed):
    """Domain 1 held half of the pictures when G and D began, and holds none now."""
    settings = tiny_config(**JOINT, domains=2)
    state = new_state(settings, torch.device("cpu"), 20)
    state.step = 150
    for parameter in state.networks.guide_average.domain_head.parameters():
        parameter.data.zero_()
    state.networks.guide_average.domain_head.bias.data[0] = 1.0
    began = {"step": 10, "domain_counts": [10, 10]}
    for before in ([began], [began, {"step": 100, "guide/style": 1.0}]):
        watch = Watch(packed, before)
        rows = watch.judge(150, watch.output_figures(state, settings), settings)
        (row,) = [row for row in rows if row.get("alarm") == "emptied"]
        assert "it held 50% of the pictures" in row["sentence"]
        assert "E loses a domain" in watch.short
    assert Watch(packed, [{"step": 10, "domain_counts": ["10", None]}])._evidence.first_counts is None


def test_a_remedy_shows_a_weight_by_rule_as_auto_and_as_a_number():
    sentence = remedy_for("constant", tiny_config(r1_weight="auto", image_size=64, batch_size=8))
    # StyleGAN2-ADA's gamma for 64 px and 8 pictures is 0.0002 * 4096 / 8 = 0.1024.
    assert "a smaller --r1-weight (now auto, which is 0.0512 here)" in sentence
    assert "(now 0.5)" in remedy_for("constant", tiny_config(r1_weight=0.5))

"""Alarms of real trainings that fail: what is printed, what the progress line shows, and what the log keeps.

The rules alone are tested with made-up figures in test_guide_alarms.py and test_joint_alarms.py.
"""

import json

import pytest
import torch
from PIL import Image

from tiny_run import flags, write_pictures
from tunit.cli import main
from tunit.networks.guide import Guidance, Guide
from tunit.training.alarms.watch import alarms_of

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT_RUN = {"log_every": 10, "sample_every": 1000, "checkpoint_every": 1000}
COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 210), (230, 220, 60))


@pytest.fixture
def alarms_after(tmp_path, monkeypatch, capsys):
    """A function that trains, and returns the alarms by name, and all that was printed with single spaces."""
    monkeypatch.setattr("tunit.training.logs.log.PLAIN_SECONDS", 0.0)  # a progress line at every step

    def train(pictures, preset="paper", **settings):
        words = flags(**SHORT_RUN | settings)
        assert main(["train", str(pictures), "--preset", preset, *words, "--out", str(tmp_path / "run")]) == 0
        rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        return {alarm.name: alarm for alarm in alarms_of(rows)}, " ".join(capsys.readouterr().err.split())

    return train


def check_printed(alarm, printed):
    """The sentence and the remedy of the log are printed, too."""
    assert f"alarm at step {alarm.step}: {alarm.sentence}. What to do: {alarm.remedy}" in printed


def kinds(folder, each=10):
    """Pictures of four kinds, which differ in their colour."""
    for k, colour in enumerate(COLOURS):
        for path in sorted(write_pictures(folder / f"{k}", each, seed=k).iterdir()):
            with Image.open(path) as opened:
                Image.blend(opened.convert("RGB"), Image.new("RGB", opened.size, colour), 0.8).save(path)
    return folder


@pytest.fixture
def tied_domains(monkeypatch):
    """E whose domains 0 and 1 always have the same probability."""
    forward = Guide.forward

    def tied(self: Guide, x: torch.Tensor) -> Guidance:
        found = forward(self, x)
        return found._replace(
            logits=torch.cat([found.logits[:, :1], found.logits[:, :1], found.logits[:, 2:]], 1)
        )

    monkeypatch.setattr(Guide, "forward", tied)


def test_style_codes_that_grow(tmp_path, alarms_after):
    """The paper's losses with far too high a rate of E: its codes grow faster than they learn to match."""
    pictures = write_pictures(tmp_path / "pictures")
    settings = {"steps": 30, "guide_only_until": 28, "average_from": 29, "log_every": 5}
    found, printed = alarms_after(pictures, **settings, guide_rate=1.0)
    growth = found["growth"]
    assert "style codes grow without limit: the style loss was " in growth.sentence
    assert (
        "worse than by chance (2.8), and the style loss outweighs the loss of the domains" in growth.sentence
    )
    assert growth.remedy == (
        "try a new run with --normalise-style true --temperature 0.1, a lower --guide-rate (now 1) or a lower "
        "--guide-style-weight"
    )
    check_printed(growth, printed)
    assert "ALARM: style codes growing" in printed


def test_two_domains_with_the_same_probability(tmp_path, alarms_after, tied_domains):
    settings = {"steps": 80, "guide_only_until": 75, "average_from": 78, "guide_only_batch_size": 20}
    styles = {"normalise_style": "true", "temperature": 0.2}
    found, printed = alarms_after(
        kinds(tmp_path / "pictures"), **settings, **styles, domains=4, guide_rate=2e-3, head_std=0.3
    )
    assert found["alike"].sentence == (
        "two domains are alike: E cannot tell domain 0 from domain 1 (their probabilities overlap by 100%)"
    )
    assert "if they are one kind, start a new run with fewer --domains (now 4)" in found["alike"].remedy
    check_printed(found["alike"], printed)
    assert found["alike"].step < 75  # while E trains alone


def test_two_domains_with_the_same_probability_after_their_number_was_found(
    tmp_path, alarms_after, tied_domains
):
    """With the preset for one's own pictures: not before the domain head is final, and 100 steps old."""
    found, printed = alarms_after(
        kinds(tmp_path / "pictures"),
        "small",
        **{"steps": 205, "guide_only_until": 100, "average_from": 105, "guide_only_batch_size": 20},
        **{"domains": "auto", "most_domains": 6, "guide_width": 6, "average_decay": 0.9, "temperature": 0.2},
        **{"guide_rate": 5e-3, "found_domains_weight": 5, "joint_warm_up": 10, "generator_rate": 1e-5},
    )
    assert "E cannot tell domain 0 from domain 1" in found["alike"].sentence
    assert found["alike"].step >= 200
    assert "fewer --domains (now " in found["alike"].remedy
    assert "auto" not in found["alike"].remedy
    check_printed(found["alike"], printed)


def test_a_discriminator_that_memorises_twelve_pictures(tmp_path, alarms_after):
    found, printed = alarms_after(
        write_pictures(tmp_path / "pictures", 12),
        **{"steps": 120, "guide_only_until": 10, "average_from": 20},
        **{"r1_weight": 0, "discriminator_rate": 1e-3, "generator_rate": 1e-5},
    )
    alarm = found["overfitting"]  # raised at step 70 to 90, depending on rounding
    assert "D over-fits: it calls " in alarm.sentence
    times = (alarm.step - 10) * 4 / 12  # batches of four of the twelve pictures
    assert times >= 20
    assert f"has seen each about {times:.0f} times, so it has memorised them" in alarm.sentence
    assert alarm.remedy == (
        "try a new run with --discriminator-augment-target 0.6 --discriminator-augment-pace 20000, "
        "--lecam-weight 0.1 or more pictures, or stop here: Ctrl-C saves the model"
    )
    check_printed(alarm, printed)
    assert "D over-fits" in printed.split("ALARM: ")[-1]


def test_a_generator_that_returns_its_input(tmp_path, alarms_after):
    """It learns almost only to rebuild its input, and style codes are too short to change anything."""
    found, printed = alarms_after(
        write_pictures(tmp_path / "pictures"),
        **{"steps": 110, "guide_only_until": 10, "average_from": 20, "generator_width": 8},
        **{
            "reconstruction_weight": 100,
            "generator_rate": 2e-3,
            "joint_warm_up": 20,
            "average_decay": 0.9,  # with 0.999 the average of G is so far behind that rounding decides
            "normalise_style": "true",
            "style_size": 1e-3,
        },
    )
    alarm = found["references"]
    assert "G returns its input: translations of one picture by very different references" in alarm.sentence
    assert "a smaller --reconstruction-weight (now 100)" in alarm.remedy
    check_printed(alarm, printed)

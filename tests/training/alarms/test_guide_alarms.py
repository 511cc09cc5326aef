"""Alarms: each rule on a training made to fail and on a good one; the watch during a run and after a resume."""

import dataclasses
import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from packed_pictures import with_labels
from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.data.packing.packed import open_packed
from tunit.methods.inference import evaluating, in_batches
from tunit.reporting.page import _alarms
from tunit.reporting.write import write_report
from tunit.training.alarms import watch as watching
from tunit.training.alarms.evidence import (
    MOST_LINES,
    Evidence,
    Line,
    OutputSummary,
    outline_of,
    shared_probability,
)
from tunit.training.alarms.guide_alarms import (
    JUDGES_OF_LOSSES,
    JUDGES_OF_OUTPUT,
    JUDGES_OF_TRANSLATIONS,
    SHORT,
    judge_alike,
    judge_collapse,
    judge_growth,
    judge_information,
    judge_style,
)
from tunit.training.alarms.remedies import remedy_for
from tunit.training.alarms.watch import alarms_of, output_summary
from tunit.training.checkpoint import state_tensors
from tunit.training.initial_state import new_state
from tunit.training.launch import resume_run, start_run

pytestmark = pytest.mark.usefixtures("one_thread")


def config(**overrides):
    settings = {"steps": 2000, "guide_only_until": 1000, "domains": 10, "queue_length": 1023}
    return tiny_config(**settings | overrides)


def outline(labelled=False, **overrides):
    return outline_of(config(**overrides), labelled)


def probabilities(groups, domains, sure=0.9):
    """(N, domains) probabilities for pictures in these groups."""
    p = torch.full((len(groups), domains), (1 - sure) / (domains - 1))
    p[torch.arange(len(groups)), torch.tensor(groups)] = sure
    return p


def summary(p, step=800):
    counts = torch.bincount(p.argmax(1), minlength=p.shape[1]).tolist()
    return OutputSummary(step, counts, shared_probability(p), 3.0)


def seen(counts, step=800):
    groups = [k for k, count in enumerate(counts) for _ in range(count)]
    return Evidence(summary=summary(probabilities(groups, len(counts)), step))


def lines(information, style, every=50):
    """A log line every 50 steps; the shorter list repeats its last value."""
    number = max(len(information), len(style))
    both = [values + values[-1:] * (number - len(values)) for values in (information, style)]
    return Evidence([Line((i + 1) * every, a, b) for i, (a, b) in enumerate(zip(*both, strict=True))])


def test_most_pictures_in_one_domain_is_a_collapse():
    said = judge_collapse(seen([400, 20, 20, 20, 20, 8, 8, 8, 4, 4]), outline(), False)
    assert "domain 0 holds 78% of the pictures" in said
    assert "every picture" in judge_collapse(seen([0, 512, 0, 0]), outline(domains=4), False)
    assert judge_collapse(seen([51] * 10), outline(), False) is None


def test_most_domains_empty_is_a_collapse_unless_their_number_is_to_be_found():
    crowded = [100, 100, 100, 100] + [0] * 6
    assert "6 of 10 are empty" in judge_collapse(seen(crowded), outline(), False)
    assert judge_collapse(seen(crowded), outline(domains=0, most_domains=10), False) is None
    assert judge_collapse(seen([20, 20] + [0] * 8), outline(), False) is None  # too few pictures
    # too early: domains separate one after the other
    assert judge_collapse(seen(crowded, step=200), outline(), False) is None


def test_a_collapse_ends_below_a_lower_limit():
    for count, raised, alarm in (
        (310, False, True),
        (290, False, False),
        (290, True, True),
        (240, True, False),
    ):
        rest = 500 - count
        evidence = seen([count, rest - 8 * (rest // 9)] + [rest // 9] * 8)
        assert (judge_collapse(evidence, outline(), raised) is not None) is alarm, (count, raised)


@pytest.mark.parametrize("counts", [[488, 24], [24, 24, 464]])
def test_domain_sizes_of_1_to_20_are_not_a_collapse(counts):
    assert judge_collapse(seen(counts), outline(domains=len(counts)), False) is None


@pytest.mark.parametrize(
    ("step", "overrides"),
    [(99, {}), (549, {"domains_from": 0.5}), (20, {"guide_only_until": 40}), (800, {"domains": 1})],
)
def test_there_are_no_alarms_about_domains_before_E_has_trained_them_for_a_while(step, overrides):
    counts = [512] + [0] * (overrides.get("domains", 10) - 1)
    assert (
        judge_collapse(seen(counts, step) if len(counts) > 1 else Evidence(), outline(**overrides), False)
        is None
    )


def test_with_labels_there_are_no_alarms_about_domains():
    assert outline(labelled=True).domains == 0
    assert judge_collapse(seen([512] + [0] * 9), outline(labelled=True), False) is None


def test_two_domains_that_share_every_picture_are_alike():
    groups = [i % 9 for i in range(504)]
    p = probabilities(groups, 10)
    p[:, 9] = p[:, 0] = (p[:, 0] + p[:, 9]) / 2  # domains 9 and 0 have the same probability
    assert shared_probability(p)[0, 9] == pytest.approx(1.0)
    said = judge_alike(Evidence(summary=summary(p)), outline(), False)
    assert "E cannot tell domain 0 from domain 9" in said
    assert judge_alike(Evidence(summary=summary(p, step=400)), outline(), False) is None
    assert judge_alike(Evidence(summary=summary(p)), outline(domains=0, most_domains=10), False) is None
    # An empty domain is not a duplicate; if no picture is assigned clearly, no two domains count as alike.
    assert judge_alike(Evidence(summary=summary(probabilities(groups, 10))), outline(), False) is None
    assert judge_alike(Evidence(summary=summary(torch.full((512, 10), 0.1))), outline(), False) is None


def test_the_new_head_of_a_found_number_of_domains_may_be_unsure_at_first():
    config = tiny_config(steps=2000, guide_only_until=1000, domains=10)
    assert outline_of(config, False).final_from == 0
    assert outline_of(config, False, chosen=True).final_from == 1000


@pytest.mark.parametrize("settings", [{"neighbours": 3}, {"candidate_heads": 2}])
def test_a_domain_head_that_may_still_be_replaced_is_not_judged_for_merging_kinds(settings):
    p = torch.eye(10).repeat(60, 1)
    p[:, :2] = p[:, :2].mean(1, keepdim=True)
    for step in (999, 1000, 1099):  # a new head is not sure at first
        assert judge_alike(Evidence(summary=summary(p, step)), outline(**settings), False) is None
    assert judge_alike(Evidence(summary=summary(p, 1100)), outline(**settings), False)
    assert judge_alike(Evidence(summary=summary(p, 999)), outline(), False)
    # If E never trains alone, no head is replaced.
    never_alone = outline(**settings, guide_only_until=0)
    assert judge_alike(Evidence(summary=summary(p, 1500)), never_alone, False)


def test_shared_probability_equals_its_sum():
    p = torch.rand(40, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    both = shared_probability(p)
    for a in range(5):
        for b in range(5):
            least = sum(min(row[a], row[b]) for row in p.tolist())
            most = max(sum(row[a] for row in p.tolist()), sum(row[b] for row in p.tolist()))
            assert both[a, b].item() == pytest.approx(0.0 if a == b else least / most, abs=1e-6)


def test_a_short_training_gets_some_steps_before_an_alarm():
    short = {"guide_only_until": 60, "steps": 120}
    few = lines([0.009] * 6, [3.0], every=5)
    assert judge_information(few, outline(**short), False) is None  # a third of the time is only 20 steps
    assert judge_information(lines([0.009] * 9, [3.0], every=5), outline(**short), False)


def test_a_mutual_information_near_0_for_a_third_of_the_time_is_an_alarm():
    stuck = lines([0.009] * 8, [5.0, 3.0])
    assert "is 0.009 of at most 2.3 nats" in judge_information(stuck, outline(), False)
    assert (
        judge_information(lines([0.009] * 7, [3.0]), outline(), False) is None
    )  # 350 steps, without the 50 of the first line
    assert (
        judge_information(lines([0.01 * i for i in range(1, 9)], [3.0]), outline(), False) is None
    )  # it rises
    assert (
        judge_information(lines([1.5] * 9, [3.0]), outline(), False) is None
    )  # constant, but domains are found
    assert judge_information(stuck, outline(domains=1), False) is None
    assert judge_information(stuck, outline(mutual_information_weight=0), False) is None
    # after the alarm, it ends only well above the limit
    assert judge_information(lines([0.3], [3.0]), outline(), True)
    assert judge_information(lines([0.4], [3.0]), outline(), True) is None


def test_a_style_loss_at_chance_for_a_third_of_the_time_is_an_alarm():
    chance = math.log(1024)
    assert f"is {chance:.2g}, as by chance" in judge_style(lines([0.0], [chance] * 8), outline(), False)
    assert judge_style(lines([0.0], [chance, 6.0, 5.0, 4.0, 4.0, 4.0, 4.0, 4.0]), outline(), False) is None
    assert judge_style(lines([0.0], [chance] * 8), outline(guide_style_weight=0), False) is None
    assert judge_style(lines([0.0], [chance] * 8), outline(guide_only_until=40, steps=400), False) is None


def test_a_log_of_any_length_is_judged_by_a_limited_number_of_lines():
    """A part of a long log is enough to see that the style loss stays the same, or that it has changed."""
    long = outline(steps=200_000, guide_only_until=100_000)
    chance, found = math.log(1024), Evidence()
    for step in range(1, 60_001):
        found.add(Line(step, 0.0, chance))
    assert len(found.lines) <= MOST_LINES
    steps = [line.step for line in found.lines]
    assert steps[0] == 1 and steps[-1] == 60_000
    assert max(after - before for before, after in itertools.pairwise(steps)) <= 32
    assert judge_style(found, long, False) is not None
    moved = Evidence()
    for step in range(1, 60_001):
        moved.add(Line(step, 0.0, chance if step < 45_000 else chance - 2))
    assert judge_style(moved, long, False) is None


def test_a_style_loss_that_rises_above_chance_is_an_alarm_unless_domains_are_found():
    seen_before = [6.9, 4.0, 3.0, 4.5, 6.5, 9.0, 12.0]
    assert "was 3 and is 12" in judge_growth(lines([0.009], seen_before), outline(), False)
    assert judge_growth(lines([1.7], seen_before), outline(), False) is None  # domains are found anyway
    assert judge_growth(lines([1.7], seen_before), outline(labelled=True), False) is None  # labels for some
    assert judge_growth(lines([0.009], seen_before), outline(labelled=True), False)
    assert judge_growth(lines([0.009], seen_before), outline(normalise_style=True), False) is None
    assert judge_growth(lines([0.009], [6.9, 4.0, 3.0, 5.0, 6.0]), outline(), False) is None
    assert (
        judge_growth(lines([0.009], [6.9, 3.0, 12.0, 12.0, 12.0, 12.0]), outline(), False) is None
    )  # it no longer rises
    assert judge_growth(lines([0.009], [*seen_before, 9.0]), outline(), True)


def test_style_codes_that_grow_are_no_alarm_where_no_loss_of_domains_can_be_outweighed():
    grows = [6.9, 4.0, 3.0, 4.5, 6.5, 9.0, 12.0]
    assert (
        judge_growth(lines([None], grows), outline(labelled=True), False) is None
    )  # every picture has a label
    assert judge_growth(lines([0.0], grows), outline(domains=1), False) is None
    assert judge_growth(lines([0.009], grows), outline(mutual_information_weight=0), False) is None
    # The mutual information is only measured: E alone learns styles, and in joint steps it keeps the domains found.
    styles = {"domains_from": 1.0, "found_domains_weight": 0.5}
    assert judge_growth(lines([0.009], grows), outline(**styles), False) is None
    assert judge_growth(lines([0.009], grows), outline(**styles | {"found_domains_weight": 0.0}), False)
    assert judge_growth(lines([0.009], grows), outline(labelled=True, **styles), False)


def test_every_alarm_has_short_words_and_suggests_options_not_yet_used():
    assert set(SHORT) == set(JUDGES_OF_OUTPUT | JUDGES_OF_TRANSLATIONS | JUDGES_OF_LOSSES)
    for name in SHORT:
        assert "--" in remedy_for(name, config())
    assert "--normalise-style" in remedy_for("collapse", config())
    # After --domains auto the config holds the number found, so auto would be no advice.
    assert "fewer --domains (now 10)" in remedy_for("alike", config())
    assert "auto" not in remedy_for("alike", config())
    taken = config(normalise_style=True, overclusters=50, candidate_heads=4, neighbours=5, head_std=0.3)
    for option in ("--normalise-style", "--overclusters", "--candidate-heads", "--neighbours", "--head-std"):
        assert option not in remedy_for("collapse", taken)


# ---- in a run ----

LONG = {"steps": 60, "guide_only_until": 50, "average_from": 55, "log_every": 10, "checkpoint_every": 100}


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """A training that learns nothing: its rates are 0, and its pictures hardly differ."""
    folder = tmp_path_factory.mktemp("failing")
    (folder / "pictures").mkdir()
    for i in range(20):
        picture = Image.new("RGB", (32, 32), (90, 120, 60))
        picture.putpixel((i, i), (91, 120, 60))
        picture.save(folder / "pictures" / f"{i}.png")
    settings = tiny_config(**LONG, domains=4, guide_rate=0.0)
    start_run(folder / "pictures", folder / "run", settings, quiet=True)
    return folder


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_alarms_of_a_bad_run_are_in_its_log_and_report(failing):
    found = {alarm.name: alarm for alarm in alarms_of(rows(failing / "run"))}
    assert {"collapse", "information", "style"} <= found.keys()
    assert "every picture" in found["collapse"].sentence
    assert found["collapse"].over is None
    assert [name for row in rows(failing / "run") if (name := row.get("alarm"))].count("collapse") == 1
    page = write_report(failing / "run", failing / "page.html").read_text("utf-8")
    assert 'id="alarms"' in page
    assert found["collapse"].remedy.split(";")[0].replace("'", "&#x27;") in page


def test_alarms_are_printed_even_if_quiet_and_in_the_progress_line(failing, monkeypatch, capsys):
    monkeypatch.setattr("tunit.training.logs.log.PLAIN_SECONDS", 0.0)
    arguments = [
        "train",
        str(failing / "pictures"),
        "--preset",
        "paper",
        *flags(**LONG, domains=4, guide_rate=0),
    ]
    assert main([*arguments, "--out", str(failing / "loud")]) == 0
    loud = " ".join(capsys.readouterr().err.split())
    assert "What to do: try a new run with" in loud
    assert "ALARM: " in loud
    resume_run(failing / "loud", overrides={"steps": "61"}, quiet=True)
    assert "alarm" not in capsys.readouterr().err  # these alarms are known


def test_a_resumed_run_neither_repeats_nor_loses_alarms(failing):
    # Not 50: a run in which E trains alone to the end has another remedy (more --steps).
    settings = tiny_config(**LONG | {"steps": 51}, domains=4, guide_rate=0.0)
    start_run(failing / "pictures", failing / "parts", settings, quiet=True)
    resume_run(failing / "parts", overrides={"steps": "60"}, quiet=True)
    assert alarms_of(rows(failing / "parts")) == alarms_of(rows(failing / "run"))


def test_a_good_run_has_no_alarms(tmp_path, capsys):
    """Three kinds that are easy to distinguish, with the preset for one's own pictures."""
    for k, colour in enumerate(((220, 40, 40), (40, 200, 60), (50, 60, 210))):
        write_pictures(tmp_path / "p" / f"{k}", 20, seed=k)
        for path in sorted((tmp_path / "p" / f"{k}").iterdir()):
            with Image.open(path) as opened:
                Image.blend(opened.convert("RGB"), Image.new("RGB", opened.size, colour), 0.7).save(path)
    # E's output is looked at when E has had a domain head for a while: in the joint steps.
    tiny = flags(**LONG | {"steps": 90}, guide_only_batch_size=20)
    assert (
        main(
            [
                "train",
                str(tmp_path / "p"),
                "--preset",
                "small",
                *tiny,
                "--out",
                str(tmp_path / "run"),
                "--quiet",
            ]
        )
        == 0
    )
    assert "alarm" not in capsys.readouterr().err
    assert alarms_of(rows(tmp_path / "run")) == []
    figures = [row for row in rows(tmp_path / "run") if "domains/largest_share" in row]
    assert figures
    assert _alarms(SimpleNamespace(alarms=[])) == ""


@pytest.mark.parametrize("average_decay", [0.9, 0.999])
def test_a_measurement_does_not_change_the_training(failing, average_decay):
    settings = tiny_config(average_decay=average_decay)
    state = new_state(settings, torch.device("cpu"), 20)
    state.step = 50
    before = {name: tensor.clone() for name, tensor in state_tensors(state).items()}
    random = torch.get_rng_state()
    found = output_summary(state, open_packed(failing / "run" / "data"), settings, 20)
    assert sum(found.counts) == 20
    assert all(torch.equal(tensor, before[name]) for name, tensor in state_tensors(state).items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(network.training for network in state.networks.named().values())
    assert not torch.is_inference(next(state.networks.guide.parameters()))


def test_untrained_heads_of_the_average_are_not_a_collapse(failing):
    """Domains are learnt from step 1000 on; 50 steps later the average still holds the heads' initial weights."""
    settings = config(average_decay=0.99, domains=4, head_std=0.3)
    state = new_state(settings, torch.device("cpu"), 20)
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    pictures = dataclasses.replace(open_packed(failing / "run" / "data"), images=noise)
    for parameter in state.networks.guide_average.parameters():
        if parameter.shape[0] == 4:  # of a domain head
            parameter.data.zero_()
    with torch.no_grad(), evaluating(state.networks.guide):
        logits = state.networks.guide(next(in_batches(noise, torch.device("cpu"), 20))).logits
    counts = torch.bincount(logits.argmax(1), minlength=4).tolist()
    state.step = 1050
    assert output_summary(state, pictures, settings, 20, domains_from_step=1000).counts == counts
    assert max(counts) < 20
    state.step = 1150
    assert max(output_summary(state, pictures, settings, 20, domains_from_step=1000).counts) == 20


def test_measurements_take_less_than_a_hundredth_of_the_time(failing, monkeypatch):
    """Counted in pictures that pass E: 512 for a measurement, seven times the batch for a step."""
    settings = config(guide_only_batch_size=128)
    measured = []
    monkeypatch.setattr(
        watching,
        "output_summary",
        lambda state, *rest: measured.append(state.step) or seen([51] * 10, 0).summary,
    )
    pictures = open_packed(failing / "run" / "data")
    state = new_state(settings, torch.device("cpu"), 20)
    watch = watching.Watch(pictures)
    monkeypatch.setattr(watching, "LOOKED_AT", 20)
    for step in range(1, 1000):
        state.step = step
        watch.output_figures(state, settings)
    assert len(measured) * 20 <= 0.01 * 1000 * 7 * 128
    assert measured[0] >= 30


@pytest.mark.parametrize(
    ("domains", "pictures", "number"),
    [(10, 9000, 512), (100, 9000, 1000), (1000, 9000, 2000), (100, 700, 700)],
)
def test_with_many_domains_enough_pictures_are_looked_at_for_all_alarms(
    monkeypatch, domains, pictures, number
):
    """Ten for each domain, or most domains could be empty without an alarm; and still little of the time."""
    looks = []

    def looked(state, pictures, config, number, begun):
        looks.append((state.step, number))
        return OutputSummary(state.step, [number] + [0] * (domains - 1), None, 1.0)

    monkeypatch.setattr(watching, "output_summary", looked)
    watch = watching.Watch(with_labels(np.full(pictures, -1)))
    settings = config(domains=domains, guide_only_batch_size=128, guide_only_until=1000)
    for step in range(1, 1000):
        watch.output_figures(SimpleNamespace(step=step, choice=None), settings)
    assert {each for _, each in looks} == {number}
    assert sum(each for _, each in looks) <= 0.01 * 7 * 128 * 1000
    if number == 1000:
        few = OutputSummary(looks[-1][0], [500, 500] + [0] * (domains - 2), None, 1.0)
        assert "98 of 100 are empty" in judge_collapse(Evidence(summary=few), outline(domains=domains), False)


@pytest.mark.parametrize(
    "line",
    [
        {"step": 5, "alarm": "unheard of", "sentence": "a", "remedy": "b"},
        {"step": 5, "alarm": ["collapse"], "over": True},
        {"step": 5, "alarm": "collapse", "sentence": 3, "remedy": "b"},
        {"step": "5", "alarm": "collapse", "over": True},
        {"alarm": {}, "step": 1, "over": True},
    ],
)
def test_invalid_rows_of_alarms_are_ignored(failing, line):
    assert alarms_of([line]) == []
    assert watching.Watch(open_packed(failing / "run" / "data"), [line]).raised == {}

"""Remedies of alarms: a new run accepts every option that they name, and the option has an effect."""

import re

import pytest

from tiny_run import tiny_config
from tunit.cli import build_parser
from tunit.commands.setting_arguments import settings_of
from tunit.config import all_fields
from tunit.methods.checks import check_config, check_number_of_pictures
from tunit.methods.idle_settings import NEEDS, why_idle
from tunit.methods.registry import method_of
from tunit.training.alarms.guide_alarms import SHORT
from tunit.training.alarms.remedies import remedy_for
from tunit.training.processes import check_processes

RUNS = {
    "tunit": tiny_config(),
    "tunit without a phase of E alone": tiny_config(guide_only_until=0, average_from=0),
    "tunit with labels": tiny_config(labels="csv"),
    "tunit, swapped assignments": tiny_config(clustering_objective="swapped-assignments"),
    "tunit, E alone to the end": tiny_config(guide_only_until=12),
    "tunit, weights and rates of 0": tiny_config(
        r1_weight=0,
        reconstruction_weight=0,
        guide_style_weight=0,
        adversarial_weight=0,
        guide_rate=0,
        generator_rate=0,
        discriminator_rate=0,
    ),
    "tunit, three processes": tiny_config(processes=3, batch_size=6),
    "tunit, supervised": tiny_config("table1-b", guide_only_until=0),
    "default": tiny_config("default", domains="auto"),
    "default, only styles": tiny_config(
        "default", domains=7, domains_from=1.0, overclusters=0, candidate_heads=0, head_std=0.01
    ),
    "few labels": tiny_config("few-labels"),
    "funit": tiny_config("table1-a", guide_only_until=0, labels="folders"),
    "semit": tiny_config("semit", labels="csv"),
}
# What check_config refuses whatever value is given.
REFUSED = {"funit": ("--guide-only-until", "--discriminator-augment", "--lecam"), "semit": ("--lecam",)}


@pytest.mark.parametrize("alarm", SHORT)
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("pictures", [0, 7])
def test_every_option_of_a_remedy_can_be_used_by_the_method(run, alarm, pictures):
    config = RUNS[run]
    all_labelled = run in ("funit", "tunit, supervised")
    said = remedy_for(alarm, config, pictures=pictures, all_labelled=all_labelled)
    values = dict(re.findall(r"--([a-z0-9-]+)(?: ([a-z0-9.]+\b))?", said))
    names = {flag.replace("-", "_"): value for flag, value in values.items()}
    with_advice = config.with_overrides({k: v for k, v in names.items() if re.fullmatch(r"[\d.]+|true", v)})
    check_config(with_advice)
    check_processes(with_advice)
    if pictures:
        check_number_of_pictures(with_advice, pictures)
    for name in names:
        assert name in all_fields()
        assert name not in method_of(config).unused_settings
        assert not why_idle(with_advice, name, all_labelled=all_labelled), said
        parsed = build_parser().parse_args(["train", "FOLDER", f"--{name.replace('_', '-')}", "1"])
        assert settings_of(parsed) == {name: "1"}
    assert not any(flag in said for flag in REFUSED.get(run, ())), said
    assert not re.search(r"(smaller|lower) --[a-z0-9-]+ \(now 0\)", said), said
    assert " or ," not in said and "with ," not in said and "with  " not in said


def test_a_batch_is_never_advised_that_is_larger_than_the_set_or_that_processes_cannot_share():
    taken = {"normalise_style": True, "overclusters": 9, "head_std": 1}
    assert "--guide-only-batch-size 128," in remedy_for("collapse", tiny_config(**taken))
    assert "--guide-only-batch-size 100," in remedy_for("collapse", tiny_config(**taken), pictures=100)
    of_three = tiny_config(**taken, processes=3, batch_size=6)
    assert "--guide-only-batch-size 126," in remedy_for("collapse", of_three)
    assert "--guide-only-batch-size 99," in remedy_for("collapse", of_three, pictures=100)
    for pictures, advised in ((0, True), (4, False), (5, True)):
        assert ("a larger --batch-size" in remedy_for("emptied", tiny_config(), pictures=pictures)) == advised
    for pictures, advised in ((8, False), (9, True)):
        assert ("a larger --batch-size" in remedy_for("emptied", of_three, pictures=pictures)) == advised


def test_what_acts_only_on_pictures_without_a_label_is_no_remedy_if_all_have_one():
    """Of configuration B of table 1, which is supervised, E's own gradient can be drowned, too."""
    supervised, some = RUNS["tunit, supervised"], RUNS["few labels"]
    said = remedy_for("drowned", supervised, all_labelled=True)
    assert "a larger --labelled-guide-factor (now 0.1)" in said and "--joint-guide-factor" not in said
    said = remedy_for("drowned", some)
    assert "--labelled-guide-factor (now 1)" in said and "--joint-guide-factor (now 0.1)" in said
    assert "--labelled-guide-factor" not in remedy_for("drowned", tiny_config())


def test_heads_are_no_remedy_for_an_e_that_learns_only_styles():
    """They are replaced when joint steps begin, and E then keeps the domains that were found."""
    styles = RUNS["default, only styles"]
    for alarm in ("collapse", "alike"):
        said = remedy_for(alarm, styles)
        assert "a longer --guide-only-until" in said
        assert not any(flag in said for flag in ("--overclusters", "--candidate-heads", "--head-std"))
        assert "--candidate-heads 4" in remedy_for(
            alarm, styles.with_overrides({"domains_from": 0.5, "overclusters": 9, "head_std": 1.0})
        )


def test_nothing_below_0_is_advised():
    assert "a smaller" not in (said := remedy_for("constant", RUNS["tunit, weights and rates of 0"]))
    assert "a larger --adversarial-weight (now 0)" in said
    assert "a larger --r1-weight (now 0)" in remedy_for("strong", RUNS["tunit, weights and rates of 0"])


def test_a_method_that_takes_no_option_at_all_still_gets_a_sentence():
    assert "with other settings of the method" in remedy_for("growth", RUNS["funit"])


@pytest.mark.parametrize("alarm", ["collapse", "alike", "information"])
def test_an_e_that_trains_alone_to_the_end_can_do_so_for_longer_only_with_more_steps(alarm):
    longer = "more --steps, with a longer --guide-only-until"
    assert longer in remedy_for(alarm, RUNS["tunit, E alone to the end"])
    said = remedy_for(alarm, RUNS["tunit"])
    assert "a longer --guide-only-until" in said and "--steps" not in said


def test_a_number_of_domains_that_was_found_is_not_said_to_have_been_given():
    """As soon as --domains auto has found a number, the config holds it, as if it had been given."""
    said = remedy_for("collapse", tiny_config("default", domains=7))
    assert said.endswith("; if there are fewer kinds than domains, with fewer --domains (now 7)")


def test_flags_that_need_a_phase_of_E_alone_are_named_only_with_one():
    said = remedy_for("collapse", RUNS["tunit without a phase of E alone"])
    assert "a longer --guide-only-until" in said
    assert not any(f"--{name.replace('_', '-')} " in said for name in NEEDS if name.startswith("neighbours"))
    assert "--neighbours 5" in remedy_for(
        "collapse", tiny_config(normalise_style=True, overclusters=9, head_std=1)
    )

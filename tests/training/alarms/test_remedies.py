"""Remedies of alarms: a new run accepts every option that they name, and the option has an effect."""

import re

import pytest

from tiny_run import tiny_config
from tunit.config import all_fields
from tunit.methods.checks import check_config
from tunit.methods.idle_settings import NEEDS, why_idle
from tunit.methods.registry import method_of
from tunit.training.alarms.guide_alarms import SHORT
from tunit.training.alarms.remedies import remedy_for

RUNS = {
    "tunit": tiny_config(),
    "tunit without a phase of E alone": tiny_config(guide_only_until=0, average_from=0),
    "tunit with labels": tiny_config(labels="csv"),
    "funit": tiny_config("table1-a", guide_only_until=0, labels="folders"),
    "semit": tiny_config("semit", labels="csv"),
}
# What check_config refuses whatever value is given.
REFUSED = {"funit": ("--guide-only-until", "--discriminator-augment", "--lecam"), "semit": ("--lecam",)}


@pytest.mark.parametrize("alarm", SHORT)
@pytest.mark.parametrize("run", RUNS)
def test_every_option_of_a_remedy_can_be_used_by_the_method(run, alarm):
    config, said = RUNS[run], remedy_for(alarm, RUNS[run])
    values = dict(re.findall(r"--([a-z0-9-]+)(?: ([a-z0-9.]+\b))?", said))
    names = {flag.replace("-", "_"): value for flag, value in values.items()}
    with_advice = config.with_overrides({k: v for k, v in names.items() if re.fullmatch(r"[\d.]+|true", v)})
    check_config(with_advice)
    for name in names:
        assert name in all_fields()
        assert name not in method_of(config).unused_settings
        assert not why_idle(with_advice, name), said
    assert not any(flag in said for flag in REFUSED.get(run, ())), said
    assert " or ," not in said and "with ," not in said and "with  " not in said


def test_a_method_that_takes_no_option_at_all_still_gets_a_sentence():
    assert "with other settings of the method" in remedy_for("growth", RUNS["funit"])


def test_flags_that_need_a_phase_of_E_alone_are_named_only_with_one():
    said = remedy_for("collapse", RUNS["tunit without a phase of E alone"])
    assert "a longer --guide-only-until" in said
    assert not any(f"--{name.replace('_', '-')} " in said for name in NEEDS if name.startswith("neighbours"))
    assert "--neighbours 5" in remedy_for(
        "collapse", tiny_config(normalise_style=True, overclusters=9, head_std=1)
    )

"""Settings that contradict the method or each other: what is refused, and what is only warned about."""

import pytest

from tunit.config import read_config
from tunit.errors import ConfigError
from tunit.methods.checks import check_config, warnings_of


def warned(preset, resumes=False, **settings):
    return warnings_of(read_config(preset).with_overrides(settings).resolved_schedule(), resumes=resumes)


def test_usual_schedules_give_no_warning():
    for preset in ("default", "paper", "few-labels", "semit", "table1-a", "table1-b", "guide-alone"):
        assert warned(preset) == []
    assert warned("default", steps=300) == []


def test_a_shorter_training_names_every_flag_that_is_too_late():
    (said,) = warned("paper", steps=20_000)
    assert "G and D do not train" in said
    assert "smaller --guide-only-until and --average-from, also as shares of all steps, such as 0.25" in said
    assert "give --steps of more than 66000" in warned("paper", steps=20_000, resumes=True)[0]


def test_a_training_that_ends_before_the_ema_of_g_begins_is_warned_about():
    (said,) = warned("paper", steps=20_000, guide_only_until=0.25)
    assert "the EMA of G is a copy of G until step 66000 (average_from)" in said
    assert "give a smaller --average-from" in said
    assert warned("paper", steps=20_000, guide_only_until=20_000) == []  # G does not train on purpose


def test_an_ema_of_g_that_begins_before_g_trains_is_warned_about_in_a_new_run():
    (said,) = warned("paper", guide_only_until=100_000)
    assert "give an --average-from of more than 100000" in said
    assert warned("paper", guide_only_until=100_000, resumes=True) == []  # it cannot change any more


@pytest.mark.parametrize("resumes", [False, True])
def test_unlabelled_pictures_that_are_never_used_are_warned_about(resumes):
    settings = {"steps": 20_000, "guide_only_until": 0.25, "average_from": 0.26}
    (said,) = warned("few-labels", resumes, **settings)
    assert "no unlabelled picture is used" in said
    remedy = "give --steps of more than 20000" if resumes else "give a smaller --labelled-only-until"
    assert remedy in said


def test_the_augmentation_is_not_adapted_by_signs_that_mean_nothing():
    both = {"adversarial_loss": "relativistic", "discriminator_augment_target": 0.6}
    config = read_config("paper").with_overrides(both).resolved_schedule()
    with pytest.raises(ConfigError, match=r"discriminator_augment_target is .* with the relativistic loss"):
        check_config(config)
    check_config(config, resumes=True)  # a run that has begun so can end
    check_config(config.with_overrides({"adversarial_loss": "hinge"}))

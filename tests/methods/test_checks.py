"""Settings that contradict the method or each other: what is refused, and what is only warned about."""

import numpy as np
import pytest

from tunit.config import all_fields, read_config
from tunit.errors import ConfigError
from tunit.methods.checks import check_config, warnings_of
from tunit.methods.clustering_objectives import clustering_objectives
from tunit.methods.idle_settings import FOR_LABELLED, FOR_UNLABELLED, NEEDS, idle_settings
from tunit.methods.registry import methods


def warned(preset, resumes=False, of=None, **settings):
    config = read_config(preset).with_overrides(settings).resolved_schedule()
    return warnings_of(config, resumes=resumes, labels=None if of is None else np.array(of))


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


@pytest.mark.parametrize("preset", ["table1-a", "semit"])
def test_a_method_that_does_not_read_what_learns_from_d_refuses_to_change_it(preset):
    """The gradient of D's answers reaches the class encoder whatever `adversarial_trains` says."""
    config = read_config(preset).with_overrides({"adversarial_trains": "generator"}).resolved_schedule()
    with pytest.raises(
        ConfigError, match=r"adversarial_trains is generator, .* leave it at generator and guide$"
    ):
        check_config(config)
    check_config(config, resumes=True)  # it cannot change any more
    check_config(read_config("paper").with_overrides({"adversarial_trains": "generator"}))


SWAPPED, SWAPPED_FLAG = (
    {"clustering_objective": "swapped-assignments"},
    "--clustering-objective 'swapped-assignments'",
)


def idle(preset, **settings):
    return idle_settings(read_config(preset).with_overrides(settings), list(settings))


@pytest.mark.parametrize(
    ("preset", "settings", "sentence"),
    [
        ("paper", {"overcluster_weight": 5.0}, "--overcluster-weight 5.0 has no effect: overclusters is 0"),
        ("paper", {"overclusters": 50}, "--overclusters 50 has no effect: overcluster_weight is 0.0"),
        ("paper", {"style_size": 0.1}, "--style-size 0.1 has no effect: normalise_style is false"),
        (
            "paper",
            {"most_domains": 20},
            "--most-domains 20 has no effect: domains is 10, and only with auto is",
        ),
        (
            "default",
            {"guide_only_until": 0, "neighbours": 5},
            "--neighbours 5 has no effect: guide_only_until is 0",
        ),
        (
            "small",
            {"guide_style_weight": 0, "domains_from": 0.3},
            "--domains-from 0.3 has no effect: guide_style_weight is 0",
        ),
        (
            "table1-a",
            {"standardise": True},
            "--standardise true has no effect: method is funit, which does not use",
        ),
        (
            "semit",
            {"temperature": 0.1},
            "--temperature 0.1 has no effect: method is semit, which does not use it",
        ),
        *(
            (preset, {name: value}, f"{said} has no effect: method is {method}, which does not use it")
            for preset, method, name, value, said in (
                ("paper", "tunit", "octave_share", 0.3, "--octave-share 0.3"),
                ("paper", "tunit", "funit_adversarial_factor", 0.4, "--funit-adversarial-factor 0.4"),
                ("table1-a", "funit", "octave_share", 0.3, "--octave-share 0.3"),
                ("table1-a", "funit", "whole_statistics", True, "--whole-statistics true"),
                ("semit", "semit", "queue_length", 2048, "--queue-length 2048"),
                ("semit", "semit", "both_views", True, "--both-views true"),
                ("semit", "semit", "feature_cue", "dinov2", "--feature-cue 'dinov2'"),
                ("table1-a", "funit", "feature_cue", "dinov2", "--feature-cue 'dinov2'"),
            )
        ),
        (
            "paper",
            {"feature_cue": "/Data/MoCo.pth.tar"},
            "--feature-cue '/Data/MoCo.pth.tar' has no effect: neighbours is 0 and domains is 10, and it only ",
        ),
        *(
            (
                "default",
                {name: value},
                f"{flag} has no effect: without labels E learns only styles while it trains alone (domains_from is ",
            )
            for name, value, flag in (
                ("candidate_heads", 4, "--candidate-heads 4"),
                ("overclusters", 9, "--overclusters 9"),
                ("overcluster_weight", 2.0, "--overcluster-weight 2.0"),
                ("mutual_information_weight", 9.0, "--mutual-information-weight 9.0"),
                ("marginal_balance", 2.0, "--marginal-balance 2.0"),
                ("head_std", 0.2, "--head-std 0.2"),
                (
                    "clustering_objective",
                    "swapped-assignments",
                    "--clustering-objective 'swapped-assignments'",
                ),
            )
        ),
        (
            "default",
            {"guide_only_until": 0, "feature_cue": "random-vgg16"},
            "--feature-cue 'random-vgg16' has no effect: guide_only_until is 0",
        ),
        (
            "paper",
            {"guide_only_until": 0, "both_views": True},
            "--both-views true has no effect: guide_only_until is 0",
        ),
        *(
            (
                "paper",
                {name: 3.0},
                f"{flag} 3.0 has no effect: labels is none, and it acts only on labelled pic",
            )
            for name, flag in (
                ("classification_weight", "--classification-weight"),
                ("labelled_guide_factor", "--labelled-guide-factor"),
            )
        ),
        ("table1-a", SWAPPED, f"{SWAPPED_FLAG} has no effect: method is funit, which does not use it"),
        ("semit", SWAPPED, f"{SWAPPED_FLAG} has no effect: method is semit, which does not use it"),
        (
            "paper",
            SWAPPED | {"mutual_information_weight": 0},
            f"{SWAPPED_FLAG} has no effect: mutual_information_weight is 0, and no overclustering head",
        ),
        (
            "paper",
            {"discriminator_augment_pace": 20_000},
            "--discriminator-augment-pace 20000 has no effect: discriminator_augment_target is 0.0",
        ),
    ],
)
def test_a_given_setting_without_an_effect_is_named(preset, settings, sentence):
    (said,) = idle(preset, **settings)
    assert said.startswith(sentence)


def test_what_another_clustering_does_not_use_is_named():
    (said,) = idle("paper", **SWAPPED, marginal_balance=1.5)
    assert said.startswith(
        "--marginal-balance 1.5 has no effect: clustering_objective is swapped-assignments, which does not"
    )
    config = read_config("paper").with_overrides(SWAPPED | {"labels": "csv"})
    assert idle_settings(config, list(SWAPPED)) == []  # few labels
    (said,) = idle_settings(config, list(SWAPPED), all_labelled=True)
    assert said.startswith(f"{SWAPPED_FLAG} has no effect: every picture has a label, and it acts only on")


@pytest.mark.parametrize(
    ("name", "value"),
    [("neighbours", 4), ("neighbours_from", 0.3), ("neighbours_every", 50), ("feature_cue", "random-vgg16")],
)
def test_neighbours_are_named_as_idle_if_every_picture_has_a_label(name, value):
    config = read_config("default").with_overrides({"labels": "folders", name: value})
    assert idle_settings(config, [name]) == []  # few labels: the others have neighbours
    (said,) = idle_settings(config, [name], all_labelled=True)
    assert "has no effect: every picture has a label, and it acts only on pictures without one" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mutual_information_weight", 3.0),
        ("marginal_balance", 1.5),
        ("overclusters", 50),
        ("overcluster_weight", 5.0),
        ("candidate_heads", 4),
        ("domains_from", 0.2),
    ],
)
def test_what_teaches_domains_without_labels_is_named_as_idle_if_every_picture_has_one(name, value):
    heads = {"overclusters": 10, "overcluster_weight": 1.0}
    config = read_config("paper").with_overrides(heads | {"labels": "folders", name: value})
    assert idle_settings(config, [name]) == []  # few labels: the others have none
    (said,) = idle_settings(config, [name], all_labelled=True)
    assert "has no effect: every picture has a label, and it acts only on pictures without one" in said


@pytest.mark.parametrize(
    "name", ["pseudo_label_weight", "compatibility_weight", "prediction_entropy_weight", "soft_label_rate"]
)
def test_pseudo_labels_are_named_as_idle_if_every_picture_has_a_label(name):
    config = read_config("semit").with_overrides({name: 0.7})
    assert idle_settings(config, [name]) == []
    (said,) = idle_settings(config, [name], all_labelled=True)
    assert "has no effect: every picture has a label, and it acts only on pictures without one" in said


def test_the_most_domains_are_named_as_idle_if_every_picture_has_a_label():
    config = read_config("default").with_overrides({"labels": "folders", "most_domains": 20})
    assert (
        idle_settings(config, ["most_domains"]) == []
    )  # if no picture has a label, the number is searched for
    (said,) = idle_settings(config, ["most_domains"], all_labelled=True)
    assert "has no effect: every picture has a label, and the labels give the number of domains" in said


def test_settings_with_an_effect_or_of_a_preset_are_not_named():
    assert idle("paper", overclusters=50, overcluster_weight=5.0, lecam_weight=0.1, lecam_decay=0.9) == []
    assert idle("default", most_domains=20, style_size=0.5, neighbours=3, neighbours_every=10) == []
    assert (
        idle("default", method="funit", guide_only_until=0) == []
    )  # the preset sets many that funit does not read
    assert idle("default", overclusters=0, candidate_heads=0) == []  # switched off on purpose
    assert idle("semit", labels="csv", classification_weight=2.0, discriminator_rate=1e-3) == []
    assert idle("paper", labels="csv", classification_weight=2.0, labelled_guide_factor=3.0) == []
    assert idle("paper", both_views=True) == []
    assert idle("paper", **SWAPPED) == []
    heads = {"overclusters": 50, "overcluster_weight": 5.0}
    assert idle("paper", **SWAPPED, **heads, mutual_information_weight=0) == []
    assert idle("paper", neighbours=3, feature_cue="dinov2") == idle("default", feature_cue="dinov2") == []
    assert idle("paper", domains="auto", feature_cue="dinov2") == []
    assert idle("default", domains=9, neighbours=0, feature_cue="dinov2") == []  # it clusters E's codes
    for learns in ({"domains_from": 0.5}, {"labels": "csv"}, {"found_domains_weight": 0.0}):
        assert idle("default", **learns, candidate_heads=4, overclusters=9, marginal_balance=2.0) == []
    assert idle("semit", octave_share=0.3, funit_adversarial_factor=0.4) == []


def test_every_setting_in_the_tables_exists():
    names = [*NEEDS, *(name for others in NEEDS.values() for name in others)]
    names += [*FOR_LABELLED, *FOR_UNLABELLED]
    both = *methods(), *clustering_objectives()
    names += [name for each in both for name in each.unused_settings]
    assert set(names) <= set(all_fields())


def test_a_batch_of_one_picture_is_refused_also_for_e_alone():
    config = read_config("paper").with_overrides({"guide_only_batch_size": 1}).resolved_schedule()
    with pytest.raises(ConfigError, match=r"guide_only_batch_size is 1, .* give 2 or more, or 0"):
        check_config(config)
    check_config(config, resumes=True)
    check_config(config.with_overrides({"guide_only_batch_size": 0}))


def test_labels_that_are_missing_everywhere_or_all_the_same_are_not_what_was_meant():
    [warning] = warned("paper", of=[-1] * 20, labels="csv")
    assert warning.startswith("no picture has a label, although --labels is csv")
    [warning] = warned("paper", of=[-1] * 19 + [0], labels="csv", domains=1)
    assert warning.startswith("all labels are the same")
    assert not warned("paper", of=[-1] * 18 + [0, 1], labels="csv", domains=2)
    assert not warned("paper", of=[-1] * 20)
    assert not warned("paper", of=[-1] * 20, labels="csv", resumes=True)


def test_more_domains_than_pictures_are_not_what_was_meant():
    [warning] = warned("paper", of=[-1] * 3)
    assert warning.startswith("there are more domains than pictures (10 and 3)")

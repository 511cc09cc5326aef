"""`tunit train --evaluate-every N`, called as a user does. Errors must come before a long training."""

import argparse
import json

import pytest

from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.commands import measuring_in_training, train
from tunit.config.run_file import write_run_config
from tunit.features import feature_networks

pytestmark = pytest.mark.usefixtures("one_thread", "narrow_vgg")


def test_the_best_model_is_kept_and_can_be_used(tmp_path):
    for i, name in enumerate("ab"):
        write_pictures(tmp_path / "pictures" / name, seed=i, number=12)
        write_pictures(tmp_path / "held" / name, seed=10 + i, number=6)
    words = ["train", tmp_path / "pictures", "--out", tmp_path / "run", "--quiet", *flags(domains=2)]
    words += ["--evaluate-every", "8", "--held-back", tmp_path / "held"]
    assert main([str(word) for word in words]) == 0
    best = json.loads((tmp_path / "run" / "best" / "best.json").read_text())
    assert best["step"] in (8, 12)
    assert best["features"] == "random-vgg16"
    picture = tmp_path / "held" / "a" / "000.png"
    words = [
        "translate",
        tmp_path / "run" / "best",
        picture,
        "--reference",
        picture,
        "--out",
        tmp_path / "out",
    ]
    assert main([str(word) for word in words]) == 0
    assert (tmp_path / "out" / "000.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--evaluate-every", "-1"], "--evaluate-every is -1"),
        (["--evaluate-every", "2", "--held-back", "nowhere"], "nowhere does not exist"),
        (["--evaluate-every", "2", "--held-back", "ONE"], "holds 1 picture, too few to score a model"),
        (["--held-back", "ONE"], "has no effect without --evaluate-every"),
        (["--features", "dinov2"], "--features dinov2 has no effect without --evaluate-every"),
        (["--trust-features"], "--trust-features has no effect without --evaluate-every"),
        (["--max-restarts", "2"], "--max-restarts 2 has no effect without several processes"),
        (["--evaluate-every", "2", "--features", "vgg99"], "'vgg99' is neither a file nor a known name"),
    ],
)
def test_errors_come_before_the_training(tmp_path, capsys, words, message):
    write_pictures(tmp_path / "pictures", number=12)
    write_pictures(tmp_path / "one", number=1)
    words = [word.replace("ONE", str(tmp_path / "one")) for word in words]
    call = ["train", str(tmp_path / "pictures"), "--out", str(tmp_path / "run"), *flags(), *words]
    assert main(call) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", ["flag", "preset", "run"])
def test_a_table_of_held_back_pictures_is_checked_with_the_columns_of_the_training(tmp_path, capsys, given):
    """Its usual column names one picture only."""
    pictures = sorted(write_pictures(tmp_path / "pictures", number=8).iterdir())
    table, run, preset = tmp_path / "held.csv", tmp_path / "run", tmp_path / "mine.toml"
    rows = [f"{path},{pictures[0]}" for path in pictures]
    table.write_text("\n".join(["own,picture", *rows]) + "\n")
    preset.write_text('base = "default"\n[data]\npicture_column = "own"\n')
    words = {
        "flag": [table, "--out", run, *flags(), "--picture-column", "own"],
        "preset": [table, "--out", run, *flags(), "--preset", preset],
        "run": ["--resume", run],
    }[given]
    if given == "run":
        assert (
            main([str(w) for w in ["train", table, "--out", run, *flags(), "--picture-column", "own"]]) == 0
        )
        words += ["--steps", "14"]
    words = ["train", *words, "--quiet", "--evaluate-every", "99", "--held-back", table]
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    assert main([str(word) for word in [*words[:-1], table, "--label-column", "kind", "--overwrite"]]) == 2


def test_restarts_of_a_resumed_run_need_several_processes(tmp_path, monkeypatch, capsys):
    write_run_config(tmp_path / "config.toml", tiny_config())
    asked = []
    monkeypatch.setattr("tunit.training.launch.resume_run", lambda *_, **given: asked.append(given))
    call = ["train", "--resume", str(tmp_path), "--max-restarts", "2", "--quiet"]
    assert main(call) == 2
    assert "--max-restarts 2 has no effect without several processes" in capsys.readouterr().err
    assert main([*call, "--processes", "2"]) == 0
    assert [given["max_restarts"] for given in asked] == [2]


def test_a_step_is_repeated_without_a_feature_network(tmp_path, capsys):
    for option in (["--features", "dinov2"], ["--trust-features"]):
        assert main(["train", "--replay", str(tmp_path / "batch"), *option]) == 2
        assert "leave out all other options" in capsys.readouterr().err


def test_a_setting_without_an_effect_is_warned_about(tmp_path, capsys):
    source = write_pictures(tmp_path / "pictures", number=8)
    words = [
        "train",
        source,
        "--out",
        tmp_path / "run",
        "--quiet",
        "--preset",
        "paper",
        "--overclusters",
        "5",
    ]
    words += flags(steps=1, guide_only_until=1, average_from=1, sample_every=0)
    assert main([str(word) for word in words]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "warning: --overclusters 5 has no effect: overcluster_weight is 0.0: leave it out, or change that"
        in said
    )


@pytest.mark.parametrize(
    ("option", "hinted"),
    [([], True), (["--device", "cpu"], True), (["--preset", "default"], False), (["--quiet"], False)],
)
def test_who_trains_on_a_cpu_with_no_preset_is_told_of_small(tmp_path, monkeypatch, capsys, option, hinted):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    source = write_pictures(tmp_path / "pictures", number=8)
    words = ["train", source, "--out", tmp_path / "run", *option]
    words += flags(steps=1, guide_only_until=1, average_from=1, sample_every=0)
    assert main([str(word) for word in words]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert ("--preset small is made for a CPU" in said) == hinted


@pytest.mark.parametrize(("rank", "loaded"), [("0", 1), ("1", 0)])
def test_of_several_processes_only_the_first_loads_a_feature_network(tmp_path, monkeypatch, rank, loaded):
    """Only rank 0 measures; on GPUs, the others' networks would take memory of the first one."""
    calls = []
    monkeypatch.setattr(feature_networks, "load_feature_network", lambda *given, **named: calls.append(given))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    args = parser.parse_args(["pictures", "--evaluate-every", "5"])
    assert (measuring_in_training.evaluator_of(args, tmp_path) is None) == (not loaded)
    assert len(calls) == loaded

"""The training loop: the contents of a run folder, and how training ends early."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_run import STEPS, tiny_config, write_pictures
from tunit import native
from tunit.config import preset_names, read_config
from tunit.errors import DataError, TrainingError
from tunit.methods import tunit as step_module
from tunit.methods.checks import check_number_of_pictures
from tunit.methods.model_file import load_model
from tunit.training import preparation
from tunit.training.alarms.evidence import outline_of
from tunit.training.launch import resume_run, start_run
from tunit.training.schedule import batch_size_at, phase_at, stream_at


def test_a_run_folder_has_all_documented_files(tmp_path):
    pictures, run = write_pictures(tmp_path / "pictures"), tmp_path / "run"
    calls = []
    state = start_run(
        pictures,
        run,
        tiny_config(),
        quiet=True,
        evaluate=lambda state: calls.append(state.step) or {"figure": 1.5},
        evaluate_every=6,
    )
    assert state.step == STEPS
    assert calls == [6, 12]
    about = json.loads((run / "run.json").read_text())
    assert about["pictures"] == 20
    assert about["seed"] == 0
    assert {"tunit", "torch", "python", "source", "command"} <= about.keys()
    config = read_config(str(run / "config.toml"))
    assert config.schedule.guide_only_until == 4
    with (run / "pictures.csv").open() as file:
        assert [row["picture"] for row in csv.DictReader(file)] == [f"{i:03d}.png" for i in range(20)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 6, 9, 12, 12]
    assert "generator/reconstruction" not in lines[0]  # E trains alone until step 4
    assert "generator/reconstruction" in lines[-2]
    assert lines[-1]["figure"] == 1.5
    assert list((run / "tensorboard").iterdir())
    assert sorted(p.name for p in (run / "samples").iterdir()) == [
        "step_00000005.png",
        "step_00000010.png",
        "step_00000012.png",
    ]
    with Image.open(run / "samples" / "step_00000012.png") as grid:
        assert grid.size == (2 * 9 * 32, 2 * 9 * 32)
    model = load_model(run)
    assert model.step == STEPS
    assert model.domain_sizes.sum() == 20
    for ours, theirs in zip(
        model.generator.parameters(), state.networks.generator_average.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    run = tmp_path / "run"
    start_run(
        write_pictures(tmp_path / "p"), run, tiny_config(checkpoint_every=2, keep_checkpoints=2), quiet=True
    )
    names = sorted(p.name for p in (run / "checkpoints").iterdir())
    assert names == ["step_00000010.safetensors", "step_00000012.safetensors"]


def test_micro_batches_learn_the_same_as_whole_batches(tmp_path):
    pictures = write_pictures(tmp_path / "p")
    found = []
    for parts in (0, 2):
        run = tmp_path / f"run-{parts}"
        start_run(pictures, run, tiny_config(micro_batch=parts, steps=6), quiet=True)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found.append({k: v for k, v in lines[-1].items() if not k.startswith("speed/")})
    assert "generator/reconstruction" in found[0]
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-6)
    assert found[1] != found[0]  # sums of parts round differently, which shows that the setting is used


def test_too_few_pictures_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="3 usable pictures, fewer than the batch size 6"):
        start_run(write_pictures(tmp_path / "p", 3), tmp_path / "run", tiny_config(), quiet=True)


@pytest.mark.parametrize("copies", [1, 3])
def test_one_picture_is_too_few_also_if_there_are_copies_of_it(tmp_path, copies):
    (tmp_path / "p").mkdir()
    write_pictures(tmp_path / "one", 1)
    for i in range(copies):
        (tmp_path / "p" / f"{i}.png").write_bytes((tmp_path / "one" / "000.png").read_bytes())
    with pytest.raises(
        DataError, match="there is 1 usable picture, and a training compares pictures: add some"
    ):
        start_run(tmp_path / "p", tmp_path / "run", tiny_config(), quiet=True)


@pytest.mark.parametrize(
    ("number", "domains", "sentence"),
    [
        (1, 3, "there is 1 usable picture"),
        (3, 3, "3 usable pictures, fewer than the batch size 6"),
        (8, 1, "the pictures have 2 classes, more than the 1 domains"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_before_anything_is_chosen_from_them(
    tmp_path, monkeypatch, number, domains, sentence
):
    for name in ("suited_to_pictures", "make_ready"):
        monkeypatch.setattr(preparation, name, lambda *given: pytest.fail("chosen, or built"))
    write_pictures(tmp_path / "p", number)
    for i, path in enumerate(sorted((tmp_path / "p").iterdir())):
        (tmp_path / "p" / f"kind-{i % 2}").mkdir(exist_ok=True)
        path.rename(tmp_path / "p" / f"kind-{i % 2}" / path.name)
    config = tiny_config(domains=domains, labels="folders", crop_area="auto")
    with pytest.raises(DataError, match=sentence):
        start_run(tmp_path / "p", tmp_path / "run", config, quiet=True)


def test_a_non_finite_loss_reports_step_term_and_checkpoint(tmp_path, monkeypatch):
    pictures, run = write_pictures(tmp_path / "pictures"), tmp_path / "run"
    start_run(pictures, run, tiny_config(steps=5), quiet=True)
    real = step_module.losses.reconstruction
    count = iter(range(100))

    def breaks_at_its_third_call(x_rec, x):
        return real(x_rec, x) * (float("nan") if next(count) == 2 else 1.0)

    monkeypatch.setattr(step_module.losses, "reconstruction", breaks_at_its_third_call)
    good = (run / "checkpoints" / "step_00000005.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=r"generator/reconstruction is nan at step 8.*step_00000005"):
        resume_run(run, overrides={"steps": "12", "log_every": "20"}, quiet=True)
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step_00000005.safetensors"]
    assert (run / "checkpoints" / "step_00000005.safetensors").read_bytes() == good


def test_training_with_a_single_domain_works(tmp_path):
    state = start_run(
        write_pictures(tmp_path / "p"), tmp_path / "run", tiny_config(domains=1, steps=6), quiet=True
    )
    assert all(p.isfinite().all() for p in state.networks.guide.parameters())


def test_the_phases_start_where_the_method_says():
    config = read_config("paper").resolved_schedule()
    assert [phase_at(s, config).joint for s in (0, 64_999, 65_000)] == [False, False, True]
    assert [phase_at(s, config).average_generator for s in (65_999, 66_000)] == [False, True]
    few = config.with_overrides({"labelled_ratio": 0.25, "labelled_only_until": 20})
    streams = [stream_at(s, few) for s in range(20, 420)]
    assert {stream_at(s, few) for s in range(20)} == {"labelled"}
    assert streams.count("labelled") == 100
    demo = read_config("demo").resolved_schedule()
    assert (batch_size_at(0, demo), batch_size_at(demo.schedule.guide_only_until, demo)) == (128, 16)


def test_without_the_style_loss_e_learns_domains_from_the_start():
    settings = {"guide_only_until": 10, "steps": 20, "average_from": 10, "domains_from": 0.55}
    config = read_config("paper").with_overrides(settings)
    assert [phase_at(s, config).learns_domains for s in (0, 5, 6, 10)] == [False, False, True, True]
    # The first steps would train nothing at all.
    iic = config.with_overrides({"guide_style_weight": 0})
    assert all(phase_at(s, iic).learns_domains for s in range(20))
    assert (outline_of(config, False).domains_from_step, outline_of(iic, False).domains_from_step) == (6, 0)


def test_slow_steps_without_a_compiler_are_reported_once(tmp_path, monkeypatch, capsys):
    pictures = write_pictures(tmp_path / "pictures")
    monkeypatch.setattr(native, "_library", lambda: None)
    start_run(pictures, tmp_path / "run", tiny_config(steps=2))
    assert capsys.readouterr().err.count("without its C code") == 1


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_trains_two_steps(tmp_path, preset):
    small = {"guide_width": 4, "generator_width": 4, "discriminator_width": 4, "batch_size": 4}
    small["queue_length"] = 16  # it is filled before the first step, batch by batch
    config = read_config(preset)
    alone = int(config.schedule.guide_only_until > 0)
    config = config.with_overrides(
        small
        | {"guide_only_batch_size": 0, "steps": 2, "guide_only_until": alone, "threads": 1, "workers": 1}
    )
    source, rows = tmp_path / "p", ["picture,label"]
    for seed, name in enumerate(("cat", "dog")):
        pictures = sorted(write_pictures(source / name, 4, seed=seed).iterdir())
        rows += [f"{name}/{picture.name},{name if i else ''}" for i, picture in enumerate(pictures)]
    if config.data.labels == "csv":
        source = source / "table.csv"
        source.write_text("\n".join(rows) + "\n")
    state = start_run(source, tmp_path / "run", config, quiet=True)
    assert state.step == 2


def test_the_default_preset_takes_its_size_from_the_pictures(tmp_path):
    config = tiny_config("default", image_size=0, steps=2)
    start_run(write_pictures(tmp_path / "p", 20, side=70), tmp_path / "run", config, quiet=True)
    assert load_model(tmp_path / "run").image_size == 64


def test_labels_are_used_only_on_request(tmp_path):
    for name in ("cat", "dog"):
        write_pictures(tmp_path / "p" / name, 10, seed=len(name) + ord(name[0]))
    one = start_run(tmp_path / "p", tmp_path / "one", tiny_config(), quiet=True)
    index = np.array(
        [row.split(",")[1] for row in (tmp_path / "one" / "pictures.csv").read_text().splitlines()[1:]]
    )
    assert set(index) == {""}
    two = start_run(tmp_path / "p", tmp_path / "two", tiny_config(labels="folders"), quiet=True)
    assert not torch.equal(one.queue, two.queue)


@pytest.mark.parametrize(
    ("sizes", "flags"),
    [
        ((8, 0), "lower --batch-size to at most 5"),
        ((4, 128), "lower --guide-only-batch-size to at most 5"),
        ((8, 128), "lower --batch-size and --guide-only-batch-size to at most 5"),
    ],
)
def test_too_few_pictures_for_a_batch_is_an_error_with_the_flags_that_help(sizes, flags):
    config = tiny_config(batch_size=sizes[0], guide_only_batch_size=sizes[1]).resolved_schedule()
    with pytest.raises(DataError, match=flags):
        check_number_of_pictures(config, 5)
    check_number_of_pictures(config, max(sizes))
    check_number_of_pictures(
        tiny_config(batch_size=4, guide_only_batch_size=128, guide_only_until=0), 5
    )  # E never trains alone

"""`tunit convert`: a published checkpoint becomes a run that can translate and continue training; a run becomes a
checkpoint.
"""

import json
import shlex

import pytest
import torch

from release_checkpoint import all_shapes, checkpoint, style_of, tensors_of, translate
from tiny_run import tiny_config, write_pictures
from tunit.arguments import Parser
from tunit.cli import main
from tunit.commands import convert
from tunit.config import Config
from tunit.data.batching.batches import make_batch
from tunit.errors import ConfigError, RunError
from tunit.methods.model_file import load_model
from tunit.methods.tunit import tunit_step
from tunit.reporting.write import write_report
from tunit.training.checkpoint import checkpoints, load_newest, save_checkpoint, state_tensors
from tunit.training.initial_state import new_state
from tunit.training.launch import start_run
from tunit.training.run_folder import RunFolder
from tunit.training.schedule import phase_at


def tunit_convert(*arguments):
    parser = Parser()
    convert.add_arguments(parser)
    return convert.run(parser.parse_args([str(a) for a in arguments]))


@pytest.fixture
def content():
    return checkpoint(all_shapes())


@pytest.fixture
def released(tmp_path, content):
    path = tmp_path / "release" / "model_70.ckpt"
    path.parent.mkdir()
    torch.save(content, path)
    return path


def test_converting_to_a_run_and_back_gives_the_same_files(tmp_path, released, content, capsys):
    (released.parent / "checkpoint.txt").write_text("model_69.ckpt\nmodel_70.ckpt\n")
    assert tunit_convert(released.parent, "--out", tmp_path / "runs" / "it") == 0
    assert "32 px, 3 domains, step 70000" in capsys.readouterr().out
    assert (
        tunit_convert(tmp_path / "runs" / "it", "--to", "published", "--out", tmp_path / "new" / "again.ckpt")
        == 0
    )
    again = tensors_of(torch.load(tmp_path / "new" / "again.ckpt", weights_only=True))
    before = tensors_of(content)
    assert again.keys() == before.keys()
    assert all(torch.equal(again[k], before[k]) for k in again)
    assert capsys.readouterr().err == ""


def test_what_a_converted_run_holds(tmp_path, released):
    run = RunFolder(tmp_path / "run")
    tunit_convert(released, "--out", run.path)
    assert sorted(p.name for p in run.path.iterdir()) == [
        "checkpoints",
        "config.toml",
        "model.json",
        "model.safetensors",
        "run.json",
    ]
    assert [p.name for p in checkpoints(run.checkpoints)] == ["step_00070000.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["release", "run"]
    config = run.read_config()
    assert config.schedule == Config().schedule
    assert (config.data.image_size, config.data.fit) == (32, "stretch")
    about = run.read_about()
    assert about["queue"] == "refill"
    assert about["converted"] == {"from": str(released.resolve()), "epoch": 70, "notes": []}
    assert "source" not in about  # it would name the folder of the pictures
    state = new_state(config, torch.device("cpu"))
    load_newest(run.checkpoints, state)
    assert (state.step, state.cursors) == (70_000, {})
    assert state.queue.shape == (1024, 6)
    assert not state.queue.any()
    model = load_model(run.path)
    assert (model.step, model.image_size) == (70_000, 32)
    assert model.domain_styles.shape == (3, 6)
    assert model.domain_sizes.tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [32, 64])
def test_a_converted_model_translates_like_the_literal_networks(tmp_path, size):
    content = checkpoint(all_shapes(size, 3, guide=4, generator=4, style=8))
    torch.save(content, tmp_path / "model_70.ckpt")
    tunit_convert(tmp_path / "model_70.ckpt", "--out", tmp_path / "run")
    model = load_model(tmp_path / "run")
    x, reference = torch.rand(2, 2, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    style = model.guide(reference).style
    expected_style = style_of(content["C_EMA_state_dict"], reference)
    assert expected_style.std() > 1e-3
    torch.testing.assert_close(style, expected_style, rtol=1e-4, atol=1e-5)
    expected = translate(content["G_EMA_state_dict"], x, expected_style)
    assert expected.std() > 1e-2
    torch.testing.assert_close(model.generator(x, style), expected, rtol=1e-4, atol=1e-5)


def test_training_continues(tmp_path, released, content):
    run = RunFolder(tmp_path / "run")
    tunit_convert(released, "--out", run.path)
    config = run.read_config()
    state = new_state(config, torch.device("cpu"))
    load_newest(run.checkpoints, state)
    x, x_plus = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    batch = make_batch(x, x_plus, torch.full((4,), -1))
    phase = phase_at(state.step, config)
    assert phase.joint
    assert phase.average_generator
    terms = tunit_step(state, batch, torch.randperm(4), phase, config)
    assert all(torch.isfinite(v) for v in terms.values())
    assert state.step == 70_001
    moments = state_tensors(state)
    # Parameter 0 had 7 steps in the published checkpoint; E makes two steps per training step.
    assert moments["optimiser.guide.trunk.0.weight.step"] == 9
    assert moments["optimiser.discriminator.stem.weight.step"] == 8
    assert not torch.equal(state.networks.discriminator.stem.weight, content["D_state_dict"]["main.0.weight"])
    path = save_checkpoint(run.checkpoints, state, keep=3)
    assert path.name == "step_00070001.safetensors"


def test_without_a_discriminator_it_converts_for_inference_and_warns(tmp_path, released, content, capsys):
    for key in ("D_state_dict", "c_optimizer", "d_optimizer", "g_optimizer", "epoch"):
        del content[key]
    torch.save(content, released)
    tunit_convert(released, "--out", tmp_path / "run")
    warnings = capsys.readouterr().err
    assert "holds no D_state_dict: further training starts with a new discriminator" in warnings
    assert "holds no c_optimizer: further training starts it from the beginning" in warnings
    assert "does not contain its epoch, so training will continue at step 0" in warnings
    notes = RunFolder(tmp_path / "run").read_about()["converted"]["notes"]
    assert len(notes) == warnings.count("\n") == 4
    state = new_state(RunFolder(tmp_path / "run").read_config(), torch.device("cpu"))
    load_newest(tmp_path / "run" / "checkpoints", state)
    load_model(tmp_path / "run")


def test_the_step_can_be_given(tmp_path, released):
    tunit_convert(released, "--out", tmp_path / "run", "--step", 12_345)
    assert json.loads((tmp_path / "run" / "model.json").read_text())["step"] == 12_345


def test_nothing_is_overwritten_unless_asked(tmp_path, released):
    run, file = tmp_path / "run", tmp_path / "again.ckpt"
    tunit_convert(released, "--out", run)
    (run / "metrics.jsonl").touch()
    (run / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        tunit_convert(released, "--out", run)
    assert (run / "metrics.jsonl").exists()
    tunit_convert(released, "--out", run, "--overwrite")
    assert not (run / "metrics.jsonl").exists()
    assert (run / "mine.txt").read_text() == "mine"
    file.write_text("precious")
    with pytest.raises(RunError, match="exists already"):
        tunit_convert(run, "--to", "published", "--out", file)
    assert file.read_text() == "precious"


def test_only_a_checkpoint_is_replaced_by_one(tmp_path, released):
    """As a folder that is not a run is not replaced by a run."""
    run, file = tmp_path / "run", tmp_path / "again.ckpt"
    tunit_convert(released, "--out", run)
    file.write_text("precious")
    with pytest.raises(RunError, match=r"again.ckpt exists already, and is not a published checkpoint"):
        tunit_convert(run, "--to", "published", "--out", file, "--overwrite")
    assert file.read_text() == "precious"
    file.write_bytes(b"")
    for _ in range(2):
        tunit_convert(run, "--to", "published", "--out", file, "--overwrite")
        assert file.stat().st_size > 10_000


def test_a_folder_that_is_not_a_run_is_kept_even_with_overwrite(tmp_path, released):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(RunError, match="is not the folder of a run"):
        tunit_convert(released, "--out", tmp_path / "photos", "--overwrite")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "release"]
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_a_bad_file_does_not_change_the_old_run(tmp_path, released):
    tunit_convert(released, "--out", tmp_path / "run")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    released.write_bytes(released.read_bytes()[:1000])
    with pytest.raises(RunError, match="truncated"):
        tunit_convert(released, "--out", tmp_path / "run", "--overwrite")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_an_empty_folder_may_be_the_destination(tmp_path, released):
    (tmp_path / "run").mkdir()
    tunit_convert(released, "--out", tmp_path / "run")
    load_model(tmp_path / "run")


def test_errors_in_the_arguments(tmp_path, released):
    run = tmp_path / "run"
    tunit_convert(released, "--out", run)
    with pytest.raises(RunError, match="is a run of tunit already: give --to published"):
        tunit_convert(run, "--out", tmp_path / "other")
    with pytest.raises(RunError, match="lies in"):
        tunit_convert(released, "--out", released.parent, "--overwrite")
    with pytest.raises(ConfigError, match="--step is -1"):
        tunit_convert(released, "--out", tmp_path / "other", "--step", -1)
    with pytest.raises(RunError, match="is not the folder of a run"):
        tunit_convert(released, "--to", "published", "--out", tmp_path / "x.ckpt")
    with pytest.raises(RunError, match="is a folder: give the name of the file"):
        tunit_convert(run, "--to", "published", "--out", tmp_path)
    with pytest.raises(RunError, match="leave out --step"):
        tunit_convert(run, "--to", "published", "--out", tmp_path / "x.ckpt", "--step", 3)


@pytest.mark.parametrize("pictures", ["abc", 1.5, -1, []])
def test_a_damaged_number_of_pictures_is_one_sentence(tmp_path, released, pictures):
    run = tmp_path / "run"
    tunit_convert(released, "--out", run)
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"pictures": pictures}))
    with pytest.raises(
        RunError, match=r"no readable run.json: pictures of run.json is .*, not a whole number"
    ):
        tunit_convert(run, "--to", "published", "--out", tmp_path / "x.ckpt")


def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(tmp_path, released, capsys):
    tunit_convert(released, "--out", tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step_00080000.safetensors").write_bytes(b"x" * 100)
    tunit_convert(tmp_path / "run", "--to", "published", "--out", tmp_path / "x.ckpt")
    printed = capsys.readouterr()
    assert "step_00080000.safetensors is damaged" in printed.err
    assert "step_00070000.safetensors as a published checkpoint, epoch 70" in printed.out


def test_a_run_whose_number_of_domains_was_found_becomes_a_released_checkpoint(tmp_path, capsys):
    """The preset stores neighbours of every picture, and finds the number of domains."""
    settings = {"domains": "auto", "most_domains": 6, "neighbours": 3, "steps": 5, "overclusters": 8}
    config = tiny_config("small", **settings)
    start_run(write_pictures(tmp_path / "pictures"), tmp_path / "run", config, quiet=True)
    capsys.readouterr()
    file = tmp_path / "x.ckpt"
    assert tunit_convert(tmp_path / "run", "--to", "published", "--out", file) == 0
    remarks = capsys.readouterr().err
    for said in ("--standardise", "--normalise-style", "--whole-statistics", "8 clusters is left out"):
        assert said in remarks
    content, model = torch.load(file, weights_only=True), load_model(tmp_path / "run")
    found = model.guide.domain_head.weight
    assert len(found) == model.config.networks.domains
    assert any(torch.equal(tensor, found) for tensor in content["C_EMA_state_dict"].values())


def test_the_messages_name_only_what_can_be_done(tmp_path, released, monkeypatch):
    out = tmp_path / "run"
    assert tunit_convert(released, "--out", out) == 0
    with pytest.raises(RunError, match=r"exists already: give another --out, or --overwrite it$"):
        tunit_convert(released, "--out", out)
    write_pictures(tmp_path / "pictures", 40)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        RunError, match=r"holds no pictures .* `(tunit train FOLDER --resume [^`]*)`"
    ) as refused:
        write_report(out)
    words = shlex.split(str(refused.value).rpartition("`tunit ")[2].rstrip("`").replace("FOLDER", "pictures"))
    assert main([*words, "--steps", "70001", "--threads", "1", "--quiet"]) == 0
    assert write_report(out).is_file()

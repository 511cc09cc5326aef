"""A training that finds its number of domains: what it writes, and that stopping it at any step changes nothing."""

import html
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_run import STEPS, tiny_config, write_pictures
from tunit.cli import main
from tunit.clustering.choice import NAME, read_choice_file
from tunit.config import AUTO, Config, read_config
from tunit.errors import ConfigError
from tunit.methods.model_file import load_model
from tunit.networks.tensor_file import read_tensors
from tunit.reporting.write import write_report
from tunit.training.checkpoint import checkpoints
from tunit.training.launch import resume_run, start_run
from tunit.translation.translator import Translator

pytestmark = pytest.mark.usefixtures("one_thread")
MOST = 6
CONFIG = tiny_config(
    domains="auto",
    most_domains=MOST,
    candidate_heads=1,
    overclusters=5,
    checkpoint_every=1,
    keep_checkpoints=99,
    sample_every=0,
)
CHOSEN_AT = CONFIG.schedule.guide_only_until


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Plain red and plain blue pictures with a little noise: two kinds that any random network distinguishes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(60):
        pixels = rng.integers(0, 60, (40, 40, 3)).astype(np.uint8)
        pixels[:, :, 2 * (i % 2)] += 190
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    start_run(pictures, out, CONFIG, quiet=True)
    return out


def newest(run):
    return read_tensors(checkpoints(run / "checkpoints")[-1])


def test_the_number_is_written_to_every_file(run):
    choice = read_choice_file(run)
    assert choice is not None and (choice.domains, choice.step, choice.pictures) == (2, CHOSEN_AT, 60)
    assert choice.reasons and choice.candidates[0].domains == 2
    tensors, about = newest(run)
    assert about["choice"] == json.loads((run / NAME).read_text())
    for name in ("guide", "guide_average"):
        assert tensors[f"{name}.domain_head.weight"].shape[0] == 2
        assert tensors[f"{name}.candidate_heads.0.weight"].shape[0] == 2
    assert tensors["discriminator.head.weight"].shape[0] == 2
    model = load_model(run)
    assert model.settings.domains == 2 and (model.domain_sizes > 0).all()
    assert 'domains = "auto"' in (run / "config.toml").read_text()


def test_the_chosen_domains_are_the_two_kinds(pictures, tmp_path):
    """The two kinds are easy to see, whatever narrow networks have learnt in a few steps."""
    start_run(pictures, tmp_path / "run", CONFIG.with_overrides({"steps": CHOSEN_AT}), quiet=True)
    found = Translator.load(tmp_path / "run").classify(pictures).domains.tolist()
    assert found in ([0, 1] * 30, [1, 0] * 30)


@pytest.mark.parametrize(
    "settings",
    [
        {"neighbours": 0},
        {"neighbours": 0, "candidate_heads": 3},
        {"neighbours": 0, "domains_from": 0.9},  # rounded up to all steps
        {"neighbours": 5},
    ],
)
def test_an_e_that_has_learnt_only_styles_begins_joint_steps_with_clusters(pictures, tmp_path, settings):
    """Also without neighbours and with a given number: no head of such an E has learnt anything."""
    steps = {"steps": CHOSEN_AT + 2, "domains": 2, "domains_from": 1.0, "found_domains_weight": 0.5}
    start_run(pictures, tmp_path / "run", CONFIG.with_overrides(steps | settings), quiet=True)
    found = newest(tmp_path / "run")[0]["found_domains"].tolist()
    assert found in ([0, 1] * 30, [1, 0] * 30)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    began = [row for row in map(json.loads, lines) if "domain_counts" in row]
    assert began == [{"step": CHOSEN_AT, "domain_counts": [30, 30]}]


def test_a_checkpoint_from_before_the_choice_has_all_domains(run):
    tensors, about = read_tensors(run / "checkpoints" / f"step_{CHOSEN_AT - 1:08d}.safetensors")
    assert "choice" not in about and tensors["guide.domain_head.weight"].shape[0] == MOST


@pytest.mark.parametrize(
    "kept, file",
    [(1, "as it was"), (CHOSEN_AT - 1, "missing"), (CHOSEN_AT, "missing"), (STEPS - 1, "as it was")],
)
def test_resumed_at_any_step_it_ends_the_same(run, tmp_path, kept, file):
    """As if the run was killed after checkpoint number `kept`, with the file NAME written already or not."""
    other = tmp_path / "killed"
    shutil.copytree(run, other)
    for path in checkpoints(other / "checkpoints")[kept:]:
        path.unlink()
    (other / "model.safetensors").unlink()
    if file == "missing":
        (other / NAME).unlink()
    resume_run(other, quiet=True)
    (ours, about), (theirs, about2) = newest(run), newest(other)
    assert about == about2
    assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []
    assert (other / NAME).read_text() == (run / NAME).read_text()


def test_with_damaged_checkpoints_after_the_choice_an_earlier_one_is_used(run, tmp_path):
    other = tmp_path / "damaged"
    shutil.copytree(run, other)
    for path in checkpoints(other / "checkpoints")[CHOSEN_AT - 1 :]:
        path.write_bytes(path.read_bytes()[:-1])
    resume_run(other, quiet=True)
    ours, theirs = newest(run)[0], newest(other)[0]
    assert [k for k, value in ours.items() if not torch.equal(value, theirs[k])] == []


def test_a_single_kind_gives_a_single_domain_and_trains(tmp_path):
    config = CONFIG.with_overrides({"guide_only_until": 2})
    folder = write_pictures(tmp_path / "pictures", number=12)  # too few to be separated
    state = start_run(folder, tmp_path / "run", config, quiet=True)
    assert state.choice is not None and state.choice.domains == 1
    assert all(torch.isfinite(value).all() for value in newest(tmp_path / "run")[0].values())


def test_fine_tuning_uses_the_number_that_was_found(run, pictures, tmp_path):
    out = tmp_path / "new"
    words = (
        "--steps 2 --guide-only-until 0 --device cpu --batch-size 4 --queue-length 16 --threads 1 --workers 1"
    )
    words = ["--from", str(run), "--out", str(out), *words.split(), "--quiet"]
    assert main(["train", str(pictures), *words]) == 0
    assert load_model(out).settings.domains == 2


def test_labels_determine_the_number(tmp_path):
    for name in ("a", "b", "c"):
        write_pictures(tmp_path / "pictures" / name, number=4, seed=ord(name))
    config = tiny_config(domains="auto", labels="folders", steps=2)
    start_run(tmp_path / "pictures", tmp_path / "run", config, quiet=True)
    assert load_model(tmp_path / "run").settings.domains == 3
    assert not (tmp_path / "run" / NAME).exists()


def test_labels_that_are_all_missing_give_no_number(tmp_path):
    """With --labels csv and empty cells, or --labels folders without folders."""
    folder = write_pictures(tmp_path / "pictures")
    table = tmp_path / "table.csv"
    table.write_text("picture,label\n" + "".join(f"{path},\n" for path in sorted(folder.iterdir())))
    config = CONFIG.with_overrides({"guide_only_until": 0, "labels": "csv"})
    with pytest.raises(ConfigError, match=r"^no picture has a label, domains is auto.*: give --domains K"):
        start_run(table, tmp_path / "run", config, quiet=True)
    start_run(table, tmp_path / "found", CONFIG.with_overrides({"labels": "csv"}), quiet=True)
    assert read_choice_file(tmp_path / "found") is not None


def test_if_no_number_can_be_found_the_user_must_give_one(tmp_path):
    folder = write_pictures(tmp_path / "pictures")
    with pytest.raises(ConfigError, match=r"domains is auto.*guide_only_until is 0: give --domains K"):
        start_run(folder, tmp_path / "run", CONFIG.with_overrides({"guide_only_until": 0}), quiet=True)
    late = CONFIG.with_overrides({"steps": 4, "guide_only_until": 5})
    with pytest.raises(ConfigError, match="ends after step 4: give --domains K"):
        start_run(folder, tmp_path / "run", late, quiet=True)


def test_a_line_says_that_the_domains_are_being_decided(pictures, tmp_path, capsys):
    start_run(pictures, tmp_path / "run", CONFIG)
    lines = [line for line in capsys.readouterr().err.splitlines() if "the domains are decided" in line]
    assert len(lines) == 1


def test_the_domains_command_and_the_report_give_the_reason(run, pictures, tmp_path, capsys):
    choice = read_choice_file(run)
    assert main(["domains", str(run), str(pictures), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert choice.headline in said and choice.reasons[0] in " ".join(said.split())
    page = write_report(run, tmp_path / "page.html").read_text("utf-8")
    assert "<h2>How many domains</h2>" in page and choice.headline in page
    assert all(html.escape(reason, quote=False) in page for reason in choice.reasons)


def test_a_damaged_reason_is_one_sentence(run, pictures, tmp_path, capsys):
    other = tmp_path / "damaged"
    shutil.copytree(run, other)
    (other / NAME).write_text("{}")
    assert main(["domains", str(other), str(pictures), "--out", str(tmp_path / "out")]) == 2
    assert f"{NAME} is damaged" in " ".join(capsys.readouterr().err.split())


def test_the_presets_for_own_pictures_let_the_training_find_the_number():
    assert [read_config(name).networks.domains for name in ("default", "small", "paper")] == [AUTO, AUTO, 10]
    assert Config().with_overrides({"domains": "auto"}) == Config().with_overrides({"domains": 0})


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its processes")
def test_two_processes_continue_with_the_same_domains(run, pictures, tmp_path):
    config = CONFIG.with_overrides({"processes": 2, "steps": CHOSEN_AT + 3, "checkpoint_every": 100})
    state = start_run(pictures, tmp_path / "run", config, quiet=True)
    one, two = read_choice_file(run), read_choice_file(tmp_path / "run")
    assert state.choice == two and (one.domains, one.step) == (two.domains, two.step)
    assert load_model(tmp_path / "run").settings.domains == two.domains

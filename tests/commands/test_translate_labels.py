"""`tunit translate --from-label A --to-label B --strength X`, for runs that have a few labels."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_model import noise, save_tiny, to_input, to_pixels, write
from tiny_run import tiny_config
from tunit.cli import main
from tunit.files.atomic import RESULTS
from tunit.methods.model_file import Model, save_model
from tunit.training.initial_state import new_state

pytestmark = pytest.mark.usefixtures("one_thread")
LABELS = ("cold", "mild", "warm")  # their names are domains 0, 1 and 2


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_tiny(folder)
    with (folder / "pictures.csv").open("w", newline="") as file:
        rows = [("picture", "label", "hash"), ("1.png", "warm", ""), ("2.png", "", ""), ("3.png", "cold", "")]
        csv.writer(file).writerows([*rows, ("4.png", "mild", "")])
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for seed in range(20):
        write(folder / f"{seed}.png", seed)
    return folder


def translate(*words):
    return main(["translate", *map(str, words)])


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@torch.no_grad()
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5])
def test_strength_is_the_share_of_the_way_to_the_average_style(run, sources, tmp_path, strength):
    model = save_tiny(run)
    words = ("--to-label", "warm", "--strength", strength, "--out", tmp_path)
    assert translate(run, sources / "3.png", *words) == 0
    x = to_input(noise(3))
    own = model.guide(x).style
    style = own + strength * (model.domain_styles[2] - own)
    expected = to_pixels(model.generator(x, style)).astype(int)
    assert np.abs(pixels_of(tmp_path / "3.png") - expected).max() <= 1


@torch.no_grad()
def test_only_sources_of_the_label_are_taken(run, sources, tmp_path, capsys):
    model = save_tiny(run)
    taken = {
        f"{seed}.png" for seed in range(20) if int(model.guide(to_input(noise(seed))).logits.argmax()) == 0
    }
    assert 0 < len(taken) < 20
    words = ("--from-label", "cold", "--to-label", "warm", "--out", tmp_path)
    assert translate(run, sources, *words) == 0
    assert {path.name for path in tmp_path.iterdir()} == taken | {RESULTS}
    left_out = f"left out, because E assigns them other labels: {20 - len(taken)} of 20 sources"
    assert left_out in capsys.readouterr().err


def test_sources_that_cannot_be_read_do_not_count_as_having_other_labels(run, tmp_path, capsys):
    model, folder = save_tiny(run), tmp_path / "sources"
    with torch.no_grad():
        labels = [int(model.guide(to_input(noise(seed))).logits.argmax()) for seed in range(20)]
    cold, other = labels.index(0), next(seed for seed, label in enumerate(labels) if label != 0)
    for name, seed in (("cold", cold), ("other", other)):
        write(folder / f"{name}.png", seed)
    (folder / "broken.png").write_bytes(b"not a picture")
    words = ("--from-label", "cold", "--to-label", "warm", "--out", tmp_path / "out")
    assert translate(run, folder, *words) == 0
    out, err = capsys.readouterr()
    assert "left out, because E assigns them other labels: 1 of 3 sources" in err
    assert "translated 1 picture:" in out
    assert "1 left out" in out
    for path in folder.glob("[co]*.png"):
        path.unlink()
    assert translate(run, folder, *words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "no source could be translated" in last
    assert "the model assigns" not in last


def test_a_model_that_assigns_no_labels_cannot_choose_sources_by_label(tmp_path, capsys):
    """The logits of a FUNIT model are all 0, so every source seemed to have the first label."""
    folder = tmp_path / "run"
    config = tiny_config("table1-a")
    networks = new_state(config, torch.device("cpu")).networks
    styles, sizes = torch.randn(3, 8), torch.ones(3, dtype=torch.int64)
    folder.mkdir()
    save_model(folder, Model(networks.guide_average, networks.generator_average, config, styles, sizes, 1))
    (folder / "pictures.csv").write_text("picture,label,hash\n1.png,cold,\n2.png,mild,\n3.png,warm,\n")
    source, out = write(tmp_path / "1.png"), tmp_path / "out"
    assert translate(folder, source, "--from-label", "cold", "--to-label", "warm", "--out", out) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "--from-label chooses sources by the label that the model assigns" in last
    assert not out.exists()
    assert translate(folder, source, "--to-label", "warm", "--out", out) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to-label", "hot"), "take one of cold, mild, warm"),
        (
            ("--to-label", "mild"),
            "none of the 7 training pictures that gave the average styles is in domain 1",
        ),
        (("--from-label", "cold", "--domain", "0"), "give --to-label"),
        (("--to-label", "warm", "--strength", "nan"), "strength is nan"),
    ],
)
def test_errors_are_one_sentence(run, sources, tmp_path, capsys, words, message):
    assert translate(run, sources, *words, "--out", tmp_path) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_run_without_labels_says_so(sources, tmp_path, capsys):
    save_tiny(tmp_path / "plain")
    assert translate(tmp_path / "plain", sources, "--to-label", "warm", "--out", tmp_path / "out") == 2
    assert "was trained without labels" in capsys.readouterr().err

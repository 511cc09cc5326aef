"""`tunit evaluate`: a run on held-back pictures, two folders, and errors."""

import json

import pytest

from tiny_model import save_tiny, write
from tiny_run import tiny_config
from tunit.cli import main
from tunit.config.run_file import write_run_config
from tunit.data.creatures.picture_set import write_creatures
from tunit.evaluation.labelled import pack_held, square_settings
from tunit.evaluation.truth import truth_test_beside
from tunit.features import feature_networks
from tunit.methods.model_file import load_model

pytestmark = pytest.mark.usefixtures("one_thread", "narrow_vgg")


def evaluate(*words):
    return main(["evaluate", *map(str, words)])


def test_class_folders_are_measured_by_the_protocol(run, pictures, capsys):
    assert evaluate(run, pictures, "--device", "cpu") == 0
    found = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert {"mFID", "mean density", "mean coverage", "accuracy", "NMI", "ARI", "purity"} <= found[
        "figures"
    ].keys()
    assert set(found["groups"]) == {"even", "odd"}
    assert found["features"] == "random-vgg16"
    text = capsys.readouterr()
    assert "random-vgg16" in text.out
    assert "mFID" in text.out
    assert "compared with the held-back pictures" in text.err


def test_without_labels_only_figures_that_need_none_are_reported(run, pictures, tmp_path):
    out = tmp_path / "deep" / "figures.json"
    assert evaluate(run, pictures, "--labels", "none", "--sources", "8", "--out", out) == 0
    found = json.loads(out.read_text())
    assert found["grouped_by"] == "domain"
    assert "accuracy" not in found["figures"]


@pytest.mark.parametrize(("alone", "said"), [(9, True), (7, False)])
def test_it_says_that_the_domains_are_not_decided_yet(pictures, tmp_path, capsys, alone, said):
    run = tmp_path / "run"
    save_tiny(run)  # of step 7
    write_run_config(run / "config.toml", tiny_config(domains_from=1.0, guide_only_until=alone))
    (run / "run.json").write_text("{}")
    assert evaluate(run, pictures, "--sources", 4, "--device", "cpu", "--out", tmp_path / "figures.json") == 0
    sentence = "E has learnt only styles so far, so these domains mean nothing: they are found after step 9"
    assert (sentence in " ".join(capsys.readouterr().err.split())) == said


@pytest.mark.parametrize(
    ("trained", "said"), [(0, None), (1, "1 of the 28 pictures was"), (3, "3 of the 28 pictures were")]
)
def test_pictures_that_the_run_was_trained_on_are_noted(pictures, tmp_path, capsys, trained, said):
    save_tiny(tmp_path / "run")
    model = load_model(tmp_path / "run")
    packed = pack_held(
        pictures, tmp_path / "pack", square_settings(model.image_size, model.fit, model.background)
    )
    rows = [f"other name {i}.png,,{digest}" for i, digest in enumerate([*packed.hashes[:trained], "0" * 32])]
    (tmp_path / "run" / "pictures.csv").write_text("\n".join(["picture,label,hash", *rows]) + "\n")
    words = ("--sources", 4, "--device", "cpu", "--out", tmp_path / "figures.json")
    assert evaluate(tmp_path / "run", pictures, *words) == 0
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["trained_on"] == (f"{said} trained on" if said else "")
    notes = [note for note in found["notes"] if "trained on" in note]
    assert notes == ([f"{said} trained on: figures are fair only for pictures held back"] if said else [])
    assert ("trained on" in capsys.readouterr().out) == bool(said)


def test_creatures_are_measured_against_their_exact_translations(run, tmp_path):
    write_creatures(tmp_path / "creatures", 18, 32, seed=3)
    out = tmp_path / "figures.json"
    assert evaluate(run, tmp_path / "creatures" / "pictures", "--out", out, "--sources", 4) == 0
    figures = json.loads(out.read_text())["figures"]
    # An untrained model is worse than returning the source unchanged.
    assert figures["translation error ratio"] > 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_creatures_are_measured_in_pairs_of_different_ones(run, tmp_path, number):
    """Two creatures, drawn at random, may be paired with themselves alone: then both simple answers have no error."""
    write_creatures(tmp_path / "creatures", number, 32, seed=3)
    for seed in range(8):
        test = truth_test_beside(tmp_path / "creatures", 32, seed=seed)
        assert len(test.pairs) == (number if number > 1 else 0)
        assert all(source != reference for source, reference in test.pairs)
    out = tmp_path / "figures.json"
    assert evaluate(run, tmp_path / "creatures", "--out", out) == 0
    found = json.loads(out.read_text())
    assert ("translation error ratio" in found["figures"]) == (number > 1)
    note = "exact truth: there is a single creature, and no other to take a style from"
    assert (note in found["notes"]) == (number == 1)


@pytest.mark.parametrize("words", [["report", "MODEL"], ["evaluate", "MODEL", "PICTURES"]])
def test_a_model_in_the_place_of_its_run_is_one_sentence_that_names_the_run(run, pictures, capsys, words):
    model = run / "model.safetensors"
    assert main([{"MODEL": str(model), "PICTURES": str(pictures)}.get(word, word) for word in words]) == 2
    assert capsys.readouterr().err == f"tunit: {model} is a file: give the folder of the run, such as {run}\n"


@pytest.mark.parametrize(
    "content", [b"\x89PNG a picture of a source", b"{}", b'{"figures": 3}', b"[1]", b"not JSON"]
)
@pytest.mark.parametrize("two", [False, True])
def test_a_file_that_is_not_an_earlier_result_is_never_replaced(
    run, pictures, tmp_path, capsys, content, two
):
    out = tmp_path / "sources" / "cat.png"
    out.parent.mkdir()
    out.write_bytes(content)
    words = ("--real", pictures / "even", "--fake", pictures / "odd") if two else (run, pictures)
    assert evaluate(*words, "--out", out) == 2
    said = capsys.readouterr().err
    assert (
        said == f"tunit: {out} exists already, and is not a result of `tunit evaluate`: give another --out\n"
    )
    assert out.read_bytes() == content


def test_an_empty_file_and_an_earlier_result_are_replaced(pictures, tmp_path):
    out = tmp_path / "two.json"
    out.touch()
    for side in ("32", "48"):
        words = ("--real", pictures / "even", "--fake", pictures / "odd", "--size", side, "--out", out)
        assert evaluate(*words) == 0
        assert json.loads(out.read_text())["size"] == int(side)


def test_two_folders(pictures, tmp_path):
    out = tmp_path / "two.json"
    words = ("--real", pictures / "even", "--fake", pictures / "odd", "--size", 32, "--out", out)
    assert evaluate(*words) == 0
    different = json.loads(out.read_text())["figures"]
    assert different["FID"]["number"] == 14
    words = ("--real", pictures / "even", "--fake", pictures / "even", "--size", 32, "--out", out)
    assert evaluate(*words) == 0
    same = json.loads(out.read_text())["figures"]
    assert same["FID"]["value"] == pytest.approx(0, abs=1e-6)
    assert same["precision"]["value"] == same["coverage"]["value"] == 1
    assert different["FID"]["value"] > 0.1


def test_bad_pictures_of_two_folders_are_reported(tmp_path, capsys):
    for seed in range(8):
        write(tmp_path / ("real" if seed % 2 else "fake") / f"{seed}.png", seed)
    for name in ("real", "fake"):
        (tmp_path / name / "bad.png").write_bytes(b"no picture")
    assert evaluate("--real", tmp_path / "real", "--fake", tmp_path / "fake", "--size", 32) == 0
    said = capsys.readouterr().err
    for name in ("real", "fake"):
        assert f"{tmp_path / name}: 1 left out: 1 unreadable (bad.png" in said


def test_a_feature_network_that_cannot_be_downloaded_is_left_out(
    run, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TUNIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_networks, "INCEPTION_ADDRESS", "http://127.0.0.1:9/net.pt")
    out = tmp_path / "figures.json"
    assert evaluate(run, pictures, "--features", "inception", "--out", out) == 0
    found = json.loads(out.read_text())
    assert "cannot be downloaded" in found["notes"][0]
    assert {"accuracy", "cosine to the reference's style"} <= found["figures"].keys()
    assert "cannot be downloaded" in capsys.readouterr().err


def test_a_wrong_feature_network_ends_the_call_before_pictures_are_packed(pictures, tmp_path, capsys):
    save_tiny(tmp_path / "model")
    there = sorted((tmp_path / "model").rglob("*"))
    assert evaluate(tmp_path / "model", pictures, "--features", "vgg99") == 2
    assert "'vgg99' is neither a file nor a known name" in capsys.readouterr().err
    assert sorted((tmp_path / "model").rglob("*")) == there


@pytest.mark.parametrize(
    "option",
    [
        "--train x", "--labels none", "--label-column kind", "--picture-column file", "--layout food-10",
        "--split train", "--classes a,b", "--held-out 3", "--sources 5",
    ],
)  # fmt: skip
def test_options_for_a_run_are_refused_with_two_folders(pictures, capsys, option):
    assert evaluate("--real", pictures / "even", "--fake", pictures / "odd", *option.split()) == 2
    said = capsys.readouterr().err
    assert said == f"tunit: {option} has no effect with --real and --fake: it needs RUN and FOLDER\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "RUN and FOLDER are missing"),
        (("RUN",), "FOLDER, the held-back pictures, is missing"),
        (("--real", "PICTURES"), "both --real and --fake"),
        (("--real", "LIST", "--fake", "PICTURES", "--out", "LIST"), "list.txt is itself a source"),
        (("--real", "PICTURES", "--fake", "LIST", "--out", "LIST"), "list.txt is itself a source"),
        (("RUN", "LIST", "--out", "LIST"), "list.txt is itself a source: give another --out"),
        (("RUN", "PICTURES", "--train", "LIST", "--out", "LIST"), "list.txt is itself a source"),
        (("RUN", "PICTURES", "--features", "LIST", "--out", "LIST"), "list.txt is itself a source"),
        (("RUN", "nowhere"), "nowhere"),
        (("RUN", "PICTURES", "--size", "128"), "--size 128 has no effect with RUN"),
        (("PICTURES", "PICTURES"), "holds no model.safetensors"),
        (
            ("RUN", "PICTURES", "--preprocessing", "legacy"),
            "--preprocessing legacy has no effect with --features random-vgg16: it needs --features inception",
        ),
        (
            ("--real", "PICTURES", "--fake", "ONE", "--preprocessing", "legacy", "--features", "a.pth.tar"),
            "--preprocessing legacy has no effect with --features a.pth.tar",
        ),
        (("RUN", "PICTURES", "--features", "x.pt", "--preprocessing", "legacy"), "'x.pt' is neither a file"),
        (("RUN", "PICTURES", "--features", "vgg99"), "'vgg99' is neither a file nor a known name"),
        (("RUN", "PICTURES", "--max-pixels", "9"), "raise --max-pixels to allow it"),
        (("--real", "PICTURES/even", "--fake", "PICTURES/odd", "--max-pixels", "0"), "is 0: take at least 1"),
        (("RUN", "PICTURES", "--sources", "-1"), "--sources is -1: take at least 0"),
        (
            ("--real", "PICTURES/even", "--fake", "ONE"),
            "cannot be compared: 1 generated pictures are too few",
        ),
    ],
)
def test_errors_are_one_sentence(run, pictures, tmp_path, capsys, words, message):
    write(tmp_path / "one" / "1.png", 1)
    (tmp_path / "list.txt").write_text("\n".join(map(str, sorted(pictures.glob("*/*.png")))))
    places = {"RUN": str(run), "PICTURES": str(pictures), "ONE": str(tmp_path / "one")}
    places["LIST"] = str(tmp_path / "list.txt")
    for name, place in places.items():
        words = tuple(word.replace(name, place) for word in words)
    assert evaluate(*words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]

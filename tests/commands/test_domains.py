"""`tunit domains`: its table, compared with direct calls of the guide, and its galleries."""

import csv
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stopping import content, stopping
from tiny_model import DOMAINS, SIZE, noise, save_tiny, to_input, write
from tunit.cli import main
from tunit.commands.domains import remarks
from tunit.commands.tally import PictureOutput, Tally, picture_output_of
from tunit.data.galleries import CAPTION, GAP
from tunit.translation import model_place
from tunit.translation.unfinished_results import UnfinishedWork

pytestmark = pytest.mark.usefixtures("one_thread")

NUMBER, TIMES = 20, 4  # pictures; how much a 32 px picture is enlarged


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(NUMBER):
        write(folder / ("even" if seed % 2 == 0 else "odd") / f"{seed}.png", seed)
    return folder


def domains(*words: object) -> int:
    return main(["domains", *map(str, words)])


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@torch.no_grad()
def expected(run) -> dict[str, tuple[int, float]]:
    """Name -> (domain, confidence), computed for one picture after another."""
    guide = save_tiny(run).guide
    answers = {}
    for seed in range(NUMBER):
        logits = guide(to_input(noise(seed))).logits[0].double().numpy()
        p = np.exp(logits - logits.max())
        folder = "even" if seed % 2 == 0 else "odd"
        answers[f"{folder}/{seed}.png"] = int(p.argmax()), float(p.max() / p.sum())
    return answers


def test_the_table_is_what_the_guide_says(run, pictures, tmp_path, capsys):
    assert domains(run, pictures, "--out", tmp_path / "out", "--batch", 5) == 0
    rows = rows_of(tmp_path / "out" / "domains.csv")
    answers = expected(run)
    assert [row["picture"] for row in rows] == sorted(answers)
    # And no labels, although there are class folders.
    assert list(rows[0]) == ["picture", "domain", "confidence", "outlier"]
    for row in rows:
        domain, confidence = answers[row["picture"]]
        assert int(row["domain"]) == domain
        assert float(row["confidence"]) == pytest.approx(confidence, abs=2e-4)
    said = capsys.readouterr().out
    assert f"{NUMBER} pictures: {tmp_path / 'out'}; none left out" in said
    for k in range(DOMAINS):
        members = [confidence for domain, confidence in answers.values() if domain == k]
        line = next(line for line in said.splitlines() if f" {k} " in line and "pictures" not in line)
        numbers = [cell.strip() for cell in line.strip("│┃|").split("│")]
        assert numbers[1] == str(len(members))
        assert float(numbers[2]) == pytest.approx(np.mean(members), abs=2e-3)


def test_a_gallery_shows_the_most_confident_pictures_first(run, pictures, tmp_path):
    assert domains(run, pictures, "--out", tmp_path / "out", "--per-domain", 3) == 0
    answers = expected(run)
    for k in range(DOMAINS):
        members = sorted((-confidence, name) for name, (domain, confidence) in answers.items() if domain == k)
        assert members  # every domain of this set has some pictures
        with Image.open(tmp_path / "out" / f"domain_{k}.png") as image:
            shown = np.asarray(image)[CAPTION:]
        side = SIZE * TIMES
        best = members[:3]
        assert shown.shape[0] == side
        for column, (_, name) in enumerate(best):
            left = column * (side + GAP)
            tile = shown[:, left : left + side]
            pixels = noise(int(name.split("/")[1].split(".")[0]))
            assert np.array_equal(tile[::TIMES, ::TIMES], pixels)
    with Image.open(tmp_path / "out" / "overview.png") as overview:
        assert overview.height > DOMAINS * (CAPTION + SIZE * TIMES)


def test_a_picture_of_a_list_and_the_list_are_never_replaced(run, tmp_path, capsys):
    write(tmp_path / "overview.png", 1)
    listed = tmp_path / "kept.txt"
    listed.write_text(f"{tmp_path / 'overview.png'}\n")
    before = (tmp_path / "overview.png").read_bytes()
    assert domains(run, listed, "--out", tmp_path, "--overwrite") == 2
    assert "is itself a source" in capsys.readouterr().err
    elsewhere = tmp_path / "lists" / "list.txt"
    elsewhere.parent.mkdir()
    listed.rename(elsewhere)
    assert domains(run, elsewhere, "--out", tmp_path, "--overwrite") == 2
    assert "overview.png is itself a source" in capsys.readouterr().err
    assert (tmp_path / "overview.png").read_bytes() == before


def test_results_go_into_the_run_by_default_and_are_kept(tmp_path, pictures, capsys):
    save_tiny(tmp_path / "run")
    assert domains(tmp_path / "run", pictures) == 0
    names = sorted(path.name for path in (tmp_path / "run" / "domains").iterdir())
    assert names == ["domain_0.png", "domain_1.png", "domain_2.png", "domains.csv", "overview.png"]
    capsys.readouterr()
    assert domains(tmp_path / "run", pictures) == 2
    assert (
        "domains.csv and 4 more exist already: give another --out, or --overwrite" in capsys.readouterr().err
    )
    one = write(tmp_path / "one.png", 1)
    own = {
        "domain_x.png",
        "domain_007.png",
        "domain_02.png",
        "domain_2024.png",
    }  # names that tunit did not give
    for name in ("domain_12.png", *own):  # the first is of a model with more domains
        (tmp_path / "run" / "domains" / name).touch()
    with (tmp_path / "run" / "domains" / "domains.csv").open("a") as table:
        table.write("another.png,12,0.9000,0.100\n")
    assert domains(tmp_path / "run", one, "--overwrite") == 0
    for name in own:
        (tmp_path / "run" / "domains" / name).unlink()
    left = sorted(path.name for path in (tmp_path / "run" / "domains").iterdir())
    assert len(left) == 3  # no gallery of an earlier call remains for a domain that is empty now
    said = capsys.readouterr()
    assert "1 picture: " in said.out
    assert said.err == ""  # with so few pictures, any domain may be empty


def test_an_archive_and_bad_pictures(run, tmp_path, capsys):
    good = write(tmp_path / "good.png", 1)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(good, "z.png")
        archive.add(good, "a.png")
        empty = tarfile.TarInfo("empty.png")
        archive.addfile(empty, io.BytesIO())
    assert domains(run, tmp_path / "a.tar.gz", "--out", tmp_path / "out") == 0
    assert [row["picture"] for row in rows_of(tmp_path / "out" / "domains.csv")] == ["a.png", "z.png"]
    assert "1 left out: 1 empty (empty.png: 0 bytes)" in capsys.readouterr().out
    assert domains(run, tmp_path / "a.tar.gz", "--out", tmp_path / "strict", "--strict") == 2
    assert "empty.png cannot be used (empty: 0 bytes)" in capsys.readouterr().err
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere does not exist: give a folder"),
        (["empty.png"], "no picture of empty.png could be read: 1 left out: 1 empty"),
        (["good.png", "--per-domain", "0"], "--per-domain is 0: take at least 1"),
        (["good.png", "--out", "good.png"], "good.png is a file: give a folder"),
        (["good.png", "--device", "tpu"], "device is 'tpu': take auto, cpu, cuda, cuda:N, mps or xpu"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(words, message, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "good.png", 1)
    (tmp_path / "empty.png").write_bytes(b"")
    assert domains(run, *words, *([] if "--out" in words else ["--out", "out"])) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"tunit: {message}")
    assert said.err.count("\n") == 1


def test_with_outliers_left_out_it_does_not_say_that_none_was(run, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    assert domains(run, pictures, "--out", out, "--leave-out-outliers", 0.001) == 0
    said = capsys.readouterr().out
    assert f"0 of {NUMBER} pictures have an outlier score below 0.001: kept.txt" in said
    assert said.endswith(f"{NUMBER} pictures: {out}; all could be used\n")


def test_remarks_in_plain_words():
    assert remarks([10, 12, 9]) == []
    assert remarks([6, 1, 1, 1, 1]) == []  # exactly 60 % is not more than 60 %
    assert remarks([9, 1]) == []  # of two kinds, one may be much more common
    assert remarks([99, 1])[0].startswith("domain 0 holds 99% of the pictures: ")
    assert remarks([5]) == []  # a model with one domain
    assert remarks([0, 2, 0]) == []  # fewer pictures than domains
    assert remarks([3, 0, 0])[1].startswith("domain 0 holds 100% of the pictures: ")
    assert remarks([5, 0, 5]) == ["domain 1 is empty: no picture fell into it"]
    several = remarks([0, 30, 0, 70, 0])
    assert several[0] == "domains 0, 2 and 4 are empty: no picture fell into them"
    assert several[1].startswith("domain 3 holds 70% of the pictures: ")


def test_a_tally_keeps_the_best_pictures_and_the_earlier_of_equal_ones():
    tally = Tally(2, 2)
    for number, confidence in enumerate([0.5, 0.9, 0.7, 0.9, 0.7]):
        seen = PictureOutput(1, confidence, np.zeros(3, np.float32), np.full((2, 2, 3), number, np.uint8))
        tally.add(str(number), seen)
    assert [image.getpixel((0, 0))[0] for image in tally.best(1)] == [1, 3]
    assert tally.best(0) == []
    assert tally.sizes == [0, 5]
    assert tally.mean_confidence(1) == pytest.approx(0.74)


def test_off_topic_pictures_are_scored_and_left_out(run, pictures, tmp_path, capsys):
    """All pictures but one are noise; that one is a plain red square."""
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    Image.new("RGB", (32, 32), (250, 0, 0)).save(folder / "red.png")
    out = tmp_path / "out"
    assert domains(run, folder, "--out", out, "--leave-out-outliers", 0.4) == 0
    scores = {row["picture"]: float(row["outlier"]) for row in rows_of(out / "domains.csv")}
    assert max(scores, key=scores.get) == "red.png" and scores["red.png"] > 0.4
    kept = (out / "kept.txt").read_text().splitlines()
    assert kept == sorted(str(folder.resolve() / name) for name, score in scores.items() if score < 0.4)
    assert f"{len(kept)} of {NUMBER + 1} pictures have an outlier score below 0.4" in capsys.readouterr().out
    assert domains(run, folder, "--out", out, "--overwrite") == 0
    assert not (out / "kept.txt").exists()  # from the earlier call


def write_alike(folder, number=NUMBER):
    """Pictures that hardly differ, and a plain red one."""
    folder.mkdir()
    base = noise(0).astype(float)
    for seed in range(number):
        pixels = (0.9 * base + 0.1 * noise(seed)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    Image.new("RGB", (32, 32), (250, 0, 0)).save(folder / "red.png")
    return folder


def test_it_says_how_many_pictures_may_be_off_topic_and_where_they_are(run, pictures, tmp_path, capsys):
    folder = write_alike(tmp_path / "pictures")
    assert domains(run, folder, "--out", tmp_path / "out") == 0
    high = [row for row in rows_of(tmp_path / "out" / "domains.csv") if float(row["outlier"]) >= 0.5]
    assert [row["picture"] for row in high] == ["red.png"]
    said = capsys.readouterr().out
    assert (
        f"1 of {NUMBER + 1} pictures may be off-topic: it has 0.5 or more in the column outlier of domains.csv\n"
        in said
    )
    (folder / "red.png").unlink()
    assert domains(run, folder, "--out", tmp_path / "without") == 0
    assert all(float(row["outlier"]) < 0.5 for row in rows_of(tmp_path / "without" / "domains.csv"))
    assert "off-topic" not in capsys.readouterr().out


@pytest.mark.parametrize("score", ["2", "0", "-0.1", "high", "nan"])
def test_a_score_is_above_0(run, pictures, score, capsys):
    assert domains(run, pictures, f"--leave-out-outliers={score}") == 2
    assert "take a number above 0, up to 1" in " ".join(capsys.readouterr().err.split())


def test_a_list_of_paths_needs_a_folder(run, pictures, capsys):
    one = next(pictures.rglob("*.png"))
    assert domains(run, one, "--leave-out-outliers", 0.5) == 2
    assert "is not a folder: give a folder" in " ".join(capsys.readouterr().err.split())


def test_a_list_of_paths_needs_files_outside_archives(run, pictures, tmp_path, capsys):
    shutil.make_archive(str(tmp_path / "in" / "all"), "zip", pictures)
    words = (tmp_path / "in", "--leave-out-outliers", 0.5, "--out", tmp_path / "out")
    assert domains(run, *words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"pictures of {tmp_path / 'in'} are in an archive, a database or shards: give" in said
    assert not (tmp_path / "out").exists()


def test_a_relative_folder_gives_a_list_of_absolute_paths(run, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures)
    assert domains(run, "even", "--leave-out-outliers", 1, "--out", tmp_path) == 0
    kept = (tmp_path / "kept.txt").read_text().splitlines()
    assert kept and all(Path(line).is_absolute() and Path(line).is_file() for line in kept)


def test_a_stopped_job_does_not_go_on_with_another_version_of_a_model(
    run, pictures, tmp_path, monkeypatch, capsys
):
    """A hub keeps each version of a model in a folder of its own, and its name stays the same."""
    for version in ("old", "new"):
        shutil.copytree(run, tmp_path / version)
    words = ("me/kinds", pictures, "--batch", 4, "--out", tmp_path / "out")
    monkeypatch.setattr(model_place, "download", lambda name, files: tmp_path / "old")
    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedWork, "note", stopping(UnfinishedWork.note, 9))
        assert domains(*words) == 130
    monkeypatch.setattr(model_place, "download", lambda name, files: tmp_path / "new")
    capsys.readouterr()
    assert domains(*words) == 0
    assert "going on after" not in capsys.readouterr().err


def test_the_same_command_goes_on_after_a_stop(run, pictures, tmp_path, monkeypatch, capsys):
    shutil.copytree(pictures, tmp_path / "in")
    (tmp_path / "in" / "even" / "10.png").write_bytes(b"")
    words = (run, tmp_path / "in", "--batch", 4, "--per-domain", 3, "--leave-out-outliers", 0.9, "--out")
    assert domains(*words, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedWork, "note", stopping(UnfinishedWork.note, 14))
        assert domains(*words, tmp_path / "out") == 130
    replace = Path.replace

    def stop_moving(path, target):
        if path.parent.name.startswith(".unfinished.") and path.name == "domain_1.png":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop_moving)
        assert domains(*words, tmp_path / "out") == 130
    assert (tmp_path / "out" / "domain_0.png").exists()
    (tmp_path / "out" / "overview.png").write_bytes(b"mine")
    capsys.readouterr()
    assert domains(*words, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"going on after {NUMBER} of {NUMBER} pictures" in said
    assert "overview.png exists already: give another --out" in said
    assert (tmp_path / "out" / "overview.png").read_bytes() == b"mine"
    (tmp_path / "out" / "overview.png").unlink()
    assert domains(*words, tmp_path / "out") == 0
    assert "1 left out: 1 empty (even/10.png" in capsys.readouterr().out
    whole, again = content(tmp_path / "whole"), content(tmp_path / "out")
    assert again == whole


def test_a_recorded_picture_is_read_back_exactly_or_not_at_all():
    rng = np.random.default_rng(0)
    looks, seen = rng.normal(size=5).astype(np.float32), rng.integers(0, 256, (4, 4, 3), np.uint8)
    for thumbnail in (seen, None):
        value = json.loads(json.dumps(PictureOutput(2, 0.1 + 0.2, looks, thumbnail).as_json()))
        back = picture_output_of(value, 3, 5, 4)
        assert (back.domain, back.confidence, back.appearance.tobytes()) == (2, 0.1 + 0.2, looks.tobytes())
        assert (back.thumbnail is None) if thumbnail is None else np.array_equal(back.thumbnail, seen)
    value = PictureOutput(2, 0.5, looks, seen).as_json()
    assert (
        picture_output_of(value, 2, 5, 4)
        is picture_output_of(value, 3, 4, 4)
        is picture_output_of(value, 3, 5, 3)
        is None
    )
    for place, wrong in ((0, -1), (1, 1.5), (1, "x"), (2, "?"), (2, None), (3, "AAAA"), (3, 7)):
        assert picture_output_of([*value[:place], wrong, *value[place + 1 :]], 3, 5, 4) is None

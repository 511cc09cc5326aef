"""`tunit translate`: the files written, their names, and the errors."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_model import SIZE, noise, save_tiny, to_input, to_pixels, write
from tunit.cli import main
from tunit.data.finding.find import find_pictures
from tunit.errors import DataError
from tunit.files.atomic import RESULTS
from tunit.translation import result_files
from tunit.translation.result_files import check_names, marked, plan_names

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"))


def translate(*words: object) -> int:
    return main(["translate", *map(str, words)])


def files(folder: Path) -> list[str]:
    """All files except the marker file that tunit puts into a folder of results."""
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
    return sorted(name for name in found if not name.endswith(RESULTS))


def pixels_of(path: Path):
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


@torch.no_grad()
def by_hand(model, seed, style):
    return to_pixels(model.generator(to_input(noise(seed)), style[None])).astype(int)


@torch.no_grad()
def style_of(model, *seeds):
    return torch.stack([model.guide(to_input(noise(seed))).style[0] for seed in seeds]).mean(0)


# What is written


def test_many_sources_of_one_name_are_named_at_once(monkeypatch):
    asked = []
    monkeypatch.setattr(
        result_files, "_folded", lambda name: asked.append(name) or name.casefold(), raising=False
    )
    many = 3_000
    names = plan_names(["a.png"] * many, "png")
    assert names == ["a.png", *(f"a~{number}.png" for number in range(2, many + 1))]
    assert 0 < len(asked) < 10 * many


@pytest.mark.parametrize("part", ["samples", "data"])
def test_a_folder_of_sources_that_is_called_like_a_part_of_a_run_is_not_written_there(
    run, model, tmp_path, capsys, part
):
    ours, picture = tmp_path / "run", Path(part) / "step_00000012.png"
    shutil.copytree(run, ours)
    for name in ("run.json", "config.toml"):
        (ours / name).write_text("")
    for folder in (tmp_path / "in", ours):
        write(folder / picture, 1)
    before = (ours / picture).read_bytes()
    assert translate(ours, tmp_path / "in", "--domain", "0", "--out", ours, "--overwrite") == 2
    said = f"{ours / part} is a part of the run {ours}, which must not be changed: give another --out"
    assert said in capsys.readouterr().err
    assert (ours / picture).read_bytes() == before


def test_a_folder_keeps_its_sub_paths(run, model, tmp_path, capsys):
    write(tmp_path / "in" / "a.png", 1)
    write(tmp_path / "in" / "deep" / "er" / "b.png", 2)
    reference = write(tmp_path / "reference.png", 3)
    assert translate(run, tmp_path / "in", "--reference", reference, "--out", tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["a.png", "deep/er/b.png"]
    for name, seed in (("a.png", 1), ("deep/er/b.png", 2)):
        expected = by_hand(model, seed, style_of(model, 3))
        assert np.abs(pixels_of(tmp_path / "out" / name) - expected).max() <= 1
    out = capsys.readouterr().out
    assert out == f"translated 2 pictures: {tmp_path / 'out'}; none left out\n"


def test_references_are_averaged_also_from_folders_and_archives(run, model, tmp_path):
    source, single = write(tmp_path / "source.png", 1), write(tmp_path / "4.png", 4)
    for seed in (2, 3):
        write(tmp_path / "references" / f"{seed}.png", seed)
    with zipfile.ZipFile(tmp_path / "references.zip", "w") as archive:
        for seed in (2, 3):
            archive.write(tmp_path / "references" / f"{seed}.png", f"{seed}.png")
    expected = by_hand(model, 1, style_of(model, 2, 3, 4))
    for references in ("references", "references.zip"):
        words = ("--reference", tmp_path / references, single, "--out", tmp_path / f"out-{references}")
        assert translate(run, source, *words) == 0
        assert np.abs(pixels_of(tmp_path / f"out-{references}" / "source.png") - expected).max() <= 1


def test_an_archive_and_a_list_are_sources(run, tmp_path):
    first = write(tmp_path / "a.png", 1)
    write(tmp_path / "sub" / "b.png", 2)
    (tmp_path / "list.txt").write_text("sub/b.png\n")
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.write(first, "in/zip.png")
    words = ("--domain", 0, "--out", tmp_path / "out")
    assert translate(run, tmp_path / "s.zip", tmp_path / "list.txt", *words) == 0
    assert files(tmp_path / "out") == ["in/zip.png", "sub/b.png"]


def test_a_domain_is_its_average_style(run, model, tmp_path):
    source = write(tmp_path / "source.png", 1)
    assert translate(run, source, "--domain", 2, "--out", tmp_path / "out") == 0
    expected = by_hand(model, 1, model.domain_styles[2])
    assert np.abs(pixels_of(tmp_path / "out" / "source.png") - expected).max() <= 1


def test_all_domains_get_their_own_folders_except_empty_ones(run, model, tmp_path, capsys):
    write(tmp_path / "in" / "a.png", 1)
    write(tmp_path / "in" / "b" / "a.png", 2)
    assert translate(run, tmp_path / "in", "--domain", "all", "--out", tmp_path / "out") == 0
    assert files(tmp_path / "out") == [f"domain_{k}/{name}" for k in (0, 2) for name in ("a.png", "b/a.png")]
    for k in (0, 2):
        expected = by_hand(model, 2, model.domain_styles[k])
        assert np.abs(pixels_of(tmp_path / "out" / f"domain_{k}" / "b" / "a.png") - expected).max() <= 1
    said = capsys.readouterr()
    assert "translated 2 pictures into 2 domains" in said.out
    assert "none of the 7 training pictures that gave the average styles is in these domains" in said.err
    assert "nothing to translate into: 1" in said.err


def test_sizes_and_fits(run, tmp_path):
    write(tmp_path / "in" / "wide.jpg", 1, height=40, width=80)
    sizes = {
        (): (SIZE, SIZE),
        ("--size", "original"): (80, 40),
        ("--size", "48"): (48, 24),  # the number is the longer side; the proportions are the source's
        ("--fit", "crop", "--size", "48"): (48, 48),
        ("--fit", "pad"): (32, 16),
        ("--fit", "pad", "--size", "original"): (80, 40),
        ("--fit", "crop", "--size", "original"): (40, 40),
    }
    for number, (words, size) in enumerate(sizes.items()):
        out = tmp_path / str(number)
        assert translate(run, tmp_path / "in", "--domain", 0, "--out", out, *words) == 0
        with Image.open(out / "wide.png") as image:
            assert image.size == size


def test_formats(run, tmp_path):
    for name in ("a.jpg", "b.PNG", "c.bmp", "d.gif", "e.tif", "f.webp"):
        write(tmp_path / "in" / name, 1)
    wanted = {
        "png": ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"],
        "jpg": ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"],
        "webp": ["a.webp", "b.webp", "c.webp", "d.webp", "e.webp", "f.webp"],
        "keep": ["a.jpg", "b.PNG", "c.bmp", "d.png", "e.tif", "f.webp"],
    }
    kinds = {"jpg": "JPEG", "png": "PNG", "PNG": "PNG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}
    for kind, names in wanted.items():
        out = tmp_path / kind
        assert translate(run, tmp_path / "in", "--domain", 0, "--out", out, "--format", kind) == 0
        assert files(out) == names
        for name in names:
            with Image.open(out / name) as image:
                assert image.format == kinds[name.partition(".")[2]]


# Names


def test_names_that_collide_are_numbered(run, model, tmp_path):
    first, second = write(tmp_path / "1" / "a.png", 1), write(tmp_path / "2" / "a.png", 2)
    third = write(tmp_path / "3" / "a.jpg", 3)
    words = (first, second, third, first, "--domain", 0, "--out", tmp_path / "out")
    assert translate(run, *words) == 0
    # the first source is given twice, but translated once
    assert files(tmp_path / "out") == ["a.png", "a~2.png", "a~3.png"]
    for name, seed in (("a.png", 1), ("a~2.png", 2)):
        expected = by_hand(model, seed, model.domain_styles[0])
        assert np.abs(pixels_of(tmp_path / "out" / name) - expected).max() <= 1


def test_planned_names():
    assert plan_names(["a.jpg", "a.png", "A.gif", "s/a.png"], "png") == [
        "a.png",
        "a~2.png",
        "A~3.png",
        "s/a.png",
    ]
    composed, apart = "caf\u00e9.png", "CAFE\u0301.png"  # one name on macOS
    assert plan_names([composed, apart], "png") == [composed, "CAFE\u0301~2.png"]
    assert plan_names([f"{apart}/x.png", composed], "keep") == [f"{apart}/x.png", "caf\u00e9~2.png"]
    assert plan_names(["a.png", "a~2.png", "a.jpg"], "png") == ["a.png", "a~2.png", "a~3.png"]
    # A folder given as one source and a picture given as another cannot have the same name.
    assert plan_names(["b.jpg/x.png", "b.jpg", "B.JPG"], "keep") == ["b.jpg/x.png", "b~2.jpg", "B~3.JPG"]
    assert plan_names(["photo", "photo.2024", "x.heic"], "keep") == ["photo.png", "photo.2024.png", "x.png"]
    assert plan_names(["../../etc/x.png", "/abs/y.png", "C:\\z\\w.png"], "png") == [
        "etc/x.png", "abs/y.png", "z/w.png"
    ]  # fmt: skip


def test_names_of_results_are_no_longer_than_disks_accept(run, tmp_path):
    longest = "a" * 251
    names = [f"{longest}.jpg", f"{longest}.png", f"{longest}.bmp", f"{'é' * 130}.jpg", f"{'b' * 300}/x.png"]
    planned = plan_names(names, "webp")
    assert planned == [
        f"{'a' * 250}.webp",
        f"{'a' * 248}~2.webp",
        f"{'a' * 248}~3.webp",
        f"{'é' * 125}.webp",
        f"{'b' * 255}/x.webp",
    ]
    assert all(len(os.fsencode(part)) <= 255 for name in planned for part in name.split("/"))
    source = tmp_path / "in"
    for number, suffix in enumerate((".png", ".bmp")):
        write(source / f"{longest}{suffix}", number)
    assert translate(run, source, "--domain", "0", "--out", tmp_path / "out") == 0
    assert files(tmp_path / "out") == [f"{longest}.png", f"{'a' * 249}~2.png"]


def test_nothing_is_written_outside_out_through_a_link(run, tmp_path, capsys):
    write(tmp_path / "in" / "sub" / "a.png", 1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    assert translate(run, tmp_path / "in", "--domain", 0, "--out", tmp_path / "out", "--overwrite") == 2
    assert "is a link out of" in capsys.readouterr().err
    assert files(tmp_path / "elsewhere") == []


def test_a_link_at_the_destination_is_replaced_and_its_target_kept(run, tmp_path):
    source, precious = write(tmp_path / "a.png", 1), write(tmp_path / "precious.png", 2)
    before = precious.read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to(precious)
    assert translate(run, source, "--domain", 0, "--out", tmp_path / "out", "--overwrite") == 0
    assert precious.read_bytes() == before
    assert not (tmp_path / "out" / "a.png").is_symlink()


def test_members_of_a_hostile_archive_stay_inside(run, tmp_path, capsys):
    good = write(tmp_path / "a.png", 1)
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.write(good, "../evil.png")
        archive.write(good, "fine.png")
    assert translate(run, tmp_path / "evil.zip", "--domain", 0, "--out", tmp_path / "o" / "out") == 0
    assert files(tmp_path / "o") == ["out/fine.png"]
    assert "1 left out: 1 outside (../evil.png" in capsys.readouterr().out


def test_existing_files_are_kept_by_default(run, tmp_path, capsys):
    write(tmp_path / "in" / "a.png", 1)
    write(tmp_path / "in" / "b.png", 2)
    words = (run, tmp_path / "in", "--domain", 0, "--out", tmp_path / "out")
    old = write(tmp_path / "out" / "b.png", 9).read_bytes()
    assert translate(*words) == 2
    said = capsys.readouterr()
    sentence = "exists already: give another --out, or --overwrite what is there"
    assert said.err == f"tunit: {tmp_path / 'out' / 'b.png'} {sentence}\n"
    assert said.out == ""
    assert files(tmp_path / "out") == ["b.png"]
    assert (tmp_path / "out" / "b.png").read_bytes() == old
    assert translate(*words, "--overwrite") == 0
    assert (tmp_path / "out" / "b.png").read_bytes() != old
    assert translate(*words) == 2
    assert "a.png and 1 more exist already" in capsys.readouterr().err


def test_a_source_is_never_overwritten(run, tmp_path, capsys, monkeypatch):
    source = write(tmp_path / "a.png", 1)
    before = source.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert translate(run, "a.png", "--domain", 0, "--out", ".", "--overwrite") == 2
    assert "a.png is itself a source: give another --out" in capsys.readouterr().err
    assert source.read_bytes() == before
    assert translate(run, "a.png", "--domain", 0, "--out", ".", "--format", "jpg") == 0
    assert files(tmp_path) == ["a.jpg", "a.png"]


def test_earlier_results_inside_the_source_folder_are_not_sources(run, tmp_path, capsys):
    write(tmp_path / "in" / "a.png", 1)
    words = (run, tmp_path / "in", "--domain", 0, "--out", tmp_path / "in" / "out")
    assert translate(*words) == 0
    assert translate(*words, "--overwrite") == 0
    assert files(tmp_path / "in") == ["a.png", "out/a.png"]
    assert translate(run, tmp_path / "in", "--domain", 0, "--out", tmp_path / "in", "--overwrite") == 2
    assert "lie inside" in capsys.readouterr().err


# What cannot be read


def test_bad_pictures_are_left_out_and_named(run, tmp_path, capsys):
    write(tmp_path / "in" / "a.png", 1)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    words = (run, tmp_path / "in", "--domain", 0, "--out", tmp_path / "out")
    assert translate(*words) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"translated 1 picture: {tmp_path / 'out'}; 2 left out: 1 empty (empty.png: 0 bytes)"
    )
    assert files(tmp_path / "out") == ["a.png"]
    assert translate(*words, "--strict", "--overwrite") == 2
    err = capsys.readouterr().err
    assert err.startswith("tunit: bad.jpg cannot be used (")
    assert err.count("\n") == 1


def test_a_source_without_pictures_is_left_out_if_there_are_others(run, tmp_path, capsys):
    source = write(tmp_path / "a.png", 1)
    (tmp_path / "notes.txt").write_text("no such file\n")
    words = (run, source, tmp_path / "notes.txt", "--domain", 0, "--out", tmp_path / "out")
    assert translate(*words) == 0
    assert "1 left out: 1 unusable" in capsys.readouterr().out
    assert translate(*words, "--strict", "--overwrite") == 2


def test_a_picture_too_large_for_its_format_is_left_out(run, tmp_path, capsys):
    write(tmp_path / "in" / "a.png", 1)
    write(tmp_path / "in" / "long.png", 2, height=1, width=17_000)  # WebP allows at most 16,383 pixels
    words = ("--domain", 0, "--out", tmp_path / "out", "--format", "webp", "--size", "original")
    assert translate(run, tmp_path / "in", *words) == 0
    assert "1 left out: 1 unwritable (long.png: 17000 x 1 as WEBP" in capsys.readouterr().out
    assert files(tmp_path / "out") == ["a.webp"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.png", "--domain", "0"], "missing.png does not exist: give a folder"),
        (["a.png", "missing.png", "--domain", "0"], "missing.png does not exist: give a folder"),
        (["bad.jpg", "--domain", "0"], "no source could be translated (1 left out: 1 unreadable (bad.jpg"),
        (["hollow", "--domain", "0"], "the folder hollow holds no picture"),
        (["a.png", "--reference", "bad.jpg"], "bad.jpg cannot be used (unreadable"),
        (["a.png", "--reference", "missing.png"], "missing.png does not exist"),
        (
            ["a.png", "--domain", "1"],
            "none of the 7 training pictures that gave the average styles is in domain 1, so this domain has none: "
            "take one of 0, 2",
        ),
        (["a.png", "--domain", "3"], "domain 3 does not exist: this model has domains 0 to 2"),
        (["a.png", "--domain", "-1"], "domain -1 does not exist"),
        (["a.png", "--domain", "cats"], "--domain is 'cats': take a number from 0 to 2, or all"),
        (
            ["a.png", "--domain", "0", "--size", "big"],
            "size 'big' is not a size: use original or a number of",
        ),
        (["a.png", "--domain", "0", "--device", "cuda:77"], "device is 'cuda:77', but torch sees"),
        (["a.png", "--domain", "0", "--batch", "0"], "--batch is 0: take at least 1"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(words, message, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.png", 1)
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff no picture \xff\xd9")
    (tmp_path / "hollow").mkdir()
    assert translate(run, *words, "--out", "out") == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"tunit: {message}")
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_errors_of_a_folder_that_is_not_a_run_and_of_an_out_that_is_a_file(run, tmp_path, capsys):
    source = write(tmp_path / "a.png", 1)
    assert translate(tmp_path, source, "--domain", 0, "--out", tmp_path / "out") == 2
    assert "holds no model.safetensors: give the folder of a run" in capsys.readouterr().err
    assert translate(run, source, "--domain", 0, "--out", source) == 2
    assert "a.png is a file: give a folder" in capsys.readouterr().err


def test_a_model_without_average_styles_asks_for_a_reference(tmp_path, capsys):
    save_tiny(tmp_path / "run", sizes=(0, 0, 0))
    source = write(tmp_path / "a.png", 1)
    for domain in ("0", "all"):
        assert translate(tmp_path / "run", source, "--domain", domain, "--out", tmp_path / "out") == 2
        assert "no average style of any domain: give a reference picture" in capsys.readouterr().err


@pytest.mark.parametrize("style", [[], ["--reference", "a.png", "--domain", "0"]])
def test_exactly_one_of_reference_and_domain_is_required(style, run):
    with pytest.raises(SystemExit) as stopped:
        translate(run, "a.png", "--out", "out", *style)
    assert stopped.value.code == 2


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(run, tmp_path, capsys):
    source = write(tmp_path / "a.png", 1)
    (tmp_path / "locked").mkdir(mode=0o500)
    assert translate(run, source, "--domain", 0, "--out", tmp_path / "locked") == 2
    assert "cannot be written (Permission denied): give another --out" in capsys.readouterr().err


def test_a_result_whose_name_is_a_folder_is_refused(tmp_path):
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    with pytest.raises(DataError, match=r"a\.png is a folder: give another --out"):
        check_names(tmp_path / "out", ["a.png"], overwrite=True)


@pytest.mark.parametrize("name", ["result.png", "a.b.JPG", "sub/result.webp"])
def test_the_name_of_a_picture_is_no_folder_of_results_unless_it_exists(run, tmp_path, capsys, name):
    write(tmp_path / "cat.jpg", 1)
    out = tmp_path / "out" / name
    assert translate(run, tmp_path / "cat.jpg", "--domain", "0", "--out", out) == 2
    said = capsys.readouterr().err
    assert f"--out {out} ends in" in said and "give the name of a folder" in said
    assert not (tmp_path / "out").exists()
    out.mkdir(parents=True)
    assert translate(run, tmp_path / "cat.jpg", "--domain", "0", "--out", out) == 0
    assert files(out) == ["cat.png"]


def test_the_name_of_a_picture_is_refused_for_a_video_too(run, tmp_path, capsys):
    (tmp_path / "clip.mkv").write_bytes(b"a film")
    assert translate(run, tmp_path / "clip.mkv", "--domain", "0", "--out", tmp_path / "o.gif") == 2
    assert f"--out {tmp_path / 'o.gif'} ends in .gif" in capsys.readouterr().err
    assert not (tmp_path / "o.gif").exists()


def test_a_file_where_a_sub_folder_is_needed_is_one_sentence(run, tmp_path, capsys):
    write(tmp_path / "in" / "sub" / "a.png", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("in the way")
    assert translate(run, tmp_path / "in", "--domain", 0, "--out", tmp_path / "out", "--overwrite") == 2
    err = capsys.readouterr().err
    assert "cannot be written (" in err
    assert err.count("\n") == 1
    assert (tmp_path / "out" / "sub").read_text() == "in the way"


def test_translations_inside_a_folder_are_not_trained_on(run, model, tmp_path):
    """Results in a new folder, which gets a marker file. A folder that already holds pictures gets none."""
    write(tmp_path / "in" / "a.png", 1)
    write(tmp_path / "in" / "mine" / "b.png", 2)
    words = [tmp_path / "in" / "a.png", "--domain", "0"]
    for out in ("new", "mine"):
        assert translate(run, *words, "--out", tmp_path / "in" / out) == 0
    found = find_pictures(tmp_path / "in")
    assert [picture.name for picture in found.pictures] == ["a.png", "mine/a.png", "mine/b.png"]
    assert "(new) of tunit's own results" in found.notes[0]


def test_the_marker_is_written_before_the_first_result(tmp_path):
    class KilledError(BaseException):
        pass

    out = tmp_path / "a" / "out"
    seen = []
    with pytest.raises(KilledError), marked(out):
        seen.append((out / RESULTS).exists())
        (out / "x.png").write_bytes(b"half of the work")
        raise KilledError
    assert seen == [True]
    assert (out / RESULTS).exists()
    assert files(out) == ["x.png"]
    with pytest.raises(KilledError), marked(tmp_path / "b" / "out"):
        raise KilledError
    # nothing was written, so the marker is removed
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "y.png").touch()
    with marked(tmp_path / "mine"):
        (tmp_path / "mine" / "z.png").touch()
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["y.png", "z.png"]

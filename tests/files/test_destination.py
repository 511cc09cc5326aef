"""Destinations are checked before the work starts; old results are replaced only by complete ones."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from tunit.errors import RunError
from tunit.files import destination
from tunit.files.destination import check_file, check_folder, is_occupied, staged, workplace


def contents(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("check", [check_file, check_folder])
def test_a_writable_place_passes_and_no_file_remains(tmp_path, check):
    check(tmp_path / "new")
    check(tmp_path / "deep" / "er" / "new")
    assert contents(tmp_path) == set()


@pytest.mark.parametrize("check", [check_file, check_folder])
def test_impossible_places_are_refused(tmp_path, check):
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    for path, words in (
        (tmp_path / "file" / "below" / "it", "file is a file, not a folder"),
        (tmp_path / "broken", "a link to nothing"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "new" / ("é" * 128) / "x", "File name too long"),
        (tmp_path / "nul\0l", "null"),
    ):
        with pytest.raises(RunError, match=words) as refused:
            check(path)
        assert "--out" in str(refused.value)


def test_a_folder_where_a_file_is_needed_and_the_reverse(tmp_path):
    with pytest.raises(RunError, match="is a folder: give the name of a file"):
        check_file(tmp_path)
    (tmp_path / "file").write_text("x")
    check_file(tmp_path / "file")
    with pytest.raises(RunError, match="is a file: give a folder"):
        check_folder(tmp_path / "file")


def test_a_source_is_not_replaced(tmp_path):
    source = tmp_path / "list.txt"
    source.write_text("a.png")
    (tmp_path / "link.txt").symlink_to(source)
    for same in (source, tmp_path / "link.txt"):
        with pytest.raises(RunError, match="is itself a source: give another --out"):
            check_file(same, keep=[tmp_path / "other", None, source])
    check_file(source, keep=[tmp_path, tmp_path / "other"])
    check_file(tmp_path / "new.json", keep=[tmp_path / "new.json", source])


def test_devices_are_not_replaced_by_files():
    with pytest.raises(RunError, match="not an ordinary file"):
        check_file(Path(os.devnull))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_errors_of_the_system_are_reported_in_its_words(tmp_path, monkeypatch, number):
    def refuse(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    for check in (check_file, check_folder):
        with pytest.raises(RunError, match=os.strerror(number)):
            check(tmp_path / "new")


def test_permissions(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("for root nothing is closed")
    with pytest.raises(RunError, match="Permission denied"):
        check_file(tmp_path / "closed" / "x")


def test_staged_results_appear_all_or_none_and_other_files_stay(tmp_path):
    out = tmp_path / "a" / "out"
    with pytest.raises(KeyboardInterrupt), staged(out) as stage:
        (stage / "x").write_text("half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == set()  # the folders created for it are removed too
    with staged(out) as stage:
        (stage / "sub").mkdir()
        for name in ("x", "sub/y"):
            (stage / name).write_text("old")
    (out / "sub" / "z").write_text("of the user")
    with pytest.raises(KeyboardInterrupt), staged(out) as stage:
        (stage / "x").write_text("new")
        raise KeyboardInterrupt
    assert (out / "x").read_text() == "old"
    with staged(out) as stage:
        (stage / "sub").mkdir()
        for name in ("x", "sub/y"):
            (stage / name).write_text("new")
        assert (out / "x").read_text() == "old"
    assert contents(out) == {"x", "sub", "sub/y", "sub/z"}
    assert (out / "x").read_text() == (out / "sub" / "y").read_text() == "new"


def test_files_of_a_killed_job_are_removed_and_those_of_others_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(destination, "is_running", lambda process: process == "17")
    host = destination.socket.gethostname()
    dead, alive, elsewhere = (f".unfinished.{name}" for name in (f"{host}.16", f"{host}.17", "other.16"))
    for name in (dead, alive, elsewhere):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("half")
    assert not is_occupied(tmp_path)
    with staged(tmp_path) as stage:
        (stage / "y").write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {alive, elsewhere, "y"}
    assert is_occupied(tmp_path)


def test_two_threads_can_write_into_one_folder(tmp_path):
    with staged(tmp_path) as first:
        (first / "a").write_text("first")
        with staged(tmp_path) as second:
            (second / "b").write_text("second")
        assert (tmp_path / "b").read_text() == "second"
    assert (tmp_path / "a").read_text() == "first"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_work_files_go_elsewhere_if_the_run_is_read_only(tmp_path):
    with workplace(tmp_path / "evaluation") as place:
        assert place == tmp_path / "evaluation"
    (tmp_path / "file").write_text("x")
    with workplace(tmp_path / "file" / "evaluation") as place:
        (place / "x").write_text("x")
    assert not place.exists()


@pytest.mark.parametrize(
    "part", ["data", "data/more", "checkpoints", ".new/data", "config.toml", "model.json", "best/x"]
)
def test_parts_of_a_run_cannot_be_destinations(tmp_path, part):
    run = tmp_path / "run"
    (run / "data").mkdir(parents=True)
    for name in ("run.json", "config.toml"):
        (run / name).touch()
    (tmp_path / "link").symlink_to(run)
    for place in (run / part, tmp_path / "link" / part, run / "evaluation" / ".." / part):
        for check in (check_file, check_folder):
            with pytest.raises(RunError, match=r"is a part of the run .*: give another --out"):
                check(place)
    check_file(run / "report.html")
    check_file(run / "evaluation" / "evaluation.json")
    check_folder(run / "domains")
    check_folder(tmp_path / "elsewhere" / "data")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_is_moved_if_a_folder_is_in_the_way_of_a_file_or_the_reverse(tmp_path, kind):
    in_the_way = tmp_path / "out" / "sub" / "x"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.mkdir() if kind == "folder" else in_the_way.touch()
    with (
        pytest.raises(RunError, match=f"x is a {kind}, and a .* move it away"),
        staged(tmp_path / "out") as stage,
    ):
        (stage / "a").mkdir()
        (stage / "sub").mkdir()
        (stage / "sub" / "x").touch() if kind == "folder" else (stage / "sub" / "x").mkdir()
    assert contents(tmp_path / "out") == {"sub", "sub/x"}

"""`tunit translate` that was stopped goes on with the same command, and the results are the same bytes."""

import os
import shutil

import pytest

from stopping import content, stopping
from tiny_model import save_tiny, write
from tunit.cli import main
from tunit.commands import redrawing
from tunit.data.finding.found import DiskFile, PictureSource
from tunit.data.finding.left_out import LeftOut
from tunit.errors import RunError
from tunit.translation import result_files
from tunit.translation.result_files import UNWRITABLE
from tunit.translation.translator import Translator
from tunit.translation.unfinished_results import UnfinishedWork

pytestmark = pytest.mark.usefixtures("one_thread")
SOURCES = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, sources of which one cannot be read, and the results of a job that was not stopped."""
    folder = tmp_path_factory.mktemp("translation")
    save_tiny(folder / "model")
    for number in range(SOURCES):
        write(folder / "in" / f"{number % 3}" / f"{number:02}.png", number)
    (folder / "in" / "1" / "04.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert translate(folder, folder / "whole") == 0
    return folder


def translate(folder, out, *more, sources="in"):
    words = [
        str(folder / "model"),
        str(folder / sources),
        "--domain",
        "all",
        "--out",
        str(out),
        "--batch",
        "4",
    ]
    return main(["translate", *words, *more])


def stopped(monkeypatch, folder, out, after, *more, before=False):
    """Stop a job at the result number `after`: when it is written, or with `before` just before."""
    calls, write_result = iter(range(999)), result_files.write_result

    def stop(path, data):
        last = next(calls) == after
        if not (last and before):
            write_result(path, data)
        if last:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(result_files, "write_result", stop)
        patch.setattr(redrawing, "SAVED_BEHIND", 1)
        assert translate(folder, out, *more) == 130


@pytest.fixture
def redrawn(monkeypatch):
    """The names of the sources that pass the networks."""
    names, redraw = [], Translator.redraw

    def noting(self, sources, *more, **named):
        for source, images in redraw(self, sources, *more, **named):
            names.append(source.name)
            yield source, images

    monkeypatch.setattr(Translator, "redraw", noting)
    return names


@pytest.mark.parametrize(("after", "before", "done"), [(0, True, 0), (17, True, 9), (21, False, 12)])
def test_the_same_command_goes_on(folder, tmp_path, monkeypatch, capsys, redrawn, after, before, done):
    stopped(monkeypatch, folder, tmp_path / "out", after, before=before)
    redrawn.clear()
    assert translate(folder, tmp_path / "out") == 0
    said = capsys.readouterr()
    assert (f"going on after {done} of {SOURCES} sources" in said.err) == (done > 0)
    assert len(redrawn) == SOURCES - done - (done < 6)
    assert "translated 11 pictures into 2 domains" in said.out
    assert "1 truncated (1/04.png" in said.out
    assert content(tmp_path / "out") == content(folder / "whole")
    assert translate(folder, tmp_path / "out") == 2  # it is finished, so nothing goes on


def test_old_results_stay_until_the_new_ones_are_complete_also_after_a_stop(
    folder, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    assert translate(folder, out, "--strength", "0.5") == 0
    old = content(out)
    stopped(monkeypatch, folder, out, 11, "--overwrite")
    assert {name: data for name, data in content(out).items() if "unfinished" not in name} == old
    with monkeypatch.context() as patch:  # stopped again, while results are moved
        calls, replace = iter(range(99)), type(out).replace

        def stop(path, target):
            if "unfinished" in str(path) and path.suffix == ".png" and next(calls) == 5:
                raise KeyboardInterrupt
            return replace(path, target)

        patch.setattr(type(out), "replace", stop)
        assert translate(folder, out, "--overwrite") == 130
    assert f"going on after 4 of {SOURCES} sources" in capsys.readouterr().err
    assert translate(folder, out, "--overwrite") == 0
    assert f"going on after {SOURCES} of {SOURCES} sources" in capsys.readouterr().err
    assert content(out) == content(folder / "whole")


def test_somebody_elses_file_is_not_replaced(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    stopped(monkeypatch, folder, out, 9)
    for name in ("domain_2/1/10.png", "domain_0/0/00.png"):  # a new file, and a result that was edited
        (out / name).write_bytes(b"mine")
    assert translate(folder, out) == 2
    assert "domain_0/0/00.png and 1 more exist already: give another --out" in capsys.readouterr().err
    assert (out / "domain_2/1/10.png").read_bytes() == b"mine"
    assert translate(folder, out, "--overwrite") == 0
    assert content(out) == content(folder / "whole")


@pytest.mark.parametrize("more", [["--strength", "0.9"], ["--batch", "5"]])
def test_other_arguments_do_not_go_on(folder, tmp_path, monkeypatch, capsys, more):
    stopped(monkeypatch, folder, tmp_path / "out", 9)
    assert translate(folder, tmp_path / "out", *more) == 2
    assert "more exist already" in capsys.readouterr().err


def test_a_source_that_has_changed_is_translated_again(folder, tmp_path, monkeypatch, redrawn):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    stopped(monkeypatch, copy, tmp_path / "out", 19)
    write(copy / "in" / "1" / "01.png", 77)
    redrawn.clear()
    assert translate(copy, tmp_path / "out") == 0
    assert len(redrawn) == 7  # from the start of its batch
    assert translate(copy, tmp_path / "whole") == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_sources_of_the_same_name_go_on_too(folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(folder, tmp_path / "copy")
    write(tmp_path / "copy" / "more" / "0" / "00.png", 50)
    (tmp_path / "copy" / "more" / "0" / "03.png").write_bytes(b"")
    more = (str(tmp_path / "copy" / "more"),)

    def both(out):
        words = [str(tmp_path / "copy" / "model"), str(tmp_path / "copy" / "in"), *more, "--domain", "0"]
        return main(["translate", *words, "--out", str(out), "--batch", "4"])

    assert both(tmp_path / "whole") == 0
    assert (tmp_path / "whole" / "0" / "00~2.png").exists()
    assert "0/03.png for 0/03~2.png" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(result_files, "write_result", stopping(result_files.write_result, 11))
        patch.setattr(redrawing, "SAVED_BEHIND", 1)  # so that results are saved almost in order
        assert both(tmp_path / "out") == 130
    assert both(tmp_path / "out") == 0
    assert "going on after 9 of 14 sources" in capsys.readouterr().err
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def work_in(out, sources, batch=2):
    return UnfinishedWork(out, ["about"], sources, batch, lambda work, source, result: result != "lost")


def test_batches_begin_where_they_would_have_begun(tmp_path):
    """A source that was left out before the networks is in no batch; one that cannot be written was in a batch."""
    sources = [PictureSource(f"{i}", None, DiskFile(tmp_path / f"{i}")) for i in range(9)]
    with pytest.raises(KeyboardInterrupt), work_in(tmp_path, sources) as work:
        for source, outcome in zip(sources, "xUxUxLxx", strict=False):
            if outcome == "x":
                work.note(source, outcome)
            else:
                reason = UNWRITABLE if outcome == "U" else "truncated"
                work.note_left_out(LeftOut(source.name, reason, "why"))
        raise KeyboardInterrupt
    work = work_in(tmp_path, sources)
    assert work.done == 7  # the batches are 0 and 1, 2 and 3, 4 and 6, and 7 with the one that is missing
    assert [found.left_out for _, found in work.finished_sources() if found.left_out] == [
        LeftOut("1", UNWRITABLE, "why"),
        LeftOut("3", UNWRITABLE, "why"),
        LeftOut("5", "truncated", "why"),
    ]


def test_two_jobs_do_not_do_the_same_work_at_the_same_time(tmp_path):
    with (
        work_in(tmp_path, []),
        pytest.raises(RunError, match=f"process {os.getpid()} on .* does the same work in"),
    ):
        work_in(tmp_path, []).__enter__()
    assert list(tmp_path.iterdir()) == []

"""Errors of the machine are one sentence; a bug in tunit keeps its traceback."""

import errno
import os
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError

from tunit.cli import main
from tunit.commands import config as command
from tunit.errors import RunError
from tunit.failures import sentence_of
from tunit.networks.tensor_file import write_tensors


def failing(monkeypatch, error):
    def run(args):
        raise error

    monkeypatch.setattr(command, "run", run)


@pytest.mark.parametrize(
    "number",
    [
        errno.ENOSPC,
        errno.EROFS,
        errno.EACCES,
        errno.ENAMETOOLONG,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EMFILE,
        errno.EIO,
        errno.ENOENT,
    ],
)
def test_every_error_of_the_system_is_one_sentence(monkeypatch, capsys, number):
    failing(monkeypatch, OSError(number, os.strerror(number), "some/place"))
    assert main(["config"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"tunit: some/place: {os.strerror(number)}: ")


def test_a_full_disk_without_a_file_name_and_missing_memory(monkeypatch, capsys):
    failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    assert main(["config"]) == 2
    failing(monkeypatch, MemoryError())
    assert main(["config"]) == 2
    assert "there is not enough memory" in capsys.readouterr().err


def test_errors_raised_by_libraries():
    with pytest.raises(RuntimeError) as memory:
        torch.empty(2**62, dtype=torch.uint8)
    assert "there is not enough memory" in sentence_of(memory.value)
    assert "free some memory" in sentence_of(RuntimeError("can't start new thread"))
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "free some space" in sentence_of(full)
    assert sentence_of(SafetensorError("invalid header")) is None


def test_the_words_of_safetensors_for_a_full_disk_are_not_shown(tmp_path, monkeypatch):
    def save_file(*arguments, **named):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("tunit.networks.tensor_file.save_file", save_file)
    with pytest.raises(RunError) as refused:
        write_tensors(tmp_path / "x", {}, {})
    assert str(refused.value).startswith(f"{tmp_path / 'x'} cannot be written (No space left on device): ")


@pytest.mark.skipif(sys.platform == "win32", reason="there, a folder in use cannot be removed")
@pytest.mark.parametrize("words", [["train", "photos", "--out", "run"], ["domains", "run", "x"], ["studio"]])
def test_a_working_folder_that_was_removed_is_one_sentence(tmp_path, words):
    code = (
        "import os, sys, tunit; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "from tunit.cli import main; raise SystemExit(main(sys.argv[1:]))"
    )
    job = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert job.returncode == 2
    assert job.stderr == (
        "tunit: the working folder cannot be used (No such file or directory): it was moved or removed, so change "
        "into another\n"
    )


def test_bugs_in_tunit_keep_their_traceback(monkeypatch):
    for error in (
        ValueError("wrong"),
        KeyError("step"),
        OSError("no number"),
        OSError(errno.EBADF, "Bad file"),
    ):
        assert sentence_of(error) is None
    failing(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["config"])


def test_a_traceback_can_be_requested(monkeypatch):
    monkeypatch.setenv("TUNIT_TRACEBACK", "1")
    failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        main(["config"])


def test_work_continues_when_the_reader_of_the_output_is_gone():
    code = (
        "import sys; from tunit.printing import show, protect_streams; protect_streams()\n"
        "for i in range(20000): show('a line')\n"
        "sys.stderr.write('done')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as job:
        job.stdout.readline()
        job.stdout.close()
        errors = job.stderr.read()
        assert (job.wait(), errors) == (0, b"done")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")  # noqa: PTH110
def test_output_to_a_full_disk_is_one_sentence():
    code = "from tunit.cli import main; raise SystemExit(main(['config']))"
    with open("/dev/full", "w") as full:  # noqa: PTH123
        job = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert job.returncode == 2
    assert job.stderr.startswith("tunit: standard output: No space left on device")
    assert len(job.stderr.splitlines()) == 1

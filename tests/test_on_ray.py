"""`--engine ray` on a real cluster of several processes: the same files, also if workers and whole jobs are killed.

Skipped if Ray is not installed. Ray is large and not among the packages for tests: pip install "tunit[ray]".
"""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from stopping import content, stopping
from tiny_model import save_tiny
from tiny_run import write_pictures
from tunit.cli import main
from tunit.data.finding.places import place_of
from tunit.data.packing.on_ray import ray_map
from tunit.data.packing.unfinished_pack import UnfinishedPack
from tunit.errors import ConfigError, TunitError
from tunit.translation.unfinished_results import UnfinishedWork

ray = pytest.importorskip("ray", reason='needs Ray, which is large: pip install "tunit[ray]"')
pytestmark = pytest.mark.filterwarnings("ignore")
PICTURES = 90


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Ray's own processes (store, scheduler, two workers) on this machine."""
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # otherwise each worker gets a low priority on the machine
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Pictures, one of which cannot be read."""
    root = write_pictures(tmp_path_factory.mktemp("source"), PICTURES)
    (root / "017.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny(folder)
    return folder


def workers():
    """The Ray processes that run our tasks or wait for them."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and b"ray::_call" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@contextlib.contextmanager
def killing():
    """Kill a worker in the middle of a task, twice."""
    killed, over = [], threading.Event()

    def kill():
        while len(killed) < 2 and not over.is_set():
            for worker in workers()[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)
                    time.sleep(0.3)  # so that another worker has begun
            time.sleep(0.01)  # tasks are short

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()
    assert killed


def prepare(source, out, *more):
    return main(["prepare", str(source), "--out", str(out), "--image-size", "32", "--workers", "1", *more])


@pytest.mark.parametrize("form", [[], ["--shards", "20"]])
def test_prepare_gives_the_same_files_although_workers_are_killed(source, tmp_path, form):
    assert prepare(source, tmp_path / "local", *form) == 0
    with killing():
        assert prepare(source, tmp_path / "ray", *form, "--engine", "ray") == 0
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_prepare_continues_after_it_was_killed(source, tmp_path, monkeypatch, capsys):
    assert prepare(source, tmp_path / "local") == 0
    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedPack, "add", stopping(UnfinishedPack.add, 40))
        assert prepare(source, tmp_path / "ray", "--engine", "ray") == 130
    assert prepare(source, tmp_path / "ray", "--engine", "ray") == 0
    assert f"going on after 40 of {PICTURES} pictures" in capsys.readouterr().err
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def redraw(model, source, out, *more):
    words = ["translate", str(model), str(source), "--domain", "0", "--out", str(out), "--device", "cpu"]
    return main([*words, "--batch", "8", *more])


def test_translate_gives_the_same_files_continues_and_survives(source, model, tmp_path, monkeypatch, capsys):
    assert redraw(model, source, tmp_path / "local") == 0
    with killing():
        assert redraw(model, source, tmp_path / "ray", "--engine", "ray") == 0
    assert "1 truncated (017.png" in capsys.readouterr().out
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    # Killed while it writes, and called again.
    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedWork, "note", stopping(UnfinishedWork.note, 45))
        assert redraw(model, source, tmp_path / "again", "--engine", "ray") == 130
    assert len(list((tmp_path / "again").glob(".tunit-unfinished.*"))) == 1
    assert redraw(model, source, tmp_path / "again", "--engine", "ray") == 0
    said = capsys.readouterr()
    assert f"of {PICTURES} sources" in said.err
    assert "1 truncated (017.png" in said.out
    assert content(tmp_path / "again") == content(tmp_path / "local")


def test_domains_gives_the_same_files_continues_and_survives(source, model, tmp_path, monkeypatch, capsys):
    words = ["domains", str(model), str(source), "--device", "cpu", "--batch", "8", "--out"]
    assert main([*words, str(tmp_path / "local")]) == 0
    with killing():
        assert main([*words, str(tmp_path / "ray"), "--engine", "ray"]) == 0
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    # Killed in the middle, and called again.
    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedWork, "note", stopping(UnfinishedWork.note, 45))
        assert main([*words, str(tmp_path / "again"), "--engine", "ray"]) == 130
    assert main([*words, str(tmp_path / "again"), "--engine", "ray"]) == 0
    assert f"going on after 41 of {PICTURES} pictures" in capsys.readouterr().err
    assert content(tmp_path / "again") == content(tmp_path / "local")


def test_an_error_in_a_task_is_raised_unchanged():
    with pytest.raises(ConfigError, match=r"^nosuchstore://a cannot be opened"):
        list(ray_map(place_of, ["nosuchstore://a"]))


def unknown_to_workers(item):
    return item


def test_a_missing_module_on_a_worker_is_one_sentence():
    with pytest.raises(TunitError, match=r"^the Ray cluster has failed \(.*No module named .*check it"):
        list(ray_map(unknown_to_workers, [3]))

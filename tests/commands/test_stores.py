"""Pictures in a store by URL, on a real S3 server on this machine: the same as from a folder."""

import pytest

from stopping import content, stopping
from tiny_model import save_tiny, write
from tunit.cli import main
from tunit.commands import redrawing
from tunit.data.decoding.decode import PictureError
from tunit.data.finding import stores
from tunit.data.finding.find import find_pictures
from tunit.data.finding.places import UrlPlace
from tunit.errors import ConfigError

fsspec = pytest.importorskip("fsspec", reason='needs pip install "tunit[cloud]"')
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model; pictures, one broken, one empty, one hidden; results and other files."""
    folder = tmp_path_factory.mktemp("stores")
    save_tiny(folder / "model")
    for number in range(6):
        write(folder / "in" / f"{number % 2}" / f"{number}.png", number)
    (folder / "in" / "1" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (folder / "in" / "0" / "empty.png").write_bytes(b"")
    (folder / "in" / "0" / "notes.txt").write_text("no picture")
    write(folder / "in" / ".hidden" / "a.png", 1)
    write(folder / "in" / "old" / "a.png", 1)
    (folder / "in" / "old" / ".tunit-results").touch()
    return folder


@pytest.fixture
def url(s3, folder, tmp_path):
    """The URL of the pictures in a store."""
    url = f"{s3}/{tmp_path.name}"
    store, root = fsspec.url_to_fs(url)
    for path in (folder / "in").rglob("*"):
        if path.is_file():
            store.pipe_file(f"{root}/{path.relative_to(folder / 'in').as_posix()}", path.read_bytes())
    return url


def run(command, folder, source, out, *more):
    words = [command, str(folder / "model"), str(source), "--out", str(out), "--batch", "2", *more]
    return main(words)


def test_results_are_those_of_the_same_pictures_in_a_folder(folder, url, tmp_path, capsys):
    for command, more in (("translate", ["--domain", "0"]), ("domains", [])):
        said = []
        for source, out in ((folder / "in", "local"), (url, "far")):
            assert run(command, folder, source, tmp_path / command / out, *more) == 0
            said.append(capsys.readouterr().out.replace(str(tmp_path / command / out), "OUT"))
        assert said[0] == said[1]
        assert content(tmp_path / command / "far") == content(tmp_path / command / "local")
    assert (
        run(
            "translate",
            folder,
            f"{url}/0/2.png",
            tmp_path / "one",
            "--reference",
            f"{url}/1",
            f"{url}/0/0.png",
        )
        == 0
    )
    whole = ["--reference", str(folder / "in" / "1"), str(folder / "in" / "0" / "0.png")]
    assert run("translate", folder, folder / "in" / "0" / "2.png", tmp_path / "same", *whole) == 0
    assert content(tmp_path / "one") == content(tmp_path / "same")


def test_files_are_bounded_and_changes_are_noticed(url, monkeypatch):
    found = {picture.name: picture for picture in find_pictures(url).pictures}
    assert sorted(found) == ["0/0.png", "0/2.png", "0/4.png", "0/empty.png", "1/1.png", "1/3.png", "1/5.png"]
    store, root = fsspec.url_to_fs(url)
    before = found["0/2.png"].content.stamp
    store.pipe_file(f"{root}/0/2.png", b"longer " * 1000)
    assert {p.name: p for p in find_pictures(url).pictures}["0/2.png"].content.stamp != before
    monkeypatch.setattr(stores, "MAX_BYTES", 300)
    with pytest.raises(PictureError, match="more than 300 bytes"):
        found["0/0.png"].read()
    store.rm_file(f"{root}/1/3.png")
    with pytest.raises(PictureError, match=r"1/3\.png cannot be used"):
        found["1/3.png"].read()


def stored(url):
    store, root = fsspec.url_to_fs(url)
    store.invalidate_cache()
    return {path[len(root) + 1 :]: store.cat_file(path) for path in store.find(root)}


def test_results_go_into_a_store_and_a_stopped_job_goes_on(folder, s3, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUNIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(redrawing, "SAVED_BEHIND", 1)
    for command, more, last in (("translate", ["--domain", "all"], 9), ("domains", [], 3)):
        out, local = f"{s3}/{tmp_path.name}/{command}", tmp_path / command
        assert run(command, folder, folder / "in", local, *more) == 0
        with monkeypatch.context() as patch:
            patch.setattr(UrlPlace, "write", stopping(UrlPlace.write, last))
            assert run(command, folder, folder / "in", out, *more) == 130
        assert 0 < len(stored(out)) < len(content(local))
        capsys.readouterr()
        assert run(command, folder, folder / "in", out, *more) == 0
        assert "going on after" in capsys.readouterr().err
        assert stored(out) == content(local)
        assert run(command, folder, folder / "in", out, *more) == 2
        assert f"{out}/" in capsys.readouterr().err
        assert run(command, folder, folder / "in", out, *more, "--overwrite") == 0
        assert stored(out) == content(local)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_source_or_a_reference_in_a_store_is_never_replaced(folder, url, capsys):
    store, root = fsspec.url_to_fs(url)
    store.pipe_file(f"{root}/0/overview.png", (folder / "in" / "0" / "0.png").read_bytes())
    before = stored(url)
    words = ["--domain", "0", "--overwrite"]
    assert run("translate", folder, f"{url}/0/0.png", f"{url}/0", *words) == 2
    assert "0/0.png is itself a source" in capsys.readouterr().err
    words_of_reference = ["--reference", f"{url}/0/2.png", "--overwrite"]
    assert run("translate", folder, folder / "in" / "0" / "2.png", f"{url}/0", *words_of_reference) == 2
    assert "0/2.png is itself a source" in capsys.readouterr().err
    assert run("domains", folder, f"{url}/0/overview.png", f"{url}/0", "--overwrite") == 2
    assert "0/overview.png is itself a source" in capsys.readouterr().err
    other_name = url.replace("s3://", "s3a://")  # the same store
    assert run("translate", folder, f"{url}/0/0.png", f"{other_name}/0", *words) == 2
    assert "0/0.png is itself a source" in capsys.readouterr().err
    assert run("domains", folder, f"{url}/0/overview.png", f"{other_name}/0", "--overwrite") == 2
    assert "0/overview.png is itself a source" in capsys.readouterr().err
    for out in (url, other_name):
        assert run("translate", folder, url, out, *words) == 2
        assert "lie inside" in capsys.readouterr().err
    assert stored(url) == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("memory://nothing/there", "the store memory://nothing/there holds no picture that can be used"),
        ("nosuchstore://a", "nosuchstore://a cannot be opened ("),
    ],
)
def test_a_store_that_cannot_be_read_is_one_sentence(folder, tmp_path, capsys, source, message):
    for command, more in (("translate", ["--domain", "0"]), ("domains", [])):
        assert run(command, folder, source, tmp_path / "out", *more) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"tunit: {message}")
        assert said.count("\n") == 1
    assert run("domains", folder, "memory://a", tmp_path / "out", "--leave-out-outliers", "0.5") == 2
    assert not (tmp_path / "out").exists()


def test_a_run_in_a_store_is_no_folder_of_pictures(url):
    store, root = fsspec.url_to_fs(url)
    before = find_pictures(url)
    for name in ("run.json", "config.toml", "samples/1.png"):
        store.pipe_file(f"{root}/runs/cats/{name}", b"x")
    found = find_pictures(url)
    assert [picture.name for picture in found.pictures] == [picture.name for picture in before.pictures]
    assert "2 folders (old, runs/cats) of tunit's own results were left out" in found.notes[0]


def test_stores_that_are_chained_are_refused():
    with pytest.raises(ConfigError, match="holds `::`, which joins several stores"):
        find_pictures("zip://p::file:///x.zip")

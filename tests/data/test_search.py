"""A search reads its source once; the fingerprint of an archive is computed without opening it."""

import zipfile

from tiny_run import write_pictures
from tunit.data.finding.find import find_pictures
from tunit.data.packing import search as module
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.search import Search

SETTINGS = PackSettings(size=32)


def counted(monkeypatch):
    """Counts the calls of `find_pictures` from now on."""
    calls = []

    def find(source, **options):
        calls.append(source)
        return find_pictures(source, **options)

    monkeypatch.setattr(module, "find_pictures", find)
    return calls


def test_a_folder_is_walked_once(tmp_path, monkeypatch):
    folder = write_pictures(tmp_path / "p", 3)
    calls = counted(monkeypatch)
    search = Search(folder, SETTINGS)
    assert calls == []
    assert search.fingerprint == find_pictures(folder).fingerprint
    assert [picture.name for picture in search.found.pictures] == ["000.png", "001.png", "002.png"]
    assert search.fingerprint == search.found.fingerprint
    assert calls == [folder]


def test_an_archive_is_not_listed_for_its_fingerprint(tmp_path, monkeypatch):
    folder, path = write_pictures(tmp_path / "p", 2), tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for picture in sorted(folder.iterdir()):
            archive.write(picture, picture.name)
    calls = counted(monkeypatch)
    search = Search(path, SETTINGS)
    fingerprint = search.fingerprint
    assert calls == []
    assert fingerprint == search.found.fingerprint
    assert calls == [path]

"""The compiled code: what is taken for it, and what is not."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from tunit import native


@pytest.fixture(autouse=True)
def anew():
    native._library.cache_clear()
    yield
    native._library.cache_clear()


def test_where_nothing_was_compiled_there_is_none(monkeypatch):
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    assert not native.is_there()
    assert not native.takes(torch.zeros(1, 16, 4, 4))


@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_what_cannot_be_loaded_is_none(tmp_path, monkeypatch, content):
    path = tmp_path / "library.so"
    path.write_bytes(content)
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(path)))
    assert not native.is_there()


@pytest.mark.parametrize("number", [native.INTERFACE, native.INTERFACE - 1, None])
def test_a_library_of_another_version_is_none(monkeypatch, number):
    library = SimpleNamespace() if number is None else SimpleNamespace(tunit_interface=lambda: number)
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: SimpleNamespace(origin="library.so"))
    monkeypatch.setattr(ctypes, "CDLL", lambda path: library)
    assert native.is_there() == (number == native.INTERFACE)

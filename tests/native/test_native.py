"""The compiled code: whether it is taken, what it is given, and that it never gets what it would take for another."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from tunit import native

compiled = pytest.mark.skipif(not native.is_available(), reason="compiled code is not there, or turned off")


@pytest.fixture(autouse=True)
def found_anew():
    native._library.cache_clear()
    yield
    native._library.cache_clear()


def test_where_nothing_was_compiled_there_is_none(monkeypatch):
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv(native.SWITCH, raising=False)
    assert not native.is_available()
    assert native.is_missing()
    assert not native.supports(torch.zeros(1, 16, 4, 4))
    assert native.describe() == "not compiled"


@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_what_cannot_be_loaded_is_none(tmp_path, content):
    path = tmp_path / "library.so"
    path.write_bytes(content)
    assert native.load(str(path)) is None


class Library:
    """Stands for a compiled library: any function is there, with the interface and the vectors given."""

    def __init__(self, interface: int, vectors: int) -> None:
        self.tunit_interface, self.tunit_vectors = lambda: interface, lambda: vectors

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace()


@pytest.mark.parametrize(
    ("library", "is_taken"),
    [
        (Library(native.INTERFACE, 8), True),
        (Library(native.INTERFACE - 1, 8), False),
        (Library(native.INTERFACE, 0), False),  # for another CPU
        (SimpleNamespace(), False),
    ],
)
def test_a_library_of_another_version_or_cpu_is_none(monkeypatch, library, is_taken):
    monkeypatch.setattr(ctypes, "CDLL", lambda path: library)
    assert (native.load("library.so") is not None) == is_taken


@compiled
def test_the_environment_turns_it_off(monkeypatch):
    x = torch.zeros(1, 16, 4, 4)
    assert native.supports(x)
    assert native.describe().startswith("vectors of ")
    monkeypatch.setenv(native.SWITCH, "0")
    assert not native.supports(x)
    assert not native.is_missing()
    assert native.describe() == "off (TUNIT_NATIVE=0)"


def norm_arguments(**other):
    """Those of filter_response for one picture of 4 pixels and 16 channels, some replaced."""
    x = torch.randn(1, 2, 2, 16)
    values = {"x": x, "y": torch.empty_like(x), "nu": torch.ones(1, 16), "channels": 16, "eps": 1e-5}
    values |= {name: torch.ones(16) for name in ("gamma", "shift", "tau")}
    values |= other
    shapes = {"x": (1, 2, 2, 16), "y": (1, 2, 2, 16), "nu": (1, 16)}
    tensors = [(values[name], shapes.get(name, (16,))) for name in ("x", "y", "nu", "gamma", "shift", "tau")]
    return *tensors, 1, 4, values["channels"], values["eps"]


@compiled
@pytest.mark.parametrize(
    "other",
    [
        {"x": torch.zeros(1, 2, 2, 15)},  # too small
        {"y": torch.zeros(1, 2, 1, 16)},
        {"nu": torch.zeros(16)},
        {"gamma": torch.ones(16).double()},
        {"shift": torch.ones(16, dtype=torch.int32)},
        {"shift": torch.ones(32)[::2]},  # not contiguous
        {"tau": torch.ones(16, device="meta")},
        {"gamma": None},
        {"channels": 16.0},
        {"eps": torch.ones(16)},
    ],
    ids=str,
)
def test_nothing_but_what_it_asks_for_reaches_c(other):
    with pytest.raises(ValueError, match="of tunit_filter_response"):
        native.call("filter_response", *norm_arguments(**other))


@compiled
def test_the_number_of_arguments_is_checked():
    with pytest.raises(ValueError, match="takes 10 arguments, not 9"):
        native.call("filter_response", *norm_arguments()[:-1])


@compiled
def test_an_integer_stands_for_the_number_it_is():
    """1 in the place of 1.0 is 1.0, not the number whose bits those of 1 are."""
    results = []
    for eps in (1, 1.0):
        arguments = norm_arguments(x=torch.arange(64.0).view(1, 2, 2, 16), eps=eps)
        native.call("filter_response", *arguments)
        results.append(arguments[1][0])
    assert torch.equal(*results)
    assert results[0].abs().max() > 1


@compiled
def test_memory_that_runs_out_in_c_is_an_error(monkeypatch):
    library = SimpleNamespace(tunit_filter_response=lambda *values: 1)
    monkeypatch.setattr(native, "_library", lambda: library)
    with pytest.raises(MemoryError, match="memory ran out in tunit_filter_response"):
        native.call("filter_response", *norm_arguments())
    # monkeypatch takes the fake away before `found_anew` clears the cache of the real one.
    monkeypatch.undo()


def test_a_call_without_compiled_code_says_so(monkeypatch):
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="tunit_filter_response is not compiled here"):
        native.call("filter_response", *norm_arguments())

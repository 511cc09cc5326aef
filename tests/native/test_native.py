"""The compiled code: when it is used, its arguments, and that it never reads an argument as another type."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from tunit import native

compiled = pytest.mark.skipif(not native.is_available(), reason="compiled code is not there, or turned off")


@pytest.fixture(autouse=True)
def found_anew():
    for found in (native._library, native._is_for_another_cpu):
        found.cache_clear()
    yield
    for found in (native._library, native._is_for_another_cpu):
        found.cache_clear()


def test_without_a_compiled_file_there_is_no_library(monkeypatch):
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv(native.SWITCH, raising=False)
    assert not native.is_available()
    assert native.is_missing()
    assert not native.supports(torch.zeros(1, 16, 4, 4))
    assert native.describe() == "not compiled"


@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_a_file_that_cannot_be_loaded_is_not_used(tmp_path, content):
    path = tmp_path / "library.so"
    path.write_bytes(content)
    assert native.load(str(path)) is None


class Library:
    """A stand-in for a compiled library: every function exists; interface version and vector width are given."""

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
def test_a_library_of_another_version_or_cpu_is_not_used(monkeypatch, library, is_taken):
    monkeypatch.setattr(ctypes, "CDLL", lambda path: library)
    assert (native.load("library.so") is not None) == is_taken


@pytest.mark.parametrize(("version", "vectors", "is_missing"), [(0, 0, False), (-1, 0, True), (-1, 8, True)])
def test_on_a_cpu_that_cannot_run_it_nothing_is_missing(monkeypatch, version, vectors, is_missing):
    """A compiler would not help there."""
    library = Library(native.INTERFACE + version, vectors)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: library)
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: SimpleNamespace(origin="library.so"))
    monkeypatch.delenv(native.SWITCH, raising=False)
    assert not native.is_available()
    assert native.is_missing() == is_missing
    assert native.describe() == ("not compiled" if is_missing else "not for this CPU")


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
    """Arguments of filter_response for one picture with 4 pixels and 16 channels; some are replaced."""
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
def test_only_the_expected_arguments_reach_c(other):
    with pytest.raises(ValueError, match="of tunit_filter_response"):
        native.call("filter_response", *norm_arguments(**other))


@compiled
def test_the_number_of_arguments_is_checked():
    with pytest.raises(ValueError, match="takes 10 arguments, not 9"):
        native.call("filter_response", *norm_arguments()[:-1])


@compiled
def test_an_integer_may_be_given_for_a_float():
    """1 is passed as 1.0. Its bits are not read as those of a float."""
    results = []
    for eps in (1, 1.0):
        arguments = norm_arguments(x=torch.arange(64.0).view(1, 2, 2, 16), eps=eps)
        native.call("filter_response", *arguments)
        results.append(arguments[1][0])
    assert torch.equal(*results)
    assert results[0].abs().max() > 1


@compiled
def test_running_out_of_memory_in_c_is_an_error(monkeypatch):
    library = SimpleNamespace(tunit_filter_response=lambda *values: 1)
    monkeypatch.setattr(native, "_library", lambda: library)
    with pytest.raises(MemoryError, match="memory ran out in tunit_filter_response"):
        native.call("filter_response", *norm_arguments())
    # monkeypatch removes the fake before `found_anew` clears the cache of the real function.
    monkeypatch.undo()


def test_a_call_without_compiled_code_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="tunit_filter_response is not compiled here"):
        native.call("filter_response", *norm_arguments())

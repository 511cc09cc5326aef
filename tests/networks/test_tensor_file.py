import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tunit.errors import RunError
from tunit.networks import tensor_file
from tunit.networks.tensor_file import read_about, read_tensors, write_tensors

TENSORS = {
    "weights": torch.arange(12.0).reshape(3, 4),
    "transposed": torch.arange(12.0).reshape(3, 4).T,  # not contiguous
    "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "count": torch.tensor(7),
    "half": torch.randn(5).bfloat16(),
    "empty": torch.zeros(0, 3),
}


def test_a_file_is_read_back_and_other_readers_agree(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {"step": 3, "cursors": {"all": 5}})
    tensors, about = read_tensors(path)
    assert about == {"step": 3, "cursors": {"all": 5}}
    plain = load_file(path)
    for name, value in TENSORS.items():
        assert torch.equal(tensors[name], value)
        assert torch.equal(plain[name], value)
        assert tensors[name].dtype == value.dtype
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_the_system_cannot_read_is_not_called_damaged(tmp_path, monkeypatch, number):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {})

    def fail(path, *args, **kwargs):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "open", fail)
    for read in (read_tensors, read_about):
        with pytest.raises(
            RunError, match=rf"x\.safetensors cannot be read \({os.strerror(number)}\): check its"
        ):
            read(path)


@pytest.mark.parametrize("read", [read_tensors, read_about])
def test_memory_that_runs_out_says_nothing_about_the_file(tmp_path, monkeypatch, read):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {})

    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(tensor_file, "safe_open", fail)
    with pytest.raises(MemoryError):
        read(path)


@pytest.mark.parametrize("read", [read_tensors, read_about])
def test_a_file_of_something_else_is_damaged(tmp_path, read):
    path = tmp_path / "x.safetensors"
    path.write_bytes(bytes(100))
    with pytest.raises(RunError, match=r"is damaged \(.*\): take another checkpoint or train again"):
        read(path)


@pytest.mark.parametrize("place", [0, 4, 40, -1, -30])
def test_any_changed_byte_is_noticed(tmp_path, place):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {"step": 3})
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(bytes(data))
    with pytest.raises(RunError, match="damaged"):
        read_tensors(path)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        read_tensors(tmp_path / "none.safetensors")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(2)}, {})
    with pytest.raises(TypeError):
        write_tensors(path, {"a": torch.zeros(2)}, {"not json": object()})
    assert torch.equal(read_tensors(path)[0]["a"], torch.ones(2))
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]

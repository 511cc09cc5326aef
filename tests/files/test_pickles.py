"""Files of torch.save from unknown sources: tensors are read; everything else is refused with limited time and
memory.
"""

import io
import itertools
import pickle
import struct
import time
import tracemalloc
import zipfile

import pytest
import torch

from tunit.files.pickles import PickleError, RefusedPickle, read_pickle

HEAD = b"\x80\x02"


def zipped(path, program, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
    return path


@pytest.mark.parametrize("newer", [True, False])
def test_tensors_in_containers_are_read_unchanged(tmp_path, newer):
    view = torch.arange(12.0).reshape(3, 4).t()
    state = torch.nn.Linear(3, 2).state_dict()  # an OrderedDict that has an attribute
    content = {
        "view": view, "half": torch.ones(2).bfloat16(), "state": state, "empty": {}, "list": [1, 2.5, None],
        "tuple": (True, "text", -(2**40)), "parameter": torch.nn.Parameter(torch.zeros(2)), 3: {"nested": [{}]},
    }  # fmt: skip
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=newer)
    found = read_pickle(tmp_path / "a.pt")
    assert found.keys() == content.keys()
    assert torch.equal(found["view"], view) and torch.equal(found["half"], content["half"])
    assert list(found["state"]) == list(state) and torch.equal(found["state"]["weight"], state["weight"])
    assert found["list"] == [1, 2.5, None] and found["tuple"] == (True, "text", -(2**40))
    assert found[3] == {"nested": [{}]}


# 0, (0, 0), ((0, 0), (0, 0)), ...: each tuple holds the one before twice, 2^40 parts in total.
DOUBLING = b"K\x01q\x01" + b"".join(
    b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(1, 40)
)
MILLION_DIGITS = b"\x8b" + (400_000).to_bytes(4, "little") + b"\x01" * 400_000

ENDLESS = {
    "a key whose hash takes years": HEAD + b"}" + DOUBLING + b"K\x01s.",
    "a tuple too deep to hash": HEAD + b"}K\x01" + b"\x85" * 500_000 + b"K\x01s.",
    "a number of a million digits": HEAD + b"}K\x01" + MILLION_DIGITS + b"s.",
    "a number beyond 64 bits": HEAD + b"}K\x01\x8a\x0a" + b"\x01" * 10 + b"s.",
    "an array of bytes that is not there": HEAD + b"cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x7f\x85R.",
    "a tensor that is not there": HEAD + b"ctorch\nTensor\n\x8a\x05\x00\x00\x00\x00\x7f\x85R.",
    "a text of many megabytes": HEAD + b"X" + (3 << 20).to_bytes(4, "little") + b"a" * (3 << 20) + b".",
    "an instruction that tensors do not need": HEAD + b"\x8f.",
    "code": HEAD + b"cposix\nsystem\nX\x01\x00\x00\x00xR.",
}  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", ENDLESS)
def test_content_that_would_take_forever_is_refused(tmp_path, case):
    path = zipped(tmp_path / "a.ckpt", ENDLESS[case])
    with pytest.raises(RefusedPickle):
        read_pickle(path)
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps({}, 2))  # a legacy file starts like any pickle
    with pytest.raises(PickleError):
        read_pickle(tmp_path / "b.ckpt")


# (0, 0), ((0, 0), (0, 0)), ...: a tuple of 2^17 zeros in memo 17. The hash of a tuple is computed anew each time.
LARGE = DOUBLING[: DOUBLING.index(b"q\x12") + 2]
FETCH, ZERO = b"h\x12", b"K\x00"


def list_of_one_list(depth):
    """A list in a list in a list ..., each of which was already in the next before it got its own part."""
    numbers = [number.to_bytes(4, "little") for number in range(depth)]
    made = b"".join(b"]r" + number for number in numbers)
    return made + b"".join(b"j" + outer + b"j" + inner + b"a" for outer, inner in itertools.pairwise(numbers))


GROWING = {
    "the same large key again and again": HEAD + LARGE + b"}q\xc8" + (b"h\xc8" + FETCH + b"Ns") * 300_000 + b".",
    "the same key in many dicts": HEAD + LARGE + (b"}" + FETCH + b"Ns") * 300_000 + b".",
    "pairs that get their large key later": (
        HEAD + LARGE + b"]q\xc8](" + b"h\xc8" * 100_000 + b"eq\xc9h\xc8(" + FETCH + b"Ne"
        b"ccollections\nOrderedDict\nh\xc9\x85R."
    ),
    "pairs that contain the list of pairs": (
        HEAD + LARGE + b"]q\xc8(" + FETCH + b"](" + b"h\xc8" * 100_000 + b"eq\xc9e"
        b"ccollections\nOrderedDict\nh\xc9\x85R."
    ),
    "a large shape again and again": (
        HEAD + b"(" + ZERO * 500_000 + b"tq\x12" + (b"ctorch\nSize\n" + FETCH + b"\x85R") * 100_000 + b"."
    ),
    "lists that get deeper and deeper": HEAD + list_of_one_list(100_000) + b".",
}  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", GROWING)
def test_sizes_are_known_even_if_values_grow_later(tmp_path, case):
    """Each of these small files would take minutes to hours if it were read."""
    path = zipped(tmp_path / "a.ckpt", GROWING[case])
    started = time.process_time()
    with pytest.raises(RefusedPickle, match=r"too many|after it was used|several values"):
        read_pickle(path)
    assert time.process_time() - started < 20


def test_lists_in_pieces_and_values_that_occur_twice_are_read(tmp_path):
    """Lists of more than 1,000 values are written in several pieces; values that occur twice only once."""
    betas, names = (0.9, 0.999), [f"name {number}" for number in range(2500)]
    content = {"names": names, "groups": [{"betas": betas, "names": names} for _ in range(100)]}
    torch.save(content, tmp_path / "a.pt")
    assert read_pickle(tmp_path / "a.pt") == content


def test_a_highly_compressed_text_is_not_unpacked(tmp_path):
    size = 64 << 20
    path = zipped(
        tmp_path / "a.ckpt",
        HEAD + b"X" + size.to_bytes(4, "little") + b"a" * size + b".",
        zipfile.ZIP_DEFLATED,
    )
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(RefusedPickle, match="compressed"):
        read_pickle(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 << 20


def test_storages_larger_than_the_file_are_refused(tmp_path):
    """In a legacy file, a tensor that is larger than its storage would make PyTorch enlarge the storage."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer, _use_new_zipfile_serialization=False)
    old, new = b"K\x03\x85q", b"J\x00\x00\x00\x40\x85q"  # the shape (3,) becomes 2^30 numbers
    assert buffer.getvalue().count(old) == 1
    (tmp_path / "a.ckpt").write_bytes(buffer.getvalue().replace(old, new))
    with pytest.raises(PickleError):
        read_pickle(tmp_path / "a.ckpt")


@pytest.mark.parametrize(("before", "after"), [(b"", b"."), (b"]", b"a.")])
def test_a_storage_without_a_tensor_is_counted(tmp_path, before, after):
    """Sixty bytes that ask for a storage of 10^9 bytes."""
    made = b"ctorch.storage\nUntypedStorage\n\x8a\x05" + (10**9).to_bytes(5, "little") + b"\x85R"
    with pytest.raises(RefusedPickle, match="more memory than the file has bytes"):
        read_pickle(zipped(tmp_path / "a.ckpt", HEAD + before + made + after))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # by the calls in this test
def test_storages_of_the_file_are_read(tmp_path):
    tensor = torch.arange(6.0)
    content = {"typed": tensor.storage(), "untyped": tensor.clone().untyped_storage(), "tensor": tensor}
    torch.save(content, tmp_path / "a.pt")
    found = read_pickle(tmp_path / "a.pt")
    assert found["typed"].tolist() == tensor.tolist()
    assert bytes(found["untyped"]) == tensor.numpy().tobytes()


@pytest.mark.parametrize("newer", [True, False])
def test_a_tensor_that_repeats_its_values_is_refused(tmp_path, newer):
    """Copying it would take any amount of memory, although its storage is small."""
    path = tmp_path / "a.ckpt"
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, path, _use_new_zipfile_serialization=newer)
    assert path.stat().st_size < 4096
    with pytest.raises(RefusedPickle, match="repeats values"):
        read_pickle(path)


def test_attributes_that_a_file_adds_to_a_dict_are_dropped(tmp_path):
    # An OrderedDict {1: 2} whose attribute `items` is 5: `state.items()` would fail.
    program = HEAD + b"ccollections\nOrderedDict\n)RK\x01K\x02s}X\x05\x00\x00\x00itemsK\x05sb."
    path = zipped(tmp_path / "a.ckpt", program)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", "little")
    assert torch.load(path, weights_only=True).items == 5
    assert list(read_pickle(path).items()) == [(1, 2)]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("newer", [True, False])
def test_a_truncated_file_is_noticed(tmp_path, newer, share):
    path = tmp_path / "a.ckpt"
    torch.save({"a": torch.zeros(300)}, path, _use_new_zipfile_serialization=newer)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(PickleError):
        read_pickle(path)


def test_an_end_of_a_zip_that_names_several_disks_is_one_error(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"a": torch.zeros(3)}, path)
    whole = path.read_bytes()
    end = whole.rindex(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 2)  # of the 64-bit end, on the second of two disks
    path.write_bytes(whole[:end] + locator + whole[end:])
    with pytest.raises(PickleError):
        read_pickle(path)

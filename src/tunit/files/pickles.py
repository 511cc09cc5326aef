"""The only place where pickles are read: untrusted files of torch.save that hold tensors, numbers and texts.

A pickle is a program. PyTorch's restricted unpickler (`weights_only=True`) runs no code of the file, but a file can
still make it compute or allocate memory without end: with texts compressed a thousand times, keys whose hash takes
years, numbers of a million digits, or storages larger than the file. So the program is checked first, instruction by
instruction. Only what a file of tensors needs is allowed, and the size of the file limits the sizes in it.
"""

import io
import mmap
import pickle
import pickletools
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor, TypedStorage, UntypedStorage

ZIP, LEGACY = b"PK", b"\x80"  # the first bytes of files of torch.save: since PyTorch 1.6, and before
MOST_STEPS = 2_000_000  # instructions; a checkpoint of a thousand tensors has about 30,000
MOST_PARTS = 1_000_000  # the most values inside one value; a value that occurs twice counts twice
MOST_PASSED = 10_000_000  # values that all functions of a pickle get; those of 1,000 tensors get about 50,000
DEEPEST = 64  # values within values
LARGEST_TEXT = 1 << 20  # bytes
LARGEST_DIRECTORY = 64 << 20  # bytes of a zip's list of parts
# The number of pickles in an old file: magic number, protocol, system, content, order of the storages.
LEGACY_PICKLES = 5

# The classes and functions, as module and name, from which torch.save builds tensors.
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped")
KNOWN = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch Size",
    "torch.storage UntypedStorage",
    *(f"torch {kind}Storage" for kind in _STORAGES),
}
_LEAF = """
    NONE NEWTRUE NEWFALSE EMPTY_TUPLE EMPTY_LIST EMPTY_DICT BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE
    SHORT_BINSTRING
"""
_LEAVES = frozenset(_LEAF.split())
# Instruction -> how many values it takes off the stack before it puts one there.
_JOINS = {
    **dict.fromkeys(("TUPLE1", "BINPERSID"), 1),
    **dict.fromkeys(("TUPLE2", "APPEND", "REDUCE", "NEWOBJ", "BUILD"), 2),
    **dict.fromkeys(("TUPLE3", "SETITEM"), 3),
}
_GROWS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}  # the first value gets the others as parts
_CALLS = {"REDUCE", "NEWOBJ", "BUILD", "BINPERSID"}
_JOINS_TO_MARK = {"TUPLE": 0, "APPENDS": 1, "SETITEMS": 1}  # in addition to all values above the mark


class PickleError(Exception):
    """A file cannot be read. The message is the reason, for a sentence that names the file."""


class RefusedPickle(PickleError):
    """A file contains something that tensors do not need, such as a call of a function. It need not be damaged."""


def read_pickle(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU: tensors (memory-mapped, if the file is a zip) in plain containers.

    No code of the file is run, and the file's size limits time and memory. Raises RefusedPickle or PickleError, and
    OSError if the file cannot be opened.
    """
    with path.open("rb") as file:
        start = file.read(2)
        if not start.startswith((ZIP, LEGACY)):
            raise PickleError("it is not a file of torch.save")
        try:
            zipped = zipfile.is_zipfile(file)
            if start.startswith(ZIP) and not zipped:
                raise PickleError("it is truncated: the end of the file is missing")
            if zipped:
                _look_through(io.BytesIO(_program_of(file)))
            else:
                _look_through_legacy(file)
            with warnings.catch_warnings():
                # PyTorch warns of pickles that torch.save did not write; these fail below.
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
            return _Plain(path.stat().st_size).of(content)
        except PickleError:
            raise
        except pickle.UnpicklingError as error:
            raise RefusedPickle(_reason_of_refusal(str(error))) from None
        except Exception as error:  # a damaged pickle can fail in any way
            raise PickleError(str(error).strip().partition("\n")[0][:120] or type(error).__name__) from None


def _program_of(file: IO[bytes]) -> bytes:
    """The pickle in a zip. As in files of torch.save, parts must be uncompressed, and their checksums right."""
    _check_directory(file)
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise RefusedPickle("its parts are compressed, which torch.save never does")
            size = file.seek(0, io.SEEK_END)
            if sum(part.file_size for part in parts) > size:
                raise RefusedPickle("its parts overlap, which torch.save never does")
            damaged = archive.testzip()  # torch.load does not check the checksums
            if damaged is not None:
                raise PickleError(f"the checksum of its part {damaged} differs")
            programs = [part for part in parts if part.filename.endswith("/data.pkl")]
            if len(programs) != 1:
                raise PickleError("it holds no data.pkl of torch.save")
            return archive.read(programs[0])
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, struct.error) as error:
        raise PickleError(str(error)) from None


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a zip whose list of parts would fill the memory: Python needs twenty bytes for each byte of it."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 22))
    end = file.read()
    at = end.rfind(b"PK\x05\x06")
    if at >= 0 and len(end) >= at + 16:
        # The 64-bit record comes right before. If the size here is 0xFFFFFFFF, it is in that record.
        (listed,) = struct.unpack("<I", end[at + 12 : at + 16])
        wide = end.rfind(b"PK\x06\x06", 0, at)
        if listed == 0xFFFFFFFF and wide >= 0 and len(end) >= wide + 48:
            (listed,) = struct.unpack("<Q", end[wide + 40 : wide + 48])
        if listed > LARGEST_DIRECTORY:
            raise RefusedPickle(f"its list of parts takes {listed:,} bytes")


def _look_through_legacy(file: IO[bytes]) -> None:
    file.seek(0)
    try:
        tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except tarfile.TarError:
        pass
    else:
        raise RefusedPickle("it is a tar archive, as PyTorch 0.1 wrote them")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for _ in range(LEGACY_PICKLES):
            _look_through(cast(IO[bytes], data))


@dataclass(slots=True)
class _Size:
    """The size of one value on the stack of a pickle, which grows when the value gets another part."""

    parts: int = 1
    depth: int = 1
    shared: bool = False  # whether it was used once more, so that other sizes contain this one


def _look_through(program: IO[bytes]) -> None:
    """Follow one pickle without building anything: count the values inside each value, and how deep they are nested.

    Raises RefusedPickle for anything that a file of tensors does not contain.
    """
    stack: list[_Size] = []
    marks: list[int] = []
    memo: dict[int, _Size] = {}
    passed = 0
    for steps, (opcode, given, _) in enumerate(pickletools.genops(program)):
        name, argument = opcode.name, cast(Any, given)
        if steps > MOST_STEPS:
            raise RefusedPickle(f"it takes more than {MOST_STEPS:,} instructions to read")
        if name in _LEAVES or name == "GLOBAL":
            _check_argument(name, argument)
            stack.append(_Size())
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            memo[argument].shared = True
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in _JOINS or name in _JOINS_TO_MARK:
            first = len(stack) - _JOINS[name] if name in _JOINS else marks.pop() - _JOINS_TO_MARK[name]
            if first < 0:
                raise PickleError("its instructions do not fit together")
            held = stack[first:]
            joined = _grown(name, held) if name in _GROWS else _made_of(held)
            # A function may go through all parts of its arguments, so the sum counts, not only the largest value.
            passed += joined.parts if name in _CALLS else 0
            if joined.parts > MOST_PARTS or joined.depth > DEEPEST or passed > MOST_PASSED:
                raise RefusedPickle("its values are nested too deep, or are too many")
            stack[first:] = [joined]
        elif name not in ("PROTO", "STOP"):
            raise RefusedPickle(f"it uses {name}, which a file of tensors does not need")


def _made_of(held: list[_Size]) -> _Size:
    """The size of a new value made of these."""
    return _Size(1 + sum(size.parts for size in held), 1 + max((size.depth for size in held), default=0))


def _grown(name: str, held: list[_Size]) -> _Size:
    """The first of these sizes after its value got the other ones as parts."""
    container, *added = held
    if container.shared:  # the sizes of all values that contain it would be too small
        raise RefusedPickle("a value in it changes after it was used, which torch.save never writes")
    if name in ("SETITEM", "SETITEMS") and any(key.parts > 1 for key in added[::2]):
        raise RefusedPickle(
            "a key in it is made of several values, and computing with such keys may take hours"
        )
    container.parts += sum(size.parts for size in added)
    container.depth = max(container.depth, _made_of(added).depth)
    return container


def _check_argument(name: str, argument: Any) -> None:
    if name == "GLOBAL" and argument not in KNOWN:
        raise RefusedPickle(_reason_of_refusal("GLOBAL " + str(argument).replace(" ", ".")[:80]))
    if name == "LONG1" and not -(2**63) <= argument < 2**63 and argument != 0x1950A86A20F9469CFC6C:
        raise RefusedPickle("it holds a number of more than 64 bits")
    if isinstance(argument, str) and len(argument) > LARGEST_TEXT:
        raise RefusedPickle(f"it holds a text of {len(argument):,} characters")


class _Plain:
    """Copies containers into plain ones. This removes attributes that a file may attach to an OrderedDict."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._made: dict[int, Any] = {}
        self._storages: set[int] = set()

    def of(self, value: Any) -> Any:
        """The copy. Raises RefusedPickle for tensors or storages that are larger than what the file holds."""
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            if value.numel() * value.element_size() > storage.nbytes():
                raise RefusedPickle(
                    "it repeats values of a tensor, which would take more memory than the file has"
                )
            self._count(storage)
            return value.detach()
        if isinstance(value, UntypedStorage):
            self._count(value)
        elif isinstance(value, TypedStorage):
            self._count(value._untyped_storage)
        if not isinstance(value, dict | list | tuple):
            return value
        if id(value) not in self._made:
            self._made[id(value)] = None  # for a container that contains itself
            if isinstance(value, dict):
                made: Any = {key: self.of(item) for key, item in dict.items(value)}
            else:
                made = type(value)(map(self.of, value)) if type(value) in (list, tuple) else tuple(value)
            self._made[id(value)] = made
        return self._made[id(value)]

    def _count(self, storage: UntypedStorage) -> None:
        if storage.data_ptr() not in self._storages:
            self._storages.add(storage.data_ptr())
            self._left -= storage.nbytes()
        if self._left < 0:
            raise RefusedPickle("its tensors take more memory than the file has bytes")


def _reason_of_refusal(message: str) -> str:
    """Why PyTorch's restricted unpickler stopped, from its message."""
    found = re.search(r"GLOBAL ([\w.]+)", message)
    if found:
        return f"reading it would run code ({found.group(1)}), which tensors do not need, so nothing of it was run"
    return "it is damaged, or a pickle of something other than tensors"

"""Write tensors to a safetensors file, atomically and with a checksum, and read them. No pickle is involved.

safetensors notices a truncated file; the checksum shows any other damage.
"""

import json
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, dtype, uint8

from tunit.errors import RunError, reason_of
from tunit.files.atomic import replacing, writable
from tunit.files.reading import MissingError, Record, UnreadableError, parse_json
from tunit.printing import shown

LARGEST_HEADER = 8 << 20  # bytes; a thousand tensors take 0.1 MiB
# PyTorch's dtypes by their names in safetensors.
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}
_SYSTEM = re.compile(r"I/O error: (?P<text>.+) \(os error (?P<number>\d+)\)")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON values of `about`; `path` does not change before the new file is complete.

    Raises UnwritableError.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about, sort_keys=True)
    header = {"about": text, "crc32": str(_checksum(plain, text))}
    with writable(path), replacing(path) as partial:
        partial.touch()
        # The user's default permissions for new files; safetensors would make the file readable only by its owner.
        mode = partial.stat().st_mode
        try:
            save_file(plain, partial, metadata=header)
        except SafetensorError as error:
            raise _of_system(error) from None
        partial.chmod(mode)


def _of_system(error: SafetensorError) -> OSError:
    """The system's error that safetensors puts into the text of its own."""
    found = _SYSTEM.search(str(error))
    return OSError(int(found["number"]), found["text"]) if found else OSError(str(error))


# Name -> shape and dtype; None stands for a dtype that tunit never writes.
Kinds = dict[str, tuple[tuple[int, ...], dtype | None]]
Check = Callable[[Record, Kinds], None]


def read_tensors(path: Path, check: Check | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the `about` of a file by `write_tensors`.

    check: called with `about` and the kinds of all tensors before any is read; it raises UnreadableError for a file
    that does not fit. Raises RunError for a file that is missing, unreadable, damaged or does not fit.
    """
    with _reading(path):
        _check_header(path)
        with _plain(path) as plain, safe_open(plain, framework="pt") as file:
            header = file.metadata() or {}
            about = Record(parse_json(header.get("about", "")), "its header")
            names = list(file.keys())
            if check:
                check(about, {name: _kind_of(file.get_slice(name)) for name in names})
            tensors = {name: file.get_tensor(name) for name in names}
        if header.get("crc32") != str(_checksum(tensors, header["about"])):
            raise UnreadableError("its checksum differs")
    return tensors, about.values


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """A context in which a file is read: errors become a RunError of one sentence. A MemoryError stays one: it
    says nothing about the file.
    """
    try:
        yield
    except MissingError:
        raise RunError(f"{path} does not exist: check the run folder") from None
    except OSError as error:  # the system's, which says nothing about the content
        raise RunError(
            f"{path} cannot be read ({reason_of(error)}): check its permissions and its disk"
        ) from None
    except (SafetensorError, ValueError) as error:
        reason = (str(error) or type(error).__name__)[:500]
        raise RunError(f"{path} is damaged ({reason}): take another checkpoint or train again") from None


def read_about(path: Path) -> Record:
    """Only the `about` of a file; its tensors are neither read nor checked. Raises RunError."""
    with _reading(path):
        _check_header(path)
        with _plain(path) as plain, safe_open(plain, framework="pt") as file:
            return Record(parse_json((file.metadata() or {}).get("about", "")), "its header")


def written_checksum(path: Path) -> str:
    """The checksum in the header of a file by `write_tensors`; the tensors are not read. "" if there is none."""
    try:
        _check_header(path)
        with _plain(path) as plain, safe_open(plain, framework="pt") as file:
            return str((file.metadata() or {}).get("crc32", ""))
    except (SafetensorError, ValueError, OSError):
        return ""


def check_kinds(found: Kinds, expected: Mapping[str, Tensor]) -> None:
    """Raises UnreadableError naming the first tensors that are missing, unexpected, or of another shape or dtype."""
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    wrong += [f"{shown(name)} is unexpected" for name in sorted(found.keys() - expected.keys())]
    for name, tensor in expected.items():
        wanted = (tuple(tensor.shape), tensor.dtype)
        if name in found and found[name] != wanted:
            wrong.append(f"{name} is {_words(*found[name])} where {_words(*wanted)} is expected")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UnreadableError(f"it does not fit the run's config: {'; '.join(wrong[:3])}{more}")


def kinds_of(tensors: Mapping[str, Tensor]) -> Kinds:
    """The shape and dtype of each tensor."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _words(shape: tuple[int, ...], kind: dtype | None) -> str:
    return f"{shape} of {str(kind).removeprefix('torch.')}"


def _kind_of(part: Any) -> tuple[tuple[int, ...], dtype | None]:
    """The shape and dtype that safetensors reports for a tensor before it is read."""
    return tuple(part.get_shape()), DTYPES.get(part.get_dtype())


def _check_header(path: Path) -> None:
    """Raise UnreadableError if the header is too long: safetensors would parse a header of any length."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableError("it is not a file")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
    except FileNotFoundError:
        raise MissingError("it does not exist") from None
    if length > LARGEST_HEADER:
        raise UnreadableError(f"its header takes {length:,} bytes")


@contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """The path or, because safetensors can open only paths in UTF-8, a temporary link to it."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        with TemporaryDirectory() as folder:
            link = Path(folder) / "tensors"
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


def _checksum(tensors: Mapping[str, Tensor], about: str) -> int:
    crc = zlib.crc32(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(dtype=uint8).numpy().data, crc)
    return crc

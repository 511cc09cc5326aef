"""Random damage to bytes, to JSON values and to headers of tensor files, with seeds."""

import copy
import io
import json
import random
import tarfile
import warnings
import zipfile
import zlib

import torch

VALUES = (
    None, True, -1, 0, 2**63, 2**200, 1e308, float("nan"), float("inf"), "", "x" * 300, "\udcff", "a\0b", [], [[]],
    {}, {"a": None}, [1] * 50, "../../etc", -(2**63), 0.5,
)  # fmt: skip
PIECES = (
    b"[" * 3000, b"\xff\xfe", b"\0", b"9" * 5000, b"1e999", b'"', b"\n", b"{", b"-", b"../" * 20, b"/etc/passwd",
    b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0" * 64, b"\r", b",", b";", b"\x80\x02",
)  # fmt: skip


def changed(data: bytes, rng: random.Random) -> bytes:
    """The bytes after one to four changes: bytes replaced; the end cut off; a piece repeated, removed or moved."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(data), rng.choice((20, 400, 10**9))) or 1)
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randint(1, 50)] * rng.choice((1, 3, 500))
        elif kind == 3:
            del data[at : at + rng.randint(1, 50)]
        elif kind == 4 and data:
            data[at] ^= 1 << rng.randrange(8)
        else:
            data[at:at] = rng.choice(PIECES)
    return bytes(data)


def spliced(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The beginning of one and the end of the other."""
    return data[: rng.randrange(len(data) or 1)] + other[rng.randrange(len(other) or 1) :]


def places(value, found):
    """Every (container, key) inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        found.append((value, key))
        places(inner, found)
    return found


def swapped(text: str, rng: random.Random) -> bytes:
    """A JSON text with one value replaced or one key removed."""
    value = json.loads(text)
    container, key = rng.choice(places(value, []))
    if rng.random() < 0.2:
        del container[key]
    else:
        container[key] = rng.choice(VALUES)
    return json.dumps(value if rng.random() < 0.95 else rng.choice(VALUES)).encode("utf-8", "replace")


def with_header(data: bytes, rng: random.Random) -> bytes:
    """A file of tensors in which one value of its header, or of the run's description in it, is replaced."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.6 and "about" in header.get("__metadata__", {}):
        header["__metadata__"]["about"] = swapped(header["__metadata__"]["about"], rng).decode()
        text = json.dumps(header).encode()
    else:
        text = swapped(json.dumps(header), rng)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


NAMES = (
    "", "/", ".", "..", "a/", "a\\b.png", "\udcff.png", "x" * 5000, "con", "a\xa0b.png", "-.png", "1.png", "~/1.png",
)  # fmt: skip


def repacked(data: bytes, rng: random.Random) -> bytes:
    """A zip or tar in which a member is damaged or renamed, with correct checksums."""
    members = _members(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(members))
        name, content = members[at]
        if rng.random() < 0.5:
            members[at] = name, changed(content, rng)
        else:
            members[at] = rng.choice(NAMES), content
    return _zip(members, rng) if data.startswith(b"PK") else _tar(members, rng)


def _zip(members: list[tuple[str, bytes]], rng: random.Random) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that occur twice
        method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        with zipfile.ZipFile(out, "w", method) as archive:
            for name, content in members:
                info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode() or "x")
                info.filename = info.filename if name else ""
                archive.writestr(info, content, method)
    return out.getvalue()


def _tar(members: list[tuple[str, bytes]], rng: random.Random) -> bytes:
    out = io.BytesIO()
    kinds = (tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CHRTYPE, b"?")
    with tarfile.open(
        fileobj=out, mode="w", format=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    ) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.type = rng.choice(kinds) if rng.random() < 0.2 else tarfile.REGTYPE
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _members(data: bytes) -> list[tuple[str, bytes]]:
    """The names and contents in a valid archive."""
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [(name, archive.read(name)) for name in archive.namelist()]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = [info for info in archive if info.isreg()]
        return [(info.name, archive.extractfile(info).read()) for info in files]


TENSORS = (
    torch.zeros(()), torch.zeros(0), torch.zeros(2, 2, dtype=torch.bool), torch.zeros(3, dtype=torch.int64),
    torch.zeros(1).expand(1 << 40), torch.full((4,), float("nan")), torch.zeros(2, 0, 3), torch.ones(2).half(),
)  # fmt: skip


def with_values(data: bytes, rng: random.Random) -> bytes:
    """A file of torch.save in which up to three values or keys are replaced. `data` must be trusted and whole."""
    content = copy.copy(torch.load(io.BytesIO(data), weights_only=True))
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(_inside(content))
        new = rng.choice(TENSORS) if rng.random() < 0.5 else rng.choice(VALUES)
        if isinstance(container, dict) and rng.random() < 0.3:
            value = container.pop(key)
            if rng.random() < 0.7:
                container[rng.choice((0, -1, None, "", 2.5, (1, 2), "module.x", True, "a\xa0b"))] = value
        else:
            container[key] = new
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=rng.random() < 0.7)
    return out.getvalue()


def _inside(content) -> list[tuple[object, object]]:
    """Some (container, key) pairs: all at the top, and those below."""
    found, left = [], [content]
    while left:
        value = left.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value))
        found += [(value, key) for key in keys]
        left += [value[key] for key in keys if isinstance(value[key], dict | list) and value[key]]
    return found


def png_mended(data: bytes) -> bytes:
    """A PNG with corrected checksums of its chunks, so that readers reach the changed data."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        body = data[at + 4 : at + 8 + length]
        out += data[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + length
    return out + data[at:]

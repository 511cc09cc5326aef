"""Random damage to bytes, to JSON values and to headers of tensor files, with seeds."""

import json
import random
import zlib

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

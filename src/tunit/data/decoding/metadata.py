"""Remove the metadata of pictures (EXIF, XMP, comments) if it is damaged or larger than a reader accepts.

Everything that influences how the picture looks is kept: pixels, palette, transparency, gamma, significant bits,
orientation, colour profile.
"""

import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_MAX_PROFILE = 8 << 20  # bytes
_PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
# These chunks are kept, too, if their checksums are right and they have at least this many bytes.
_PNG_KEPT_WHOLE = {b"tRNS": 1, b"gAMA": 4, b"sRGB": 1, b"sBIT": 1, b"eXIf": 1}
# The tags of a TIFF that are kept: sizes, bits, compression, strips and tiles, palette, orientation, subsampling,
# profile.
_TIFF_KEPT = {
    *(254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 281, 284, 292, 293, 317, 320, 322, 323),
    *(324, 325, 332, 336, 338, 339, 347, 529, 530, 531, 532, 34675),
}
_WEBP_DROPPED = (b"EXIF", b"XMP ", b"ICCP")


@dataclass
class Bare:
    """A picture's file without metadata, and those metadata that its reader needs."""

    data: bytes
    info: dict[str, Any] = field(default_factory=dict)  # by Pillow's names: icc_profile, exif


def without_metadata(data: bytes) -> Bare | None:
    """The file without metadata; None if it has none, or its format is not known to have any."""
    for magic, strip in _STRIPPERS.items():
        if data.startswith(magic):
            try:
                bare = strip(data)
            except (struct.error, IndexError, ValueError):  # too damaged to be split into its parts
                return None
            return bare if bare.data != data else None
    return None


def significant_bits(data: bytes) -> int | None:
    """How many bits of each value a grey PNG uses, by its chunk sBIT; None without that chunk."""
    for kind, start, end in _png_chunks(data):
        if kind == b"sBIT" and end - start == 13:
            return data[start + 8]
        if kind == b"IDAT":
            break
    return None


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The kind, beginning and end of every chunk; the last chunk may be incomplete."""
    at = 8
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at, end
        at = end


def _strip_png(data: bytes) -> Bare:
    parts = [data[:8]]
    info: dict[str, Any] = {}
    for kind, start, end in _png_chunks(data):
        whole = data[start:end]
        checked = whole[-4:] == zlib.crc32(whole[4:-4]).to_bytes(4, "big")
        long = end - start - 12 >= _PNG_KEPT_WHOLE.get(kind, sys.maxsize)
        if kind in _PNG_KEPT or (long and checked):
            parts.append(whole)
        elif kind == b"iCCP" and (profile := _png_profile(whole[8:-4])):
            info["icc_profile"] = profile
    return Bare(b"".join(parts), info)


def _png_profile(body: bytes) -> bytes | None:
    packed = body.partition(b"\0")[2][1:]
    try:
        return zlib.decompressobj().decompress(packed, _MAX_PROFILE)
    except zlib.error:
        return None


def _strip_jpeg(data: bytes) -> Bare:
    parts, at = [data[:2]], 2
    info: dict[str, Any] = {}
    profile: dict[int, bytes] = {}
    while data[at] == 0xFF and data[at + 1] != 0xDA:  # to the first scan
        if data[at + 1] == 0xFF:  # a filling byte
            at += 1
            continue
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body, whole = data[at + 4 : at + 2 + size], data[at : at + 2 + size]
        at += 2 + size
        if body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
        elif body.startswith(b"Exif\0") and marker == 0xE1:
            info.setdefault("exif", body)
        is_remark = 0xE0 <= marker <= 0xEF or marker == 0xFE
        # These two tell the decoder how colours are stored.
        says_colours = body.startswith(b"JFIF\0") and len(body) >= 14
        says_colours |= marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
        if says_colours or not is_remark:
            parts.append(whole)
    if profile:
        info["icc_profile"] = b"".join(profile[number] for number in sorted(profile))
    return Bare(b"".join([*parts, data[at:]]), info)


def _strip_tiff(data: bytes) -> Bare:
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    kept = [e for e in entries if len(e) == 12 and struct.unpack_from(order + "H", e)[0] in _TIFF_KEPT]
    if len(kept) == count:
        return Bare(data)
    table = struct.pack(order + "H", len(kept)) + b"".join(kept) + bytes(4)  # no further page
    return Bare(data[:at] + table + data[at + len(table) :])


def _strip_webp(data: bytes) -> Bare:
    if data[8:12] != b"WEBP":
        return Bare(data)
    parts, at = [], 12
    info: dict[str, Any] = {}
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        whole = data[at : at + 8 + size + size % 2]
        at += len(whole)
        if kind == b"VP8X" and len(whole) > 8:
            whole = whole[:8] + bytes([whole[8] & ~0x2C]) + whole[9:]  # no profile, EXIF or XMP
        if kind == b"ICCP":
            info["icc_profile"] = whole[8 : 8 + size]
        elif kind == b"EXIF":
            info.setdefault("exif", whole[8 : 8 + size])
        if kind not in _WEBP_DROPPED:
            parts.append(whole)
    body = b"WEBP" + b"".join(parts)
    return Bare(b"RIFF" + len(body).to_bytes(4, "little") + body, info)


_STRIPPERS: dict[bytes, Callable[[bytes], Bare]] = {
    b"\x89PNG\r\n\x1a\n": _strip_png,
    b"\xff\xd8\xff": _strip_jpeg,
    b"II*\0": _strip_tiff,
    b"MM\0*": _strip_tiff,
    b"RIFF": _strip_webp,
}

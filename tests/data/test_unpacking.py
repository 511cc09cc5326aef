"""Unpacking returns what was packed, with limited memory and CPU time for any input."""

import bz2
import gzip
import io
import itertools
import lzma
import os
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tunit.data.decoding.bounds import SECONDS
from tunit.data.decoding.decode import PictureError
from tunit.data.finding import archives, members, unpacking
from tunit.data.finding.archives import close_archives, list_archive
from tunit.data.finding.find import find_pictures
from tunit.data.finding.unpacking import (
    Inflater,
    OutOfTimeError,
    Unpacking,
    bzip2_stream,
    gzip_stream,
    lzma_stream,
    xz_stream,
)

CONTENT = random.Random(0).randbytes(70_000) + bytes(300_000) + b"end" * 50_000
STREAMS = {
    "gzip": (gzip.compress, gzip_stream),
    "bzip2": (bz2.compress, bzip2_stream),
    "xz": (lzma.compress, xz_stream),
}


class Clock:
    """A clock that moves only when a test sets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (archives, members, unpacking):
        monkeypatch.setattr(module, "thread_time", clock)
    return clock


@pytest.mark.parametrize("kind", STREAMS)
def test_any_sequence_of_reads_and_seeks_gives_the_original_content(kind: str) -> None:
    pack, stream = STREAMS[kind]
    half = len(CONTENT) // 2
    packed = (
        pack(CONTENT[:half]) + pack(b"") + pack(CONTENT[half:]) + bytes(1000)
    )  # two streams, an empty one between them, padding
    file = Unpacking(io.BytesIO(b"before" + packed), stream, begin=6)
    rng, place = random.Random(1), 0
    for _ in range(60):
        if rng.random() < 0.5:
            place = rng.randrange(len(CONTENT) + 100)
            assert file.seek(place) == min(place, len(CONTENT))
        size = rng.choice((1, 100, 70_000))
        piece = file.read(size)
        place = file.tell()
        assert piece == CONTENT[place - len(piece) : place]
        assert len(piece) > 0 or place == len(CONTENT)
    assert file.seek(0) == 0
    assert io.BufferedReader(file).read() == CONTENT


@pytest.mark.parametrize("kind", STREAMS)
def test_a_truncated_or_damaged_stream_raises_an_error_each_time(kind: str) -> None:
    pack, stream = STREAMS[kind]
    packed = pack(CONTENT)
    cut = io.BufferedReader(Unpacking(io.BytesIO(packed), stream, length=len(packed) - 20))
    for _ in range(2):  # the second call must fail too
        with pytest.raises(EOFError):
            cut.read()
    wrong = Unpacking(io.BytesIO(packed[:-9] + bytes([packed[-9] ^ 1, *packed[-8:]])), stream)
    with pytest.raises((OSError, zlib.error, lzma.LZMAError, EOFError)):
        io.BufferedReader(wrong).read()


def deflate(content: bytes) -> bytes:
    maker = zlib.compressobj(6, zlib.DEFLATED, -15)
    return maker.compress(content) + maker.flush()


def lzma_alone(content: bytes) -> bytes:
    return lzma.compress(content, lzma.FORMAT_ALONE)[13:]  # after its properties and the size


EVERY_STREAM = {
    **STREAMS,
    "deflate": (deflate, partial(Inflater, -15)),
    "lzma": (lzma_alone, partial(lzma_stream, lzma.compress(b"", lzma.FORMAT_ALONE)[:5])),
}


@pytest.mark.parametrize("kind", EVERY_STREAM)
@pytest.mark.parametrize("colour", [(0,), (40, 90, 200)])
def test_plain_pictures_a_little_larger_than_a_piece_are_complete(
    kind: str, colour: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bytes may be held by the decompressor, with no packed bytes left."""
    pack, stream = EVERY_STREAM[kind]
    monkeypatch.setattr(members, "_PIECE", 1 << 12)
    for size in (*range((1 << 12) - 30, (1 << 12) + 300, 7), *range((2 << 12) - 30, (2 << 12) + 300, 7)):
        content = bytes(itertools.islice(itertools.cycle(colour), size))
        packed = pack(content)
        assert members.read_exactly(Unpacking(io.BytesIO(packed), stream, 0, len(packed)), size) == content


def test_a_plain_picture_in_a_zip_is_complete(tmp_path: Path) -> None:
    content = b"P6\n528 662\n255\n" + bytes((40, 90, 200)) * (528 * 662)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.ppm", content)
    (picture,) = find_pictures(tmp_path / "a.zip").pictures
    assert picture.read() == content
    close_archives()


def test_raw_deflate_equals_zlib() -> None:
    packed = deflate(CONTENT)
    assert io.BufferedReader(Unpacking(io.BytesIO(packed), lambda: Inflater(-15))).read() == CONTENT


def test_millions_of_empty_streams_are_stopped_in_time(clock: Clock) -> None:
    """They produce no output, so the reader must check the clock within a single call."""

    def slow() -> unpacking.Decompressor:
        clock.now += 1
        return gzip_stream()

    opened = itertools.count()
    file = Unpacking(io.BytesIO(gzip.compress(b"") * 1000), lambda: (next(opened), slow())[1])
    with pytest.raises(OutOfTimeError, match="unpacking it takes more than 10 s of CPU time"):
        file.read(1)
    assert next(opened) == SECONDS + 1
    with pytest.raises(OutOfTimeError):
        file.seek(0, os.SEEK_CUR) or file.read(1)


def test_the_time_limit_grows_with_the_packed_bytes(clock: Clock) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            clock.now += len(data) / 0.9e6  # a little faster than the slowest allowed rate
            return data

    content = random.Random(0).randbytes(20_000_000)
    assert io.BufferedReader(Unpacking(Slow(gzip.compress(content, 0)), gzip_stream)).read() == content
    assert clock.now > 2 * SECONDS


# Members


class SlowMember(io.RawIOBase):
    """Returns zeros without end; each piece takes a second."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def read(self, size: int = -1) -> bytes:
        self.clock.now += 1
        return bytes(min(size, 1000))


def test_a_member_that_takes_too_long_is_left_out(clock: Clock) -> None:
    assert members.read_exactly(SlowMember(clock), 9000) == bytes(9000)
    with pytest.raises(PictureError, match="too slow: unpacking it takes more than 10 s of CPU time"):
        members.read_exactly(SlowMember(clock), 500_000_000)
    assert clock.now == 9 + SECONDS + 1


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40)).save(file, "PNG")
    return file.getvalue()


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@pytest.mark.parametrize("method", METHODS)
def test_members_of_every_method_are_complete_or_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.png", CONTENT)
        archive.writestr("picture", png())  # recognised by its first bytes
    good = (tmp_path / "a.zip").read_bytes()
    assert [p.read() for p in find_pictures(tmp_path / "a.zip").pictures] == [CONTENT, png()]
    close_archives()
    at = good.index(b"a.png") + 60_000
    (tmp_path / "b.zip").write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    damaged, _ = find_pictures(tmp_path / "b.zip").pictures
    with pytest.raises(PictureError):
        damaged.read()
    close_archives()


@pytest.mark.parametrize("method", METHODS[2:])
def test_a_small_piece_of_a_bomb_takes_little_memory(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("bomb", bytes(40_000_000))
    member = archives._zip_member(tmp_path / "a.zip", zipfile.ZipFile(tmp_path / "a.zip").infolist()[0])
    tracemalloc.start()
    assert member.head() == bytes(16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    close_archives()
    assert peak < 15_000_000


def test_an_lzma_member_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", png())
    data = bytearray((tmp_path / "a.zip").read_bytes())
    # they follow the name, LZMA's version and the size of its properties
    at = data.index(b"a.png") + 5 + 4 + 1
    data[at : at + 4] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(data)
    (picture,) = find_pictures(tmp_path / "a.zip").pictures
    with pytest.raises(PictureError, match=r"[Mm]emory usage limit"):
        picture.read()
    close_archives()


def test_an_unknown_method_is_reported_by_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", png())
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for magic, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        at = data.index(magic) + place
        data[at : at + 2] = (9).to_bytes(2, "little")
    (tmp_path / "a.zip").write_bytes(data)
    (picture,) = find_pictures(tmp_path / "a.zip").pictures
    with pytest.raises(PictureError, match="packed by deflate64, which is not supported: unpack the archive"):
        picture.read()
    close_archives()


# Listing the members of archives


def test_a_tar_that_takes_too_long_to_list_is_read_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name, size in (("a.png", 10), ("b.png", 3_000_000), ("c.png", 10)):
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
    whole = Inflater.decompress

    def slow(stream: Inflater, data: bytes, max_length: int = -1) -> bytes:
        clock.now += 1
        return whole(stream, data, max_length)

    monkeypatch.setattr(Inflater, "decompress", slow)
    entries = list_archive(tmp_path / "a.tar.gz", "tar")
    assert [entry.name for entry in entries if entry.member] == ["a.png", "b.png"]
    assert entries[-1].reason == "too slow"
    assert "cannot be read after b.png (unpacking it takes more than 10 s" in entries[-1].detail


def test_a_zip_that_takes_too_long_to_list_is_read_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(30):
            archive.writestr(f"{number:02d}", png())
    fast = archives.ZipMember.head

    def slow(member: archives.ZipMember) -> bytes:
        clock.now += 1
        return fast(member)

    monkeypatch.setattr(archives.ZipMember, "head", slow)
    entries = list_archive(tmp_path / "a.zip", "zip")
    assert [entry.name for entry in entries if entry.member] == [f"{n:02d}" for n in range(10)]
    assert [(entry.reason, entry.detail) for entry in entries if not entry.member] == [
        ("too slow", "the archive is not read after 10: unpacking it takes more than 10 s of CPU time")
    ]
    close_archives()


@pytest.mark.parametrize("end", [b"", bytes(1024)])
def test_a_tar_with_a_damaged_header_reports_missing_members(tmp_path: Path, end: bytes) -> None:
    blocks = []
    for name in ("a.png", "b.png", "c.png"):
        info = tarfile.TarInfo(name)
        info.size = 300
        blocks += [info.tobuf(), b"x" * 300 + bytes(212)]
    (tmp_path / "a.tar").write_bytes(b"".join(blocks) + end)
    names = [entry.name for entry in list_archive(tmp_path / "a.tar", "tar")]
    assert names == ["a.png", "b.png", "c.png"]
    blocks[2] = b"?" + blocks[2][1:]  # its checksum is wrong now
    (tmp_path / "b.tar").write_bytes(b"".join(blocks) + end)
    first, rest = list_archive(tmp_path / "b.tar", "tar")
    assert first.member
    assert "the archive cannot be read after a.png (a damaged header)" in rest.detail


def test_a_zip_that_lists_one_member_many_times_costs_little(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0000.png", png())
    data = file.getvalue()
    begin = data.index(b"PK\1\2")
    entries = b"".join(data[begin : begin + 46] + b"%04d.png" % number for number in range(3000))
    tail = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 3000, 3000, len(entries), begin, 0)
    (tmp_path / "a.zip").write_bytes(data[:begin] + entries + tail)
    found = find_pictures(tmp_path / "a.zip")
    assert len(found.pictures) == 16
    assert {(item.reason, item.detail) for item in found.left_out} == {
        ("decompression bomb", "more than 16 members share the same bytes, as in a decompression bomb")
    }
    assert len(found.left_out) == 2984
    close_archives()

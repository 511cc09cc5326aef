"""Hostile pictures and archives cost limited time and memory and end with a reason; nothing hangs."""

import io
import os
import random
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, WebPImagePlugin

from tunit.data.decoding import workers
from tunit.data.decoding.decode import PictureError, decode_scaled
from tunit.data.decoding.workers import close_workers, in_worker
from tunit.data.finding import members, tars, zips
from tunit.data.finding.find import find_pictures
from tunit.data.finding.found import DiskFile, PictureSource
from tunit.data.packing import squares
from tunit.data.packing.squares import Squaring, fitted, picture_size
from tunit.errors import DataError, TunitError

SECONDS = float(os.environ.get("TUNIT_FUZZ_SECONDS", "12"))


def noise(seed: int = 0, side: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def put(path: Path, data: bytes) -> PictureSource:
    path.write_bytes(data)
    return PictureSource(path.name, None, DiskFile(path))


def with_time(seconds: float) -> Squaring:
    """Settings for fitting, with this limit on the CPU time of each picture."""
    return Squaring(32, seconds=seconds)


def scans(number: int, side: int) -> bytes:
    """A JPEG that repeats its last scan many times."""
    data = encode(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * number + data[-2:]


@pytest.mark.parametrize(
    "data",
    [b"P5\n" + b"#x\n" * 5_000_000 + b"40 40\n255\n" + bytes(1600), scans(3000, 800)],
    ids=["15 MB of comments", "3000 scans"],
)
def test_a_picture_that_takes_too_long_is_left_out(tmp_path: Path, data: bytes) -> None:
    source = put(tmp_path / "a", data)
    with pytest.raises(PictureError, match=r"too slow: decoding it takes more than 0.2 s of CPU time"):
        fitted(source, with_time(0.2))
    assert fitted(put(tmp_path / "b.png", encode(noise(), "PNG")), with_time(10)).picture_size == (40, 40)


def test_a_webp_of_34_bytes_that_claims_gigabytes_is_refused_by_its_header(monkeypatch) -> None:
    decoded, load = [], WebPImagePlugin.WebPImageFile.load

    def recording(image: Image.Image) -> object:
        decoded.append(image.size)
        return load(image)

    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "load", recording)
    decode_scaled(encode(noise(), "WEBP"), 32)
    assert set(decoded) == {(40, 40)}
    head = struct.pack("<BI", 0x2F, 16383 | 16383 << 14)  # 16384 x 16384
    data = b"RIFF" + struct.pack("<I", 26) + b"WEBPVP8L" + struct.pack("<I", 14) + head + bytes(9)
    assert len(data) == 34
    with pytest.raises(PictureError, match="16384 x 16384 pixels"):
        decode_scaled(data, 32)
    assert set(decoded) == {(40, 40)}  # the large one was not decoded


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux")
def test_memory_over_the_limit_is_a_reason(tmp_path: Path) -> None:
    large = put(tmp_path / "a.png", encode(Image.new("RGBA", (3000, 3000)), "PNG"))
    with pytest.raises(PictureError, match="too large"):
        fitted(large, Squaring(32, max_pixels=9_000_000, memory=1 << 23))
    assert fitted(large, Squaring(32)).picture_size == (3000, 3000)


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    close_workers()
    monkeypatch.setattr(workers, "_startable", True)
    monkeypatch.setattr(workers.subprocess, "Popen", refuse)


def test_missing_worker_processes_are_reported_once(
    no_workers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [in_worker(abs, -1), in_worker(abs, -2)] == [1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert (
        "no worker process can be started (Resource temporarily unavailable), so pictures are decoded"
        in lines[0]
    )


def test_without_worker_processes_large_pictures_are_left_out(
    no_workers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process nothing could stop a decoder, so it gets small pictures only."""
    monkeypatch.setattr(squares, "ALONE_PIXELS", 2000)
    monkeypatch.setattr(squares, "ALONE_BYTES", 10_000)
    small = put(tmp_path / "a.png", encode(noise(side=44), "PNG"))
    wide = put(tmp_path / "b.png", encode(noise(side=45), "PNG"))
    long = put(tmp_path / "c.pgm", b"P5\n" + b"#x\n" * 5000 + b"40 40\n255\n" + bytes(1600))
    how = Squaring(32, max_pixels=1 << 40)
    assert fitted(small, how).picture_size == picture_size(small) == (44, 44)
    with pytest.raises(PictureError, match="45 x 45 pixels, at most 2,000"):
        fitted(wide, how)
    for use in (lambda: fitted(long, how), lambda: picture_size(long)):
        with pytest.raises(
            PictureError, match="at most 10,000 are allowed if no worker process can be started"
        ):
            use()


# Archives


def test_a_zip_with_too_many_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(50):
            archive.writestr(f"{number}.png", b"x")
    assert len(find_pictures(tmp_path / "a.zip").pictures) == 50
    monkeypatch.setattr(zips, "_MAX_DIRECTORY", 2000)
    with pytest.raises(DataError, match="too many members for one archive: unpack it into a folder"):
        find_pictures(tmp_path / "a.zip")


def test_overlapping_members_are_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip in which many entries point at the same data."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(100_000))
    data = file.getvalue()
    begin = data.find(b"PK\1\2")
    head = data[begin : begin + 46]
    entries = b"".join(head + b"%d.png" % number for number in range(9))
    tail = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 9, 9, len(entries), begin, 0)
    (tmp_path / "a.zip").write_bytes(data[:begin] + entries + tail)
    monkeypatch.setattr(tars, "_FREE", 450_000)
    found = find_pictures(tmp_path / "a.zip")
    assert len(found.pictures) == 4
    assert {item.reason for item in found.left_out} == {"decompression bomb"}
    assert len(found.left_out) == 5


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_tar_that_unpacks_to_too_much_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with tarfile.open(tmp_path / f"a.tar.{kind}", f"w:{kind}") as archive:  # type: ignore[call-overload]
        for name, data in (("a.png", b"x"), ("bomb.txt", bytes(3_000_000)), ("b.png", b"x")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(tars, "_FREE", 1 << 20)
    found = find_pictures(tmp_path / f"a.tar.{kind}")
    assert [picture.name for picture in found.pictures] == ["a.png"]
    assert [item.reason for item in found.left_out] == ["decompression bomb"]


def test_a_tar_with_huge_headers_is_not_read_into_memory(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"comment": "x" * 8_000_000}
        archive.addfile(info)
    with pytest.raises(DataError, match="a header of 8,"):
        find_pictures(tmp_path / "a.tar")


def test_a_member_larger_than_any_picture_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(100_000))
    (picture,) = find_pictures(tmp_path / "a.zip").pictures
    monkeypatch.setattr(members, "MAX_MEMBER", 99_999)
    with pytest.raises(PictureError, match="100,000 bytes unpacked, at most 99,999 allowed"):
        picture.read()


# Not regular files


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_pipes_devices_and_folders_named_as_pictures_do_not_hang(tmp_path: Path) -> None:
    root = tmp_path / "p"
    (root / "folder.png").mkdir(parents=True)
    put(root / "good.png", encode(noise(), "PNG"))
    for name in ("pipe.png", "pipe", "pipe.zip", "pipe.csv"):
        os.mkfifo(root / name)
    (root / "device.png").symlink_to("/dev/zero")
    found = find_pictures(root)
    assert [picture.name for picture in found.pictures] == ["good.png"]
    assert {item.name: item.detail for item in found.left_out} == dict.fromkeys(
        ("pipe.png", "device.png"), "neither a file nor a folder"
    )
    with pytest.raises(DataError, match=r"pipe\.png is not a regular file"):
        find_pictures(root / "pipe.png")
    (tmp_path / "list.txt").write_text("p/good.png\np/pipe.png\n")
    assert [item.name for item in find_pictures(tmp_path / "list.txt").left_out] == ["p/pipe.png"]


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n",
        b"%PDF-1.4\n",
        b"<svg/>",
        b"8BPS\0\1",
        encode(noise(), "JPEG2000") if "JPEG2000" in Image.SAVE else b"\0\0\0\x0cjP  ",
        encode(noise(), "ICO"),
    ],
    ids=["eps", "pdf", "svg", "psd", "jp2", "ico"],
)
def test_other_formats_named_png_are_never_given_to_their_readers(data: bytes) -> None:
    with pytest.raises(
        PictureError, match="unreadable: not a JPEG, PNG, WebP, AVIF, BMP, TIFF, GIF or PPM picture"
    ):
        decode_scaled(data, 32)


# Random damage


def seeds() -> dict[str, bytes]:
    image = noise(side=24)
    files = {kind: encode(image, kind) for kind in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM")}
    exif = Image.Exif()
    exif[0x0112] = 6
    files["JPEG of scans"] = encode(image, "JPEG", progressive=True, exif=exif)
    files["TIFF packed"] = encode(image.convert("L"), "TIFF", compression="tiff_lzw")
    files["TIFF floats"] = encode(image.convert("F"), "TIFF")
    files["PNG palette"] = encode(image.quantize(16), "PNG", transparency=3)
    files["PNG of 16 bits"] = encode(Image.fromarray(np.arange(576, dtype=np.uint16).reshape(24, 24)), "PNG")
    return files


def archives_of(files: dict[str, bytes]) -> dict[str, bytes]:
    packed = {}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name in ("PNG", "PPM"):
                archive.writestr(f"{name}.png", files[name])
        packed[f"zip {method}"] = file.getvalue()
    for kind in ("", "gz", "bz2", "xz"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=f"w:{kind}") as tar:  # type: ignore[call-overload]
            for name in ("PNG", "PPM"):
                # a long name, so that there are headers of more than one kind
                info = tarfile.TarInfo(f"{name}{'x' * 150}.png")
                info.size = len(files[name])
                tar.addfile(info, io.BytesIO(files[name]))
        packed[f"tar {kind}"] = file.getvalue()
    return packed


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to four changes: bytes and integers replaced; a piece cut out, repeated or removed. Checksums are
    corrected.
    """
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(min(len(out), rng.choice((30, 200, 10**9))) or 1)
        kind = rng.randrange(6)
        if kind < 2:
            out[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 2:
            number = rng.choice((0, 1, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1))
            out[at : at + 4] = number.to_bytes(4, rng.choice(("little", "big")))
        elif kind == 3:
            out[at:at] = out[at : at + rng.randint(1, 60)] * rng.choice((1, 3, 300))
        elif kind == 4:
            del out[at : at + rng.randint(1, 60)]
        elif rng.random() < 0.3:
            del out[at:]
    if out.startswith(b"\x89PNG"):  # otherwise a reader stops at the checksum
        at = 8
        while at + 12 <= len(out):
            end = at + 8 + int.from_bytes(out[at : at + 4], "big")
            out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big") if end < len(out) else b""
            at = end + 4
    return bytes(out)


def test_no_damage_to_a_picture_or_an_archive_gives_a_traceback(tmp_path: Path) -> None:
    pictures = seeds()
    files = {**pictures, **archives_of(pictures)}
    names = sorted(files)
    seed = first = int(time.time()) if "TUNIT_FUZZ_SECONDS" in os.environ else 0
    end = time.monotonic() + SECONDS
    how = Squaring(16, max_pixels=1 << 20, opacity=True)
    while time.monotonic() < end or seed < first + 2 * len(names):
        rng = random.Random(seed)
        name = names[seed % len(names)]
        path = tmp_path / f"{seed}.{'png' if name in pictures else name.split()[0]}"
        path.write_bytes(damaged(files[name], rng))
        began = time.process_time()  # not the clock on the wall: the machine may be busy, or stand still
        try:
            for picture in find_pictures(path).pictures:
                try:
                    assert fitted(picture, how).pixels.shape == (16, 16, 3)
                except PictureError as error:
                    assert error.reason and len(error.detail) < 1000, seed
        except TunitError as error:
            assert len(str(error)) < 3000, seed
        except Exception as error:
            raise AssertionError(f"seed {seed}: {name} ends in {type(error).__name__}: {error}") from error
        assert time.process_time() - began < 60, (seed, name)
        path.unlink()
        seed += 1

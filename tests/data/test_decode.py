"""Decoding: every format and mode, compared with values computed by hand or by NumPy; bad files are refused."""

import io
import pickle
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features
from sklearn.datasets import load_sample_images

from tunit.data.decoding.decode import (
    MAX_PIXELS,
    PictureError,
    decode_picture,
    decode_scaled,
    layers_of,
    looks_like_picture,
)
from tunit.data.packing.fit import fit_picture

Pixels = NDArray[np.uint8]


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> Pixels:
    """A picture without details that JPEG or scaling would lose: two slow waves and a ramp."""
    y, x = np.mgrid[0:height, 0:width]
    bands = [np.sin(x / width * 7), np.cos(y / height * 5), x / width * 2 - 1]
    return np.stack([np.round(127.5 * (1 + band)) for band in bands], axis=2).astype(np.uint8)


def decoded(data: bytes, **options: Any) -> Pixels:
    image = decode_picture(data, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


def reason_of(data: bytes, at_least: int | None = None, **options: Any) -> str:
    with pytest.raises(PictureError) as caught:
        decode_scaled(data, at_least, **options) if at_least else decode_picture(data, **options)
    return caught.value.reason


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written from the specification, without Pillow."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    pixels = noise(13, 17)
    assert np.array_equal(decoded(encode(Image.fromarray(pixels), kind)), pixels)


def test_lossless_webp_keeps_every_pixel() -> None:
    pixels = noise(13, 17)
    assert np.array_equal(decoded(encode(Image.fromarray(pixels), "WEBP", lossless=True)), pixels)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_stay_close(kind: str) -> None:
    pixels = smooth(60, 80)
    result = decoded(encode(Image.fromarray(pixels), kind, quality=95))
    assert np.abs(result.astype(int) - pixels).mean() < 2


def test_the_first_frame_of_an_animation_is_used() -> None:
    red, blue = (Image.new("RGB", (20, 18), colour) for colour in ("red", "blue"))
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        data = encode(red, kind, save_all=True, append_images=[blue])
        assert np.abs(decoded(data).astype(int) - (255, 0, 0)).max() <= 3, kind


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read_with_its_transparency_upright_and_its_first_frame() -> None:
    whole = np.dstack([smooth(40, 60), np.tile(np.uint8([0] * 30 + [255] * 30), (40, 1))])
    exif = Image.Exif()
    exif[0x0112] = 6  # after a turn to the right it is upright
    data = encode(Image.fromarray(whole), "AVIF", quality=95, subsampling="4:4:4", exif=exif)
    result = decode_scaled(data, 8, background=(9, 99, 0), opacity=True)
    assert result.size == result.image.size == (40, 60)
    upright = np.rot90(whole, -1)
    assert np.abs(np.asarray(result.image)[31:].astype(int) - upright[31:, :, :3]).mean() < 3
    assert np.abs(np.asarray(result.image)[:29].astype(int) - (9, 99, 0)).max() <= 2
    assert result.opacity is not None
    assert (np.asarray(result.opacity.image())[31:] == 255).all()
    assert not result.animated
    red, blue = (Image.new("RGB", (20, 18), colour) for colour in ("red", "blue"))
    animation = encode(red, "AVIF", save_all=True, append_images=[blue])
    assert np.abs(decoded(animation).astype(int) - (255, 0, 0)).max() <= 5
    assert looks_like_picture(data[:16]) and looks_like_picture(animation[:16])
    assert reason_of(data[:-100]) in ("truncated", "unreadable")
    assert reason_of(data, max_pixels=40 * 60 - 1) == "decompression bomb"


@pytest.mark.parametrize(("kind", "number"), [("GIF", 2), ("PNG", 2), ("WEBP", 2), ("TIFF", 1), ("MPO", 1)])
def test_animations_are_recognised(kind: str, number: int) -> None:
    """Further pages of a TIFF, and the second picture in a phone's JPEG, do not count as animation."""
    pages = [Image.fromarray(noise(20, 18, seed)) for seed in range(2)]
    data = encode(pages[0], kind, save_all=True, append_images=pages[1:])
    assert decode_scaled(data, 8).animated == (number > 1)
    assert not decode_scaled(encode(pages[0], "JPEG" if kind == "MPO" else kind), 8).animated


HEIC = struct.pack(">I", 28) + b"ftypheic" + bytes(4) + b"mif1heicmiaf" + bytes(500)


def test_heic_without_its_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for data in (HEIC, HEIC.replace(b"ftypheic", b"ftypmif1")):
        assert looks_like_picture(data[:16])
        with pytest.raises(PictureError, match=r"unreadable: a HEIC picture, .*: pip install pillow-heif$"):
            decode_picture(data)


def test_heic_with_its_package_is_read_like_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package registers the format with Pillow. It is loaded when the first HEIC picture is read, not before."""
    package, asked = ModuleType("pillow_heif"), []

    def register_heif_opener(**options: object) -> None:
        asked.append(options)
        Image.register_open("HEIF", lambda file, name: Image.fromarray(smooth(30, 40)))

    package.register_heif_opener = register_heif_opener  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    decoded(encode(Image.fromarray(smooth(30, 40)), "PNG"))
    assert asked == []
    assert (decoded(HEIC) == smooth(30, 40)).all()
    assert len(asked) == 1


def test_a_jpeg_with_a_second_picture_after_it_is_read() -> None:
    first, second = Image.fromarray(smooth(40, 40)), Image.new("RGB", (40, 40))
    data = encode(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert np.abs(decoded(data).astype(int) - smooth(40, 40)).mean() < 2


def test_grey_and_bilevel_become_three_equal_channels() -> None:
    grey = noise(9, 11)[:, :, 0]
    assert np.array_equal(decoded(encode(Image.fromarray(grey), "PNG")), np.stack([grey] * 3, axis=2))
    bits = grey > 127
    expected = np.stack([bits * np.uint8(255)] * 3, axis=2)
    assert np.array_equal(decoded(encode(Image.fromarray(bits), "PNG")), expected)


def composite(colour: NDArray[Any], alpha: NDArray[Any], background: tuple[int, int, int]) -> NDArray[Any]:
    """By definition: alpha * colour + (1 - alpha) * background."""
    share = alpha[:, :, None] / 255
    return share * colour + (1 - share) * np.array(background)


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 90)])
def test_transparency_is_laid_on_the_background(background: tuple[int, int, int]) -> None:
    colour, alpha = noise(16, 16), noise(16, 16, seed=1)[:, :, 0]
    data = encode(Image.fromarray(np.dstack([colour, alpha])), "PNG")
    assert np.abs(decoded(data, background=background) - composite(colour, alpha, background)).max() <= 1
    grey = np.repeat(colour[:, :, :1], 3, axis=2)
    data = encode(Image.fromarray(np.dstack([grey[:, :, 0], alpha])), "PNG")
    assert np.abs(decoded(data, background=background) - composite(grey, alpha, background)).max() <= 1


def test_a_palette_with_transparent_entries_is_laid_on_the_background() -> None:
    # Entry 0 is opaque red, entry 1 transparent green, entry 2 half-transparent blue.
    extra = png_chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]))
    extra += png_chunk(b"tRNS", bytes([255, 0, 128]))
    data = png(3, 1, 8, 3, b"\0\0\1\2", extra)
    assert decoded(data, background=(100, 100, 100)).tolist() == [[[255, 0, 0], [100] * 3, [50, 50, 178]]]


def test_a_transparent_colour_of_grey_and_rgb_pngs_is_laid_on_the_background() -> None:
    grey = png(2, 1, 8, 0, b"\0\x14\x28", png_chunk(b"tRNS", b"\0\x14"))
    assert decoded(grey, background=(1, 2, 3)).tolist() == [[[1, 2, 3], [40, 40, 40]]]
    rgb = png(2, 1, 8, 2, b"\0\x14\x15\x16\x28\x28\x28", png_chunk(b"tRNS", b"\0\x14\0\x15\0\x16"))
    assert decoded(rgb, background=(1, 2, 3)).tolist() == [[[1, 2, 3], [40, 40, 40]]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("clear", [0, 1])
def test_the_transparent_value_of_a_grey_png_counts_at_any_depth(depth: int, clear: int) -> None:
    white = 2**depth - 1
    row = int("".join(format(value, f"0{depth}b") for value in [0] * 8 + [white] * 8), 2)
    rows = (b"\0" + row.to_bytes(2 * depth, "big")) * 16
    data = png(16, 16, depth, 0, rows, png_chunk(b"tRNS", struct.pack(">H", clear * white)))
    expected = [[0, 0, 0], [255, 255, 255]]
    expected[clear] = [255, 0, 0]
    assert decoded(data, background=(255, 0, 0))[8, [4, 12]].tolist() == expected
    opened, opacity = layers_of(Image.open(io.BytesIO(data)), (255, 0, 0))
    if depth < 16:  # Translator refuses grey images of 16 bits that the caller has opened
        assert np.asarray(opened)[8, [4, 12]].tolist() == expected
    assert opacity is not None
    assert np.asarray(opacity.image())[8, [4, 12]].tolist() == [255 * clear, 255 * (1 - clear)]


def test_the_transparent_value_of_an_rgb_png_of_16_bits_counts() -> None:
    left, right = (0x8001, 0x4002, 0x2003), (0, 0, 0)
    rows = (b"\0" + struct.pack(">HHH", *left) * 8 + struct.pack(">HHH", *right) * 8) * 16
    data = png(16, 16, 16, 2, rows, png_chunk(b"tRNS", struct.pack(">HHH", *left)))
    assert decoded(data, background=(255, 255, 0))[8, [4, 12]].tolist() == [[255, 255, 0], [0, 0, 0]]
    opened, _ = layers_of(Image.open(io.BytesIO(data)), (255, 255, 0))
    assert np.asarray(opened)[8, [4, 12]].tolist() == [[255, 255, 0], [0, 0, 0]]


def test_sixteen_bit_grey_is_rescaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(">u2").reshape(16, 16)
    rows = b"".join(b"\0" + row.tobytes() for row in ramp)
    expected = np.stack([np.arange(256).reshape(16, 16)] * 3, axis=2)
    assert np.array_equal(decoded(png(16, 16, 16, 0, rows)), expected)
    native = Image.fromarray(ramp.astype(np.uint16))
    for kind in ("TIFF", "PPM"):
        assert np.array_equal(decoded(encode(native, kind)), expected), kind


def test_sixteen_bit_grey_of_the_other_byte_order_is_rescaled_too() -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(">u2").reshape(16, 16)
    entries = [(256, 16), (257, 16), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 16), (279, 512)]
    table = struct.pack(">H", len(entries))
    for tag, value in entries:
        table += struct.pack(">HHIHH", tag, 3, 1, value, 0)
    data = b"MM\0*" + struct.pack(">I", 8 + 512) + ramp.tobytes() + table + bytes(4)
    assert np.array_equal(decoded(data)[:, :, 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_grey_floats_are_rescaled_by_the_range_that_fits(top: float) -> None:
    ramp = np.linspace(0, top, 256, dtype=np.float32).reshape(16, 16)
    result = decoded(encode(Image.fromarray(ramp), "TIFF"))
    assert np.array_equal(result[:, :, 0], np.arange(256).reshape(16, 16))


def test_grey_beyond_every_known_range_is_stretched() -> None:
    ramp = np.linspace(-1000, 1e6, 256).round().astype(np.int32).reshape(16, 16)
    result = decoded(encode(Image.fromarray(ramp), "TIFF"))[:, :, 0].astype(int)
    assert np.abs(result - np.arange(256).reshape(16, 16)).max() <= 1
    level = np.full((16, 16), 2**20, np.int32)
    assert np.unique(decoded(encode(Image.fromarray(level), "TIFF"))).tolist() == [0]


def test_nan_and_infinity_are_refused() -> None:
    hole = np.ones((16, 16), np.float32)
    hole[3, 3] = np.nan
    assert reason_of(encode(Image.fromarray(hole), "TIFF")) == "unreadable"


def test_cmyk_has_the_colours_of_the_inks() -> None:
    # Cyan without black: no red. Full black: black. No ink: white.
    inks = np.zeros((16, 48, 4), np.uint8)
    inks[:, :16, 0], inks[:, 16:32, 3] = 255, 255
    image = Image.frombytes("CMYK", (48, 16), inks.tobytes())
    for data in (encode(image, "TIFF"), encode(image, "JPEG", quality=100)):
        result = decoded(data).astype(int)
        for x, colour in ((8, (0, 255, 255)), (24, (0, 0, 0)), (40, (255, 255, 255))):
            assert np.abs(result[8, x] - colour).max() <= 3


def test_an_adobe_cmyk_jpeg_is_not_inverted() -> None:
    """Pillow writes CMYK as Adobe does: inverted, with a marker. Without the marker the same data mean the
    opposite.
    """
    data = encode(Image.new("CMYK", (32, 32), (0, 0, 0, 0)), "JPEG", quality=100)
    assert b"Adobe" in data
    assert decoded(data).min() > 250


ORIENTED: dict[int, Callable[[Pixels], Pixels]] = {
    # What was done to an upright picture; a viewer that follows the tag then shows it upright.
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),  # after a quarter turn clockwise
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_the_exif_orientation_is_applied_once(orientation: int, kind: str) -> None:
    upright = smooth(64, 96)
    stored = Image.fromarray(np.ascontiguousarray(ORIENTED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    result = decoded(encode(stored, kind, exif=exif, **options))
    assert result.shape == upright.shape
    assert np.abs(result.astype(int) - upright).max() <= (4 if kind == "JPEG" else 0)


def test_sixteen_bit_grey_is_turned_upright_too() -> None:
    ramp = (np.arange(12, dtype=np.uint16) * 257).reshape(3, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    result = decoded(encode(Image.fromarray(ramp), "PNG", exif=exif))[:, :, 0]
    assert np.array_equal(result, np.rot90(np.arange(12).reshape(3, 4), -1))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\xff"]
)
def test_a_damaged_exif_block_does_not_stop_a_picture(exif: bytes) -> None:
    assert decoded(encode(Image.fromarray(smooth(32, 32)), "JPEG", exif=exif)).shape == (32, 32, 3)


@pytest.mark.parametrize(("height", "width"), [(1200, 1600), (515, 2000), (2000, 515), (257, 259)])
def test_a_jpeg_is_decoded_at_twice_the_target_and_looks_the_same(height: int, width: int) -> None:
    data = encode(Image.fromarray(smooth(height, width)), "JPEG", quality=90)
    scaled = decode_scaled(data, 64).image
    assert min(scaled.size) >= 128
    assert scaled.width < width
    whole = decode_picture(data).resize((64, 64), Image.Resampling.BILINEAR)
    small = scaled.resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(small)).mean() < 1


def photograph(number: int) -> Image.Image:
    """One of scikit-learn's two photographs, 640 x 427: a temple with fine tiles, or a flower."""
    pixels: Pixels = load_sample_images().images[number]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("size", [16, 26, 32, 52, 64, 100])
def test_a_photograph_decoded_at_reduced_size_is_close_to_the_full_one(
    number: int, orientation: int, size: int
) -> None:
    """Both are shrunk by one antialiased bilinear resize; they may differ by 1 grey level on average and by 20 at
    most.

    For comparison: on these photographs bicubic and bilinear differ by 1 to 3 grey levels on average, and by 28 at
    most. No side here is a multiple of 8, so at 1/8 the last pixel covers only part of a block. A resize that treats
    it as a whole pixel is up to 3 grey levels off on average, and 50 at most.
    """
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photograph(number).crop((0, 0, 637, 427)), "JPEG", quality=90, exif=exif)
    scaled = decode_scaled(data, size)
    assert scaled.image.width < 637 / 1.9 or scaled.image.height < 637 / 1.9
    whole = decode_picture(data)
    assert scaled.size == whole.size
    small = fit_picture(scaled.image, size, "stretch", box=scaled.box)
    difference = np.abs(small - np.asarray(whole.resize((size, size), Image.Resampling.BILINEAR), float))
    assert difference.mean() < 1
    assert difference.max() <= 20


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_crop_and_pad_of_a_scaled_photograph_are_those_of_the_whole_one(mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photograph(0).crop((0, 0, 637, 427)), "JPEG", quality=90, exif=exif)
    scaled = decode_scaled(data, 26)
    small = fit_picture(scaled.image, 26, mode, (9, 99, 199), scaled.box).astype(int)
    whole = fit_picture(decode_picture(data), 26, mode, (9, 99, 199)).astype(int)
    assert np.abs(small - whole).mean() < 1
    assert np.array_equal((small == (9, 99, 199)).all(2), (whole == (9, 99, 199)).all(2))


@pytest.mark.parametrize("factor", [1, 2, 3.9])
def test_a_jpeg_below_four_times_the_target_is_decoded_in_full(factor: float) -> None:
    side = int(32 * factor)
    data = encode(Image.fromarray(noise(side, side)), "JPEG", quality=90)
    assert np.array_equal(np.asarray(decode_scaled(data, 32).image), decoded(data))


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_scaled_decoding_applies_the_exif_orientation_too(orientation: int) -> None:
    upright = smooth(400, 600)
    stored = Image.fromarray(np.ascontiguousarray(ORIENTED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = decode_scaled(encode(stored, "JPEG", exif=exif, quality=95), 32).image
    assert result.size == (150, 100)
    expected = Image.fromarray(upright).reduce(4)
    assert np.abs(np.asarray(result).astype(int) - np.asarray(expected)).mean() < 2


def test_scaled_decoding_of_cmyk_has_the_colours_of_its_inks() -> None:
    inks = np.zeros((512, 768, 4), np.uint8)
    inks[:, :256, 0], inks[:, 256:512, 3] = 255, 255
    data = encode(Image.frombytes("CMYK", (768, 512), inks.tobytes()), "JPEG", quality=100)
    result = decode_scaled(data, 32).image
    assert result.size == (96, 64)
    for x, colour in ((16, (0, 255, 255)), (48, (0, 0, 0)), (80, (255, 255, 255))):
        assert np.abs(np.asarray(result)[8, x].astype(int) - colour).max() <= 3


def test_the_limit_on_pixels_counts_those_of_the_file() -> None:
    data = encode(Image.fromarray(smooth(400, 400)), "JPEG")
    assert reason_of(data, at_least=16, max_pixels=400 * 400 - 1) == "decompression bomb"


def test_scaled_decoding_leaves_small_jpegs_and_other_formats_alone() -> None:
    assert decode_scaled(encode(Image.fromarray(noise(127, 127)), "JPEG"), 64).image.size == (127, 127)
    assert decode_scaled(encode(Image.fromarray(noise(500, 500)), "PNG"), 64).image.size == (500, 500)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_file_that_ends_early_is_truncated(kind: str, part: float) -> None:
    data = encode(Image.fromarray(noise(200, 200)), kind)
    assert reason_of(data[: int(len(data) * part)]) == "truncated"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_file_that_ends_in_its_header_is_truncated(kind: str) -> None:
    assert reason_of(encode(Image.fromarray(noise(200, 200)), kind)[:24]) == "truncated"


def test_a_truncated_jpeg_is_noticed_in_scaled_decoding_too() -> None:
    data = encode(Image.fromarray(noise(800, 800)), "JPEG")
    assert reason_of(data[: len(data) * 3 // 4], at_least=32) == "truncated"


@pytest.mark.parametrize(
    "data", [b"<!DOCTYPE html><html></html>", b"\0" * 1000, b"GIF", b"\xff", b"%PDF-1.7 x", b"P9 3 3"]
)
def test_a_file_that_is_not_a_picture_is_unreadable(data: bytes) -> None:
    assert reason_of(data) == "unreadable"


def test_an_empty_file_is_empty() -> None:
    assert reason_of(b"") == "empty"


def test_formats_that_are_not_on_the_list_are_not_tried() -> None:
    for kind in ("ICO", "TGA", "PCX"):
        assert reason_of(encode(Image.fromarray(noise(32, 32)), kind)) == "unreadable"


@pytest.mark.parametrize("side", [13_378, 30_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    """13,378 squared is just above the limit. The pixel data are a single byte, so decoding would fail."""
    assert side**2 > MAX_PIXELS
    assert reason_of(png(side, side, 8, 0, b"\0")) == "decompression bomb"


def test_the_limit_on_pixels_is_exact_and_can_be_changed() -> None:
    data = encode(Image.fromarray(noise(20, 30)), "PNG")
    assert decode_picture(data, max_pixels=600).size == (30, 20)
    assert reason_of(data, max_pixels=599) == "decompression bomb"
    assert reason_of(data, max_pixels=10) == "decompression bomb"  # above Pillow's own second limit


def test_the_limit_may_be_above_that_of_pillow() -> None:
    before = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = 100
        assert decode_picture(encode(Image.fromarray(noise(20, 30)), "PNG"), max_pixels=600).size == (30, 20)
        assert Image.MAX_IMAGE_PIXELS == 100
    finally:
        Image.MAX_IMAGE_PIXELS = before


def test_the_shorter_side_must_reach_the_minimum() -> None:
    data = encode(Image.fromarray(noise(15, 40)), "PNG")
    assert decode_picture(data, min_side=15).size == (40, 15)
    with pytest.raises(PictureError, match="too small: 40 x 15, at least 16 wanted"):
        decode_picture(data, min_side=16)


def test_the_smallest_side_is_that_of_the_file() -> None:
    data = encode(Image.fromarray(smooth(400, 400)), "JPEG")
    assert decode_scaled(data, 16, min_side=400).image.size == (50, 50)


def test_random_damage_raises_only_picture_errors() -> None:
    random = np.random.default_rng(5)
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"):
        data = np.frombuffer(encode(Image.fromarray(smooth(40, 40)), kind), np.uint8)
        for _ in range(60):
            damaged = data.copy()
            places = random.integers(0, len(data), 8)
            damaged[places] = random.integers(0, 256, 8)
            try:
                assert decode_picture(damaged.tobytes(), max_pixels=10**6).mode == "RGB"
            except PictureError as error:
                assert error.reason in ("unreadable", "truncated", "decompression bomb", "too small")


def test_an_error_can_be_sent_between_processes() -> None:
    error = pickle.loads(pickle.dumps(PictureError("truncated", "it ends early")))  # noqa: S301
    assert (error.reason, error.detail) == ("truncated", "it ends early")
    assert str(error) == "truncated: it ends early"


def test_threads_do_not_change_settings_of_pillow_and_of_warnings() -> None:
    data = encode(Image.fromarray(noise(300, 300)), "PNG")
    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode_picture(data) for _ in range(5)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters


def test_signatures_are_recognised() -> None:
    image = Image.fromarray(noise(16, 16))
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"):
        assert looks_like_picture(encode(image, kind)[:16]), kind
    for head in (b"", b"P", b"PK\x03\x04", b"hello world, hello", b"BMW is a car maker", b"RIFF1234WAVEfmt "):
        assert not looks_like_picture(head), head


def test_torch_is_not_imported() -> None:
    program = "import sys, tunit.data.packing.pack; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

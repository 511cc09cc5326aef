"""Pixels have the colours that viewers show: files written by hand, and the values that the formats define."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from tunit.data.decoding.decode import PictureError, decode_picture, decode_scaled

RAMP = np.tile(np.linspace(0, 1, 64), (16, 1))  # grey from 0 to 1, left to right


def tiff(values: NDArray[Any], tags: dict[int, int], order: str = "<") -> bytes:
    """An uncompressed TIFF with one channel and one strip, written from the specification."""
    height, width = values.shape
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    bits = 8 * values.dtype.itemsize
    all_tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height} | tags
    all_tags[279] = len(data)
    table = struct.pack(order + "H", len(all_tags))
    for tag, value in sorted(all_tags.items()):
        table += struct.pack(order + "HHII", tag, 4, 1, value)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", 8 + len(data)) + data + table + bytes(4)


def png(values: NDArray[Any], extra: bytes = b"", colour: int = 0) -> bytes:
    """A PNG written from the specification: grey (H, W), or RGB (H, W, 3) if `colour` is 2."""
    height, width = values.shape[:2]
    depth = 8 * values.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(data: bytes) -> NDArray[Any]:
    pixels = np.asarray(decode_picture(data)).astype(int)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


# Every number type with the values that mean white.
KINDS = [
    (np.uint8, 1, (255,)),
    (np.int8, 2, (127,)),
    (np.uint16, 1, (65535,)),
    (np.int16, 2, (255, 4095, 32767)),
    (np.float16, 3, (1, 255)),
    (np.uint32, 1, (255, 4095, 65535, 2**32 - 1)),
    (np.int32, 2, (255, 4095, 65535, 2**31 - 1)),
    (np.float32, 3, (1, 255, 4095, 65535)),
    (np.float64, 3, (1, 255, 65535)),
]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize(
    ("kind", "sample", "white"), [(kind, sample, white) for kind, sample, ws in KINDS for white in ws]
)
def test_grey_tiffs_of_every_type_run_from_black_to_white(
    kind: Any, sample: int, white: int, photometric: int, order: str
) -> None:
    """Photometric 1: 0 is black; 0: 0 is white. The exact result is 255 times the share of white."""
    stored = (RAMP * white).round() if np.dtype(kind).kind in "iu" else RAMP * white
    shown = 255 * stored / white
    expected = shown if photometric else 255 - shown
    result = grey(tiff(stored.astype(kind), {262: photometric, 339: sample}, order))
    assert np.abs(result - expected).max() <= 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize(("kind", "white"), [(np.uint16, 65535), (np.int32, 255), (np.float32, 1)])
def test_compressed_grey_is_the_same(compression: str, kind: Any, white: int) -> None:
    for big_endian in (False, True):
        info = {} if not big_endian else {"big_endian": True}
        data = encode(Image.fromarray((RAMP * white).astype(kind)), "TIFF", compression=compression, **info)
        expected = 255 * (RAMP * white).astype(kind).astype(float) / white
        assert np.abs(grey(data) - expected).max() <= 1


@pytest.mark.parametrize(
    ("low", "high", "white"), [(-0.03, 1.04, 1), (-4, 260, 255), (0, 1.2, 1), (-9, 300, 255)]
)
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_floats_that_overshoot_a_little_are_clipped(low: float, high: float, white: float, kind: Any) -> None:
    stored = (low + (high - low) * RAMP).astype(kind)
    expected = np.clip(stored.astype(float) / white, 0, 1) * 255
    assert np.abs(grey(tiff(stored, {339: 3})) - expected).max() <= 1


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-3, 3), (0, 2), (0, 9), (-1000, 1e6)])
def test_floats_in_an_unusual_range_are_stretched(low: float, high: float) -> None:
    stored = (low + (high - low) * RAMP).astype(np.float32)
    assert np.abs(grey(tiff(stored, {339: 3})) - 255 * RAMP).max() <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_nan_is_refused_in_every_type(bad: float, kind: Any) -> None:
    stored = RAMP.astype(kind)
    stored[3, 5] = bad
    with pytest.raises(PictureError, match="infinite or not numbers"):
        decode_picture(tiff(stored, {339: 3}))


def test_the_number_of_bits_in_the_file_is_used() -> None:
    twelve = (RAMP * 4095).round().astype(np.uint16)
    expected = 255 * twelve.astype(float) / 4095
    assert np.abs(grey(png(twelve, chunk(b"sBIT", b"\x0c"))) - expected).max() <= 1
    assert np.abs(grey(tiff(twelve, {281: 4095})) - expected).max() <= 1  # MaxSampleValue
    # In a PNG the values always fill all 16 bits, so sBIT changes nothing.
    scaled = (RAMP * 65535).round().astype(np.uint16)
    assert np.abs(grey(png(scaled, chunk(b"sBIT", b"\x0c"))) - 255 * RAMP).max() <= 1


def test_the_range_is_not_guessed_if_the_format_gives_it() -> None:
    """A dark 16-bit picture stays dark. A PNM file says which value is white."""
    dark = (RAMP * 4095).round().astype(np.uint16)
    assert np.abs(grey(png(dark)) - dark / 257).max() <= 1
    pnm = b"P5 64 16 4095\n" + dark.astype(">u2").tobytes()
    assert np.abs(grey(pnm) - 255 * dark.astype(float) / 4095).max() <= 1


def test_transparent_grey_of_sixteen_bits_is_laid_on_the_background() -> None:
    values = np.array([[1000, 30000]], np.uint16)
    data = png(values, chunk(b"tRNS", struct.pack(">H", 30000)))
    assert np.asarray(decode_picture(data, background=(1, 2, 3))).tolist() == [[[4, 4, 4], [1, 2, 3]]]


def test_a_tiff_may_store_its_channels_separately() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    planes = pixels.transpose(2, 0, 1).tobytes()
    tail = 8 + len(planes)
    lists = struct.pack("<HHH", 8, 8, 8) + struct.pack("<III", 8, 38, 68) + struct.pack("<III", 30, 30, 30)
    entries = [
        (256, 4, 1, 5), (257, 4, 1, 6), (258, 3, 3, tail), (259, 4, 1, 1), (262, 4, 1, 2),
        (273, 4, 3, tail + 6), (277, 4, 1, 3), (278, 4, 1, 6), (279, 4, 3, tail + 18), (284, 4, 1, 2),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    data = b"II*\0" + struct.pack("<I", tail + len(lists)) + planes + lists + table + bytes(4)
    assert np.array_equal(np.asarray(decode_picture(data)), pixels)


def test_a_large_picture_is_shrunk_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result equals converting the whole picture: it is averaged in blocks, on the background."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (203, 150, 4), dtype=np.uint8)
    data = encode(Image.fromarray(pixels), "PNG")
    monkeypatch.setattr("tunit.data.decoding.decode._LARGE", 1000)
    monkeypatch.setattr("tunit.data.decoding.colours._STRIP", 150 * 20)
    small = decode_scaled(data, 8, background=(9, 99, 199))
    assert small.image.size == (38, 51)  # a quarter; the last row and column are smaller than a block
    assert small.size == (150, 203)
    assert small.box == (0, 0, 37.5, 50.75)
    expected = decode_picture(data, background=(9, 99, 199)).reduce(4)
    assert np.abs(np.asarray(small.image).astype(int) - np.asarray(expected)).max() <= 1


# Profiles


def s15(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def profile(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    """A display profile, written from the ICC specification, version 2.4."""
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    text += bytes(-len(text) % 4)
    white = xyz(0.9642, 1, 0.8249)
    tags = [(b"desc", text), (b"cprt", b"text\0\0\0\0none\0\0\0\0"), (b"wtpt", white), *tags]
    offset = 132 + 12 * len(tags)
    table, body = b"", b""
    for name, value in tags:
        table += name + struct.pack(">II", offset + len(body), len(value))
        body += value
    header = bytearray(128)
    header[4:8], header[8:12], header[12:16] = b"lcms", struct.pack(">I", 0x02400000), b"mntr"
    header[16:20], header[20:24], header[36:40] = space, b"XYZ ", b"acsp"
    header[68:80] = s15(0.9642) + s15(1) + s15(0.8249)
    whole = bytes(header) + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(s15, values))


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


# Adobe RGB (1998): its gamma, and its primaries adapted to D50.
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def adobe_rgb() -> bytes:
    columns = [
        (name, xyz(*column)) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), ADOBE.T, strict=True)
    ]
    return profile(b"RGB ", [*columns, *((name, curve(563 / 256)) for name in (b"rTRC", b"gTRC", b"bTRC"))])


def from_adobe(colour: tuple[int, int, int]) -> NDArray[Any]:
    """By definition: gamma, primaries to XYZ (D50), XYZ to sRGB's primaries, sRGB's curve."""
    linear = (np.array(colour) / 255) ** (563 / 256)
    return srgb_curve(np.linalg.solve(SRGB, ADOBE @ linear))


def srgb_curve(linear: Any) -> NDArray[Any]:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_profile_is_converted_to_what_viewers_show(kind: str) -> None:
    colour = (200, 90, 60)
    options: dict[str, Any] = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encode(Image.new("RGB", (32, 32), colour), kind, icc_profile=adobe_rgb(), **options)
    for image in (decode_picture(data), decode_scaled(data, 4).image):
        assert np.abs(np.asarray(image).astype(int) - from_adobe(colour)).max() <= 3


def test_a_profile_applies_with_palette_transparency_and_orientation() -> None:
    colour, wanted = (200, 90, 60), from_adobe((200, 90, 60))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, *colour])
    clear = Image.new("RGBA", (8, 8), (*colour, 255))
    clear.paste((*colour, 0), (0, 0, 4, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for image in (palette, clear):
        data = encode(image, "PNG", icc_profile=adobe_rgb(), exif=exif)
        pixels = np.asarray(decode_picture(data, background=(1, 2, 3))).astype(int)
        assert np.abs(pixels[7, 7] - wanted).max() <= 2
        if (
            image is clear
        ):  # on the left in the file, at the top after a quarter turn; the background does not change
            assert pixels[0, 0].tolist() == [1, 2, 3]


def test_a_grey_profile_is_applied_and_one_for_another_colour_space_ignored() -> None:
    linear = profile(b"GRAY", [(b"kTRC", curve(1.0))])
    image = Image.fromarray((RAMP * 255).round().astype(np.uint8))
    expected = srgb_curve(np.asarray(image) / 255)
    for opaque in (image, image.convert("LA")):
        assert np.abs(grey(encode(opaque, "PNG", icc_profile=linear)) - expected).max() <= 2
    assert np.array_equal(grey(encode(image, "PNG", icc_profile=adobe_rgb())), np.asarray(image))
    colour = Image.new("RGB", (16, 16), (10, 20, 30))
    assert decode_picture(encode(colour, "PNG", icc_profile=linear)).getpixel((3, 3)) == (10, 20, 30)


def test_the_profile_of_srgb_itself_changes_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(
        np.asarray(decode_picture(encode(Image.fromarray(pixels), "PNG", icc_profile=own))), pixels
    )


@pytest.mark.parametrize("damage", [b"", b"nonsense", "cut", "zeros", "tags"])
def test_a_broken_profile_is_ignored(damage: bytes | str) -> None:
    good = adobe_rgb()
    broken = {
        "cut": good[:150],
        "zeros": bytes(len(good)),
        "tags": good[:128] + struct.pack(">I", 2**31) + good[132:],
    }
    data = encode(
        Image.new("RGB", (16, 16), (10, 20, 30)),
        "PNG",
        icc_profile=broken[damage] if isinstance(damage, str) else damage,
    )
    assert decode_picture(data).getpixel((3, 3)) == (10, 20, 30)


def test_the_gamma_of_a_png_is_applied_unless_it_has_a_profile_or_srgb() -> None:
    image = (RAMP * 255).round().astype(np.uint8)
    linear = chunk(b"gAMA", struct.pack(">I", 100_000))
    assert np.abs(grey(png(image, linear)) - 255 * (image / 255) ** (1 / 2.2)).max() <= 1
    usual = chunk(b"gAMA", struct.pack(">I", 45_455))
    assert np.array_equal(grey(png(image, usual)), image)
    assert np.array_equal(grey(png(image, linear + chunk(b"sRGB", b"\0"))), image)


def test_lab_colours_follow_the_definition() -> None:
    """L* = 53.6, a* = b* = 0 is the grey of 128 in sRGB; L* = 100 is white."""
    image = Image.frombytes("LAB", (2, 1), bytes([round(53.585 * 2.55), 0, 0, 255, 0, 0]))
    pixels = np.asarray(decode_picture(encode(image, "TIFF"))).astype(int)
    assert np.abs(pixels[0] - [[128] * 3, [255] * 3]).max() <= 2


# Metadata


def with_text(bytes_of_text: int) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * bytes_of_text, zip=True)
    return encode(Image.new("RGB", (16, 16), (9, 99, 199)), "PNG", pnginfo=info, icc_profile=adobe_rgb())


def test_long_text_does_not_stop_a_png_or_its_profile() -> None:
    for size in (100, 3_000_000):
        colour = np.asarray(decode_picture(with_text(size)))[4, 4]
        assert np.abs(colour - from_adobe((9, 99, 199))).max() <= 3


def test_a_large_profile_is_still_applied() -> None:
    """Larger than the 1 MiB that Pillow accepts: the same profile with many bytes after its tags."""
    large = adobe_rgb() + bytes(2 << 20)
    large = struct.pack(">I", len(large)) + large[4:]
    data = encode(Image.new("RGB", (16, 16), (200, 90, 60)), "PNG", icc_profile=large)
    assert np.abs(np.asarray(decode_picture(data))[4, 4] - from_adobe((200, 90, 60))).max() <= 3


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tEXt", b"Comment\0fine")[:-4] + b"sums",  # a wrong checksum
        chunk(b"pHYs", b"\0\0"),  # too short
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0broken"),
        chunk(b"zTXt", b"a\0\0broken"),
        chunk(b"iCCP", b"name\0\0broken"),
        chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
        chunk(b"cHRM", b"\1\2\3"),
        chunk(b"gAMA", b"\1"),
        chunk(b"sRGB", b""),
        chunk(b"sBIT", b""),
        chunk(b"tRNS", b""),
        chunk(b"acTL", b"\0"),
    ],
)
def test_damaged_metadata_do_not_stop_a_png(extra: bytes) -> None:
    values = (RAMP * 255).round().astype(np.uint8)
    assert np.array_equal(grey(png(values, extra)), values)


@pytest.mark.parametrize("extra", [chunk(b"tEXt", b"Comment\0fine")[:-4] + b"sums", chunk(b"gAMA", b"\1")])
def test_the_number_of_bits_is_used_if_other_metadata_are_damaged(extra: bytes) -> None:
    twelve = (RAMP * 4095).round().astype(np.uint16)
    bits = chunk(b"sBIT", b"\x0c")
    assert np.array_equal(grey(png(twelve, bits + extra)), grey(png(twelve, bits)))
    assert grey(png(twelve, extra + bits)).max() == 255


@pytest.mark.parametrize(
    "segment",
    [
        b"\xff\xe0\0\x09JFIF\0\1\1",  # a JFIF header that is cut short
        b"\xff\xe1\0\x10Exif\0\0MM\0*\0\0\0\xff",
        b"\xff\xe1\0\x24http://ns.adobe.com/xap/1.0/\0<x:x",
        b"\xff\xed\0\x1aPhotoshop 3.0\0" + b"8BIM\xff\xff\xff\xff",
        b"\xff\xe2\0\x12ICC_PROFILE\0\x05\x02xx",
        b"\xff\xe2\0\x0cMPF\0II*\0\xff\xff",
        b"\xff\xee\0\x05Ado",
        b"\xff\xfe\0\x02",
    ],
)
def test_damaged_metadata_do_not_stop_a_jpeg(segment: bytes) -> None:
    data = encode(Image.new("RGB", (16, 16), (90, 90, 90)), "JPEG")
    assert np.abs(grey(data[:2] + segment + data[2:]) - 90).max() <= 2


def test_damaged_tags_do_not_stop_a_tiff() -> None:
    values = (RAMP * 255).round().astype(np.uint8)
    broken = {305: 2**31, 700: 2**31, 282: 2**31, 34665: 2**31, 37724: 2**31}
    assert np.array_equal(grey(tiff(values, broken)), values)


def test_damaged_metadata_do_not_stop_a_webp() -> None:
    image = Image.new("RGB", (16, 16), (90, 90, 90))
    exif = Image.Exif()
    exif[0x0112] = 1
    data = encode(image, "WEBP", lossless=True, exif=exif, xmp=b"<x:x")
    at = data.index(b"EXIF")
    broken = data[: at + 8] + b"\xff" * 8 + data[at + 16 :]
    assert np.array_equal(grey(broken), np.full((16, 16), 90))


@pytest.mark.parametrize("damage", ["a wrong length", "cut short"])
def test_a_webp_with_damaged_metadata_is_still_turned_upright(damage: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.new("RGB", (60, 40), (90, 90, 90))
    data = encode(stored, "WEBP", lossless=True, exif=exif, xmp=b"<x:x" + b" " * 100)
    assert decode_picture(data).size == (40, 60)
    at = data.index(b"XMP ")
    broken = data[: at + 50] if damage == "cut short" else data[: at + 4] + b"\xff" * 3 + data[at + 7 :]
    assert decode_picture(broken).size == (40, 60)

"""Transparent parts of sources stay transparent, and sizes keep proportions."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from tiny_model import noise, tiny_model
from tunit.data.decoding.decode import decode_scaled
from tunit.translation.result_files import write_picture
from tunit.translation.translator import Translator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def translator():
    return Translator(tiny_model())


def cut_out(width=60, height=30):
    """A picture whose left half is transparent."""
    image = Image.fromarray(noise(1, height, width)).convert("RGBA")
    alpha = np.full((height, width), 255, np.uint8)
    alpha[:, : width // 2] = 0
    image.putalpha(Image.fromarray(alpha))
    return image


def test_transparency_is_kept_at_any_size(translator, tmp_path):
    cut_out().save(tmp_path / "a.png")
    for source in (cut_out(), tmp_path / "a.png"):
        result = translator.translate(source, domain=0, resize="original")
        assert (result.mode, result.size) == ("RGBA", (60, 30))
        assert (np.asarray(result.getchannel("A")) == np.asarray(cut_out().getchannel("A"))).all()
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.png", "a.png")
    (result,) = translator.translate(tmp_path / "a.tar.gz", domain=0, resize="original")
    assert (np.asarray(result.getchannel("A")) == np.asarray(cut_out().getchannel("A"))).all()
    square = np.asarray(translator.translate(cut_out(), domain=0, resize=40, fit="crop").getchannel("A"))
    assert square.shape == (40, 40)
    assert (square[:, :18] == 0).all() and (square[:, 22:] == 255).all()


def test_transparency_is_turned_upright_and_kept_for_large_pictures(monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6  # a turn to the right makes it upright
    file = io.BytesIO()
    cut_out(120, 80).save(file, "PNG", exif=exif)
    expected = np.asarray(cut_out(120, 80).rotate(-90, expand=True).getchannel("A"))
    for large in (1 << 24, 1):  # at once, and part by part
        monkeypatch.setattr("tunit.data.decoding.decode._LARGE", large)
        monkeypatch.setattr("tunit.data.decoding.colours._STRIP", 120 * 20)
        opacity = decode_scaled(file.getvalue(), 8, opacity=True).opacity
        assert (np.asarray(opacity.image()) == expected).all()
    assert decode_scaled(file.getvalue(), 8).opacity is None


def test_opaque_sources_give_plain_results(translator, tmp_path):
    opaque = Image.fromarray(noise(1)).convert("RGBA")
    opaque.save(tmp_path / "a.png")
    assert translator.translate(opaque, domain=0).mode == "RGB"
    assert translator.translate(tmp_path / "a.png", domain=0).mode == "RGB"


def test_a_number_is_the_longer_side_with_the_sources_proportions(translator):
    wide = Image.fromarray(noise(1, 40, 80))
    assert translator.translate(wide, domain=0, resize=100).size == (100, 50)
    assert translator.translate(wide, domain=0, resize=100, fit="crop").size == (100, 100)
    assert translator.translate(wide.rotate(90, expand=True), domain=0, resize=100, fit="pad").size == (
        50,
        100,
    )


def test_jpeg_gets_the_colours_only(tmp_path):
    write_picture(tmp_path, "a.jpg", cut_out())
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "RGB"

"""On request, grey sources give grey results; file formats are kept if possible."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, features

from tiny_model import noise, save_tiny, tiny_model, write
from tunit.cli import main
from tunit.translation.result_files import plan_names, write_picture
from tunit.translation.translator import Translator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def translator():
    return Translator(tiny_model())


def grey(height=40, width=50):
    return Image.fromarray(noise(1, height, width)).convert("L")


def through(image, kind):
    """The picture, saved and opened again."""
    file = io.BytesIO()
    image.save(file, kind)
    return Image.open(file)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_grey_sources_give_grey_results_on_request(translator, fit):
    coloured = translator.translate(grey(), domain=0, fit=fit)
    assert coloured.mode == "RGB"
    for source in (grey(), through(grey().convert("RGB"), "JPEG"), Image.fromarray(np.asarray(grey()) > 128)):
        result = translator.translate(source, domain=0, fit=fit, restore_grey=True)
        assert result.mode == "L"
    result = translator.translate(grey(), domain=0, fit=fit, restore_grey=True, restore_size=True)
    assert result.size == ((40, 40) if fit == "crop" else (50, 40))
    own = translator.translate(grey(), domain=0, fit=fit, restore_grey=True)
    red, green, blue = np.moveaxis(np.asarray(coloured).astype(float), 2, 0)
    assert np.abs(0.299 * red + 0.587 * green + 0.114 * blue - np.asarray(own)).max() <= 1


def test_coloured_sources_give_coloured_results(translator):
    almost = np.array(grey().convert("RGB"))
    almost[10:20, 10:20, 0] ^= 64  # a red mark on a grey picture
    for source in (Image.fromarray(noise(1)), Image.fromarray(almost)):
        assert translator.translate(source, domain=0, restore_grey=True).mode == "RGB"
        assert translator.interpolate(source, noise(3), frames=2, restore_grey=True).frames[0].mode == "RGB"
    assert translator.interpolate(grey(), noise(3), frames=2, restore_grey=True).frames[1].mode == "L"


def test_a_coloured_background_does_not_make_a_grey_source_coloured(tmp_path):
    model = tiny_model()
    model = replace(model, config=model.config.with_overrides({"background": "255, 0, 0"}))
    source = grey()
    source.putalpha(Image.fromarray(np.tile(np.uint8([0] * 25 + [255] * 25), (40, 1))))
    result = Translator(model).translate(source, domain=0, restore_grey=True, restore_size=True)
    assert result.mode == "LA"
    for name, mode in {"a.png": "LA", "a.webp": "RGBA", "a.tif": "LA", "a.jpg": "L", "a.bmp": "L"}.items():
        write_picture(tmp_path, name, result)
        with Image.open(tmp_path / name) as image:
            assert image.mode == mode


def test_the_command_restores_greyness_and_reports_animations(tmp_path, capsys):
    save_tiny(tmp_path / "run")
    (tmp_path / "in").mkdir()
    grey().save(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "b.png", 2)
    frames = [Image.fromarray(noise(seed)) for seed in range(3)]
    frames[0].save(tmp_path / "in" / "c.webp", save_all=True, append_images=frames[1:])
    words = ["--domain", "0", "--restore-grey", "--format", "keep", "--out", str(tmp_path / "out")]
    assert main(["translate", str(tmp_path / "run"), str(tmp_path / "in"), *words]) == 0
    said = "1 source is an animation, of which only the first picture was redrawn: convert one to a GIF or a video"
    assert said in capsys.readouterr().err
    frames[0].save(tmp_path / "in" / "d.gif", save_all=True, append_images=frames[1:])
    words = [*words[:-1], str(tmp_path / "again")]
    assert main(["translate", str(tmp_path / "run"), str(tmp_path / "in"), *words]) == 0
    said = "2 sources are animations, of which only the first picture was redrawn: give a GIF by itself"
    assert said in capsys.readouterr().err
    for name, mode in {"a.png": "L", "b.png": "RGB", "c.webp": "RGB"}.items():
        with Image.open(tmp_path / "out" / name) as image:
            assert image.mode == mode


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_results_of_avif_sources_are_avif(tmp_path):
    assert plan_names(["a.avif", "b.heic", "c.gif"], "keep") == ["a.avif", "b.png", "c.png"]
    image = Image.fromarray(noise(1)).convert("RGBA")
    image.putalpha(100)
    write_picture(tmp_path, "a.avif", image)
    with Image.open(tmp_path / "a.avif") as kept:
        assert (kept.format, kept.mode) == ("AVIF", "RGBA")
        assert np.abs(np.asarray(kept).astype(int) - np.asarray(image)).mean() < 3

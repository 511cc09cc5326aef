"""A translator that remembers pictures: what is not computed again, and that results stay the same."""

import numpy as np
import pytest
import torch

from tiny_model import WIDTH, noise, redrawn, tiny_model
from tunit.errors import ConfigError
from tunit.translation.translator import Translator


@pytest.fixture
def calls(monkeypatch):
    """Which networks have computed, in order: E, enc (G's encoder) and dec (its decoder, once for all styles)."""
    made = []

    def watched(name, function):
        def call(*args):
            if name != "dec" or made[-1:] != ["dec"]:
                made.append(name)
            return function(*args)

        return call

    model = tiny_model()
    for name, network, method in (
        ("E", model.guide, "forward"),
        ("enc", model.generator, "encode"),
        ("dec", model.generator, "decode"),
    ):
        monkeypatch.setattr(network, method, watched(name, getattr(network, method)))
    return model, made


def test_another_strength_or_style_of_the_same_picture_takes_only_the_decoder(calls):
    model, made = calls
    translator = Translator(model, remember=2)
    fresh, style = Translator(tiny_model()), torch.linspace(-1, 1, WIDTH)

    def draw(picture, strength, *computed):
        made.clear()
        drawn = translator.translate(picture, style=style, strength=strength)
        assert made == [*computed, "dec"]
        expected = fresh.translate(picture, style=style, strength=strength)
        assert np.abs(np.asarray(drawn).astype(int) - np.asarray(expected)).max() <= 1

    first, second, third = (noise(seed) for seed in range(3))
    draw(first, 1, "enc")
    draw(first, 0.5, "E")
    draw(first, 0.7)
    draw(first.copy(), 1.2)  # the same pixels in another array
    translator.style(second)
    draw(second, 0.3, "enc")  # E has seen it when its style was asked for
    draw(third, 1, "enc")
    draw(second, 0.4)
    draw(first, 0.5, "enc", "E")  # forgotten: two others came since


def test_nothing_is_remembered_unless_it_is_asked_for_nor_of_several_pictures(calls):
    model, made = calls
    for translator in (Translator(model), Translator(model, remember=4)):
        for _ in range(2):
            made.clear()
            translator.translate([noise(1), noise(2)], domain=0)
            assert made == ["enc", "dec"]
    for wrong in (-1, "3", 1.5, True):
        with pytest.raises(ConfigError, match=f"remember is {wrong!r}: take a whole number, at least 0"):
            Translator(model, remember=wrong)


def test_several_styles_of_one_picture_are_those_of_the_networks():
    model = tiny_model()
    styles = torch.randn(5, WIDTH)
    expected = [redrawn(model, noise(3), style) for style in styles]
    ((_, images),) = Translator(model).redraw(noise(3), styles)
    for image, pixels in zip(images, expected, strict=True):
        assert np.abs(np.asarray(image).astype(int) - pixels).max() <= 1

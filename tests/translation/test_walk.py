"""Walks between styles, compared with direct calls of the networks; animations, read back by Pillow and PyAV."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_model import noise, redrawn, style_of, write
from tunit.errors import ConfigError, DataError
from tunit.translation.walk import LEAST_RATE, MOST_FRAMES, Walk, between

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_walk_has_equal_steps_between_the_styles_of_all_references(model, translator):
    a, b, c = (style_of(model, noise(seed)) for seed in (2, 3, 4))
    walk = translator.interpolate(noise(1), [noise(2), noise(3), noise(4)], frames=5)
    assert len(walk) == 5
    for frame, style in zip(walk.frames, (a, (a + b) / 2, b, (b + c) / 2, c), strict=True):
        assert np.abs(np.asarray(frame).astype(int) - redrawn(model, noise(1), style).astype(int)).max() <= 1


def test_with_one_reference_it_starts_at_the_sources_style(model, translator, tmp_path):
    walk = translator.interpolate(write(tmp_path / "source.png", 1), noise(2), frames=2)
    for frame, seed in zip(walk.frames, (1, 2), strict=True):
        expected = redrawn(model, noise(1), style_of(model, noise(seed)))
        assert np.abs(np.asarray(frame).astype(int) - expected).max() <= 1


def test_frames_have_the_size_of_the_source(translator):
    walk = translator.interpolate(noise(1, 20, 50), [noise(2), noise(3)], frames=2, restore_size=True)
    assert [frame.size for frame in walk.frames] == [(50, 20)] * 2


def test_codes_lie_on_straight_lines():
    codes = between(torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 5.0]]), 9)
    assert codes[:, 0].tolist() == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert codes[:, 1].tolist() == [1, 1, 1, 1, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_has_every_frame_and_repeats(suffix, tmp_path):
    frames = [Image.new("RGB", (30, 20), (40 * i, 0, 255 - 40 * i)) for i in range(5)]
    Walk(frames).save(tmp_path / "new" / f"walk{suffix}", rate=10)
    with Image.open(tmp_path / "new" / f"walk{suffix}") as image:
        assert (image.n_frames, image.size, image.info["loop"]) == (5, (30, 20), 0)
        for i, frame in enumerate(frames):
            image.seek(i)
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(frame)).max() <= 8
            assert image.info["duration"] == 100


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("rate", [7, 24, 30, 60, 100])
def test_an_animation_lasts_as_long_as_its_rate_says(suffix, rate):
    frames = [Image.fromarray(noise(seed, 8, 8)) for seed in range(2 * rate)]
    lasts = 0
    with Image.open(io.BytesIO(Walk(frames).encoded(suffix, rate=rate))) as image:
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            lasts += image.info["duration"]
            assert abs(lasts - 1000 * (number + 1) / rate) <= (5 if suffix == ".gif" else 0.5)
    assert lasts == 2000


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("number", [1, 2, 9])
def test_a_walk_of_equal_frames_can_be_written(suffix, number):
    frame = Image.fromarray(noise(1, 8, 8))
    with Image.open(io.BytesIO(Walk([frame] * number).encoded(suffix, rate=30))) as image:
        assert image.size == (8, 8)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_the_slowest_walk_can_be_written(suffix):
    if suffix == ".mp4":
        pytest.importorskip("av")
    frames = [Image.new("RGB", (8, 8), (i % 256, i // 256, 0)) for i in range(MOST_FRAMES)]
    assert Walk(frames if suffix == ".webp" else frames[:3]).encoded(suffix, rate=LEAST_RATE)


def test_a_video_has_every_frame(tmp_path):
    av = pytest.importorskip("av")
    frames = [Image.new("RGB", (31, 21), (40 * i, 0, 255 - 40 * i)) for i in range(5)]
    Walk(frames).save(tmp_path / "walk.mp4", rate=12.5)
    with av.open(str(tmp_path / "walk.mp4")) as video:
        stream = video.streams.video[0]
        assert float(stream.average_rate) == 12.5
        seen = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
    assert len(seen) == 5
    for pixels, frame in zip(seen, frames, strict=True):
        assert pixels.shape == (22, 32, 3)
        assert np.abs(pixels[:20, :30].astype(int) - np.asarray(frame)[:20, :30]).mean() <= 8


def test_without_pyav_one_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"needs PyAV: pip install .*\.gif"):
        Walk([Image.new("RGB", (8, 8))]).save(tmp_path / "walk.mp4")
    assert list(tmp_path.iterdir()) == []


def test_impossible_walks_and_files_are_refused(translator, tmp_path):
    with pytest.raises(ConfigError, match="frames is 1: take from 2 to 2,000"):
        translator.interpolate(noise(1), noise(2), frames=1)
    for frames in ("8", 8.5, None):
        with pytest.raises(ConfigError, match=f"frames is {frames!r}: take from 2"):
            translator.interpolate(noise(1), noise(2), frames=frames)
    with pytest.raises(DataError, match="redraws one picture"):
        translator.interpolate([noise(1), noise(2)], noise(2))
    with pytest.raises(DataError, match=r"nowhere\.png"):
        translator.interpolate("nowhere.png", noise(2))
    walk = Walk([Image.new("RGB", (8, 8))] * 2)
    with pytest.raises(ConfigError, match=r"walk\.avi has no suffix"):
        walk.save(tmp_path / "walk.avi")
    for rate in (0, "fast", None, float("nan"), 0.001, 1e-6, 1e-300, 101):
        for suffix in ("gif", "webp", "mp4"):
            with pytest.raises(
                ConfigError, match=f"rate is {rate!r}: take frames per second, from 0.01 to 100"
            ):
                walk.save(tmp_path / f"walk.{suffix}", rate=rate)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        walk.save(tmp_path / "file" / "walk.gif")

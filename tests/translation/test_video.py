"""Videos in and out: each picture compared with the translator's, after PyAV has read the file."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tiny_model import SIZE, noise, save_tiny, write
from tunit.cli import main
from tunit.errors import DataError
from tunit.translation.translator import Translator
from tunit.translation.video import redraw_video
from tunit.translation.walk import Walk

pytestmark = pytest.mark.usefixtures("one_thread")
FRAMES, RATE, SIDES = 11, Fraction(25, 2), (50, 38)  # more pictures than are computed together
LOSS = 5  # allowed mean difference in grey levels; a video stores one colour per block of 2 x 2 pixels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return filmed(tmp_path_factory.mktemp("clip") / "clip.mp4")


def filmed(path, encoder="libx264", sound="aac", gap=0):
    """A video of noise with one second of sound. The last picture is late by `gap` picture durations."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *SIDES, "yuv420p"
        tone = container.add_stream(sound, rate=48000) if sound else None
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(noise(number, SIDES[1], SIDES[0]), format="rgb24")
            frame.pts = number + (gap if number == FRAMES - 1 else 0)
            frame.time_base = 1 / RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone is not None:
            wave = np.sin(np.arange(48000) / 20).astype(np.float32)[None]
            samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            samples.sample_rate = 48000
            container.mux(tone.encode(samples))
            container.mux(tone.encode())
    return path


def seen(path):
    """The pictures (height, width, 3), their times in seconds, the rate, and the packets of sound."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate, pictures, times = stream.average_rate, [], []
        for frame in container.decode(stream):
            pictures.append(frame.to_ndarray(format="rgb24").astype(int))
            times.append(float(frame.time))
    sound = []
    with av.open(str(path)) as container:
        if container.streams.audio:
            sound = [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]
    return pictures, times, rate, sound


def apart(result, expected):
    """The mean difference from a picture whose colours have half the resolution, as in any video."""
    frame = av.VideoFrame.from_ndarray(np.asarray(expected), format="rgb24").reformat(format="yuv420p")
    return np.abs(result - frame.to_ndarray(format="rgb24")).mean()


def translate(*words):
    return main(["translate", *map(str, words)])


def test_each_picture_is_translated_at_its_time_and_the_sound_is_kept(run, clip, tmp_path, capsys):
    reference, out = write(tmp_path / "r.png", 99), tmp_path / "new" / "out.mp4"
    assert translate(run, clip, "--reference", reference, "--strength", 0.7, "--out", out) == 0
    assert f"translated {FRAMES} pictures of {clip}, with its sound" in capsys.readouterr().out
    sources, times, rate, sound = seen(clip)
    results, at, result_rate, kept = seen(out)
    assert result_rate == rate == RATE
    assert at == pytest.approx(times, abs=1e-3)
    assert kept == sound
    assert len(sound) > 10
    translator = Translator.load(run, device="cpu")
    arrays = [source.astype(np.uint8) for source in sources]
    expected = [np.asarray(image) for image in translator.translate(arrays, reference, strength=0.7)]
    for result, own, other in zip(results, expected, expected[1:] + expected[:1], strict=True):
        assert result.shape == (SIZE, SIZE, 3)
        assert apart(result, own) <= LOSS < apart(result, other)
    assert [path.name for path in out.parent.iterdir()] == ["out.mp4"]


def test_a_reference_that_cannot_be_read_is_left_out(run, clip, tmp_path, capsys):
    for seed in (98, 99):
        write(tmp_path / "references" / f"{seed}.png", seed)
    words = (run, clip, "--reference", tmp_path / "references", "--out")
    (tmp_path / "references" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "references" / "empty.png").touch()
    assert translate(*words, tmp_path / "out.mp4") == 0
    assert "of the references 2 left out: " in " ".join(capsys.readouterr().out.split())
    first = seen(clip)[0][0].astype(np.uint8)
    references = [tmp_path / "references" / f"{seed}.png" for seed in (98, 99)]
    expected = Translator.load(run, device="cpu").translate(first, references)
    assert apart(seen(tmp_path / "out.mp4")[0][0], expected) <= LOSS
    assert translate(*words, tmp_path / "strict.mp4", "--strict") == 2
    assert "cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "strict.mp4").exists()


def test_a_video_in_a_folder_keeps_its_size_and_uneven_times(run, tmp_path):
    clip = filmed(tmp_path / "late.mp4", sound=None, gap=3)
    assert translate(run, clip, "--domain", 2, "--restore-size", "--out", tmp_path / "out") == 0
    pictures, times, *_ = seen(tmp_path / "out" / "late.mp4")
    assert [picture.shape for picture in pictures] == [(SIDES[1], SIDES[0], 3)] * FRAMES
    assert times == pytest.approx(seen(clip)[1], abs=1e-3)
    assert times[-1] - times[-2] == pytest.approx(4 / float(RATE), abs=1e-3)


@pytest.mark.parametrize(("ratio", "wide"), [("3/2", 108), ("2/3", 48), ("1", 72), ("90", 72)])
def test_pixels_that_are_not_square_are_shown_as_players_do(run, tmp_path, ratio, wide):
    """72 x 48 pixels, each `ratio` as wide as high, except where that is not possible."""
    with av.open(str(tmp_path / "dvd.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 72, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(ratio)
        frame = av.VideoFrame.from_ndarray(noise(1, 48, 72), format="rgb24")
        frame.pts = 0
        container.mux([*stream.encode(frame), *stream.encode()])
    out = tmp_path / "out.mp4"
    assert translate(run, tmp_path / "dvd.mkv", "--domain", 0, "--size", "original", "--out", out) == 0
    (source,), (result,) = seen(tmp_path / "dvd.mkv")[0], seen(out)[0]
    assert result.shape == (48, wide, 3)
    square = Image.fromarray(source.astype(np.uint8)).resize((wide, 48), Image.Resampling.LANCZOS)
    expected = Translator.load(run, device="cpu").translate(square, domain=0, resize="original")
    assert apart(result, expected) <= LOSS


def test_a_title_that_is_not_utf_8_is_no_obstacle(run, tmp_path):
    source, title = tmp_path / "titled.mkv", b"a title in another encoding"
    with av.open(str(source), "w") as container:
        container.metadata["title"] = title.decode()
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *SIDES, "yuv420p"
        frame = av.VideoFrame.from_ndarray(noise(0, SIDES[1], SIDES[0]), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    written = source.read_bytes()
    assert written.count(title) == 1
    source.write_bytes(written.replace(title, b"\xff" * len(title)))
    assert translate(run, source, "--domain", 0, "--out", tmp_path / "out.mp4") == 0


def test_a_cover_is_not_taken_for_the_film(run, tmp_path):
    with av.open(str(tmp_path / "d.mkv"), "w") as container:
        cover, film = container.add_stream("mjpeg", rate=1), container.add_stream("libx264", rate=RATE)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        film.width, film.height, film.pix_fmt = *SIDES, "yuv420p"
        for stream, number, size in ((cover, 1, (32, 32)), (film, 5, SIDES)):
            for i in range(number):
                frame = av.VideoFrame(*size, stream.pix_fmt)
                frame.pts = i
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    assert translate(run, tmp_path / "d.mkv", "--domain", 0, "--out", tmp_path / "out.mp4") == 0
    assert len(seen(tmp_path / "out.mp4")[0]) == 5


def test_a_video_turned_by_a_phone_is_upright(run, clip, tmp_path):
    data = bytearray(clip.read_bytes())
    place = data.index(struct.pack(">3i", 1 << 16, 0, 0), data.index(b"tkhd"))
    data[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, SIDES[1] << 16, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    words = ("--domain", 2, "--restore-size", "--out", tmp_path / "out.mp4")
    assert translate(run, tmp_path / "turned.mp4", *words) == 0
    result = seen(tmp_path / "out.mp4")[0][0]
    upright = np.rot90(seen(clip)[0][0], -1).astype(np.uint8)  # clockwise, as players show it
    expected = Translator.load(run, device="cpu").translate(upright, domain=2, restore_size=True)
    assert result.shape == (SIDES[0], SIDES[1], 3)
    assert apart(result, expected) <= LOSS


class Unchanged:
    """A translator that returns its sources."""

    max_pixels = 10**9

    def redraw(self, pictures, styles, **_):
        return ((picture, (picture,)) for picture in pictures)


def shown(path, hd):
    """The middle of the first picture as players show it if the file does not say how, and what it says."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        array = frame.to_ndarray(format="rgb24", src_colorspace="ITU709" if hd else "ITU601")
        return array[array.shape[0] // 2, array.shape[1] // 2].astype(int), frame.colorspace


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("size", [(1280, 720), (64, 48)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_colours_stay_as_players_show_them(tmp_path, size, tagged, suffix):
    hd, colour = size[0] == 1280, np.array((30, 200, 60))
    pixels = np.broadcast_to(colour.astype(np.uint8), (size[1], size[0], 3))
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if tagged:
            stream.codec_context.colorspace = 1 if hd else 5
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709" if hd else "ITU601")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    redraw_video(Unchanged(), tmp_path / "in.mp4", tmp_path / f"out{suffix}", torch.zeros(1))
    for path in (tmp_path / "in.mp4", tmp_path / f"out{suffix}"):
        assert np.abs(shown(path, hd)[0] - colour).max() <= 5
    assert shown(tmp_path / f"out{suffix}", hd)[1] == (1 if hd else 2)
    walk = Walk([Image.fromarray(np.ascontiguousarray(pixels))] * 2)
    walk.save(tmp_path / "walk.mp4")
    assert np.abs(shown(tmp_path / "walk.mp4", hd)[0] - colour).max() <= 5


def test_sound_that_the_format_does_not_support_is_left_out_and_reported(run, clip, tmp_path, capsys):
    out = tmp_path / "out.webm"
    assert translate(run, clip, "--domain", 0, "--out", out) == 0
    assert "out.webm has no sound: this format cannot hold the sound of" in capsys.readouterr().err
    pictures, *_, sound = seen(out)
    assert (len(pictures), sound) == (FRAMES, [])


def test_an_animated_gif_becomes_a_video(run, tmp_path):
    frames = [Image.fromarray(noise(seed)) for seed in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=80)
    assert translate(run, tmp_path / "a.gif", "--domain", 0, "--out", tmp_path / "out.mp4") == 0
    assert len(seen(tmp_path / "out.mp4")[0]) == 4


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_the_last_picture_is_shown_for_as_long_as_in_the_source(run, tmp_path, suffix):
    frames = [Image.fromarray(noise(seed)) for seed in range(5)]
    lasts = [100, 500, 100, 1000, 3000]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=lasts)
    out = tmp_path / f"out{suffix}"
    assert translate(run, tmp_path / "a.gif", "--domain", 0, "--out", out) == 0
    with av.open(str(out)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        assert len(packets) == 5
        last = max(packets, key=lambda packet: packet.pts)
        assert float(last.pts * last.time_base) == pytest.approx(1.7, abs=0.002)
        assert float(last.duration * last.time_base) == pytest.approx(3, abs=0.002)


def test_a_result_that_cannot_be_written_is_not_called_a_source_that_cannot_be_read(clip, tmp_path):
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(DataError, match=r"out\.mp4 cannot be written \(Is a directory\): give another --out"):
        redraw_video(Unchanged(), clip, tmp_path / "out.mp4", torch.zeros(1))
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_bad_video_is_one_sentence_and_leaves_no_file(run, clip, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:3000])
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        tone = container.add_stream("aac", rate=48000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 48000
        container.mux(tone.encode(samples))
        container.mux(tone.encode())
    there = sorted(tmp_path.iterdir())
    for name, words in {
        "text": "text.mp4 cannot be read as a video",
        "empty": "empty.mp4 cannot be read as a video",
        "cut": "cut.mp4 cannot be read as a video",
        "sound": "sound.mp4 holds only sound: give a video",
        "nowhere": "nowhere.mp4 does not exist",
    }.items():
        assert translate(run, tmp_path / f"{name}.mp4", "--domain", 0, "--out", tmp_path / "out.mp4") == 2
        said = capsys.readouterr().err
        assert words in said
        assert len(said.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == there


def test_options_that_do_not_apply_to_videos_are_refused(run, clip, tmp_path, capsys):
    picture, out = write(tmp_path / "a.png"), tmp_path / "out.mp4"
    for words, message in {
        (clip, "--domain", "all"): "a video is redrawn in one style",
        (clip, picture, "--domain", 0): "give one video by itself",
        (picture, "--domain", 0): "a.png is not a video",
        (clip, "--domain", 0, "--max-pixels", 100): "50 x 38 pixels, more than 100: raise --max-pixels",
        (clip, "--domain", 7): "domain 7 does not exist",
        (clip, "--domain", 0, "--format", "jpg"): "--format jpg is for pictures",
    }.items():
        assert translate(run, *words, "--out", out) == 2
        assert message in capsys.readouterr().err
    assert not out.exists()
    out.write_bytes(b"mine")
    assert translate(run, clip, "--domain", 0, "--out", out) == 2
    assert "exists already" in capsys.readouterr().err
    assert translate(run, clip, "--domain", 0, "--out", clip, "--overwrite") == 2
    assert "is itself a source" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["out.avi", "out.MPG"])
def test_a_kind_of_video_that_is_not_written_is_no_name_of_a_folder(run, clip, tmp_path, capsys, name):
    out = tmp_path / name
    for source in (clip, write(tmp_path / "a.png")):
        assert translate(run, source, "--domain", 0, "--out", out) == 2
        assert (
            f"--out {out} ends in {out.suffix.lower()}, and such videos are not written"
            in capsys.readouterr().err
        )
        assert not out.exists()
    out.mkdir()
    assert translate(run, clip, "--domain", 0, "--out", out) == 0
    assert (out / "clip.mp4").is_file()

"""A video translated picture by picture into one style, with limited memory. Its sound is copied if possible.

PyAV (FFmpeg) reads and writes videos. FFmpeg gets an open file instead of a path, and may try only a few formats; so
a playlist that pretends to be a video cannot make it open other files or addresses.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from tunit.data.finding.naming import suffix_of
from tunit.errors import DataError, reason_of
from tunit.files.atomic import replacing, writable
from tunit.translation.frames import frame_of, image_of, pyav, shape_stream
from tunit.translation.inputs import Resize
from tunit.translation.translator import Translator

READ = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"))
# What can be written: FFmpeg's name of the format, the encoder, and its options for high quality.
WRITTEN: dict[str, tuple[str, str, dict[str, str]]] = {
    **dict.fromkeys((".mp4", ".m4v"), ("mp4", "libx264", {"crf": "18"})),
    ".mov": ("mov", "libx264", {"crf": "18"}),
    ".mkv": ("matroska", "libx264", {"crf": "18"}),
    ".webm": ("webm", "libvpx-vp9", {"crf": "24", "b": "0"}),
}
MOST_BATCH = 8  # pictures of a video in memory at a time; they may be large
WIDEST = 4  # width of a pixel by its height; other values of damaged files are taken as 1
# FFmpeg's flag that durations of pictures go into the result; otherwise the last one is shown for an average time.
_FRAME_DURATION = 1 << 8
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,gif"
_TURNED = {
    90: Image.Transpose.ROTATE_90,
    -90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    -180: Image.Transpose.ROTATE_180,
}


@dataclass(frozen=True)
class Redrawn:
    """The result for a video."""

    pictures: int
    size: tuple[int, int]  # width and height of the result
    sound: bool | None  # whether the sound was copied; None if the video has no sound


def is_video(path: Path) -> bool:
    """Whether a file name has the suffix of a video."""
    return suffix_of(path.name) in READ


def redraw_video(
    translator: Translator,
    source: Path,
    target: Path,
    style: Tensor,
    *,
    strength: float = 1.0,
    fit: str | None = None,
    resize: Resize = None,
    restore_grey: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Redrawn:
    """Write `target`: each picture of `source` at its own time and, as far as the file says it, for as long, in the
    style (style width,).

    target: has a suffix of WRITTEN; an older file is kept until the new one is complete. strength, fit, resize,
    restore_grey: as in `Translator.redraw`. advance: called for each picture. Raises DataError if the video cannot be
    read or written.
    """
    av = pyav("translate pictures")
    written = 0
    try:
        with source.open("rb") as file, _opened(av, file, source) as container:
            clip = _Clip(container, source, translator.max_pixels)
            drawn = translator.redraw(
                clip.pictures(),
                style[None],
                strength=strength,
                fit=fit,
                resize=resize,
                restore_grey=restore_grey,
            )
            with writable(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            with _replacing(av, target) as partial, _Writer(av, partial, target, clip) as writer:
                for _, (image,) in drawn:
                    writer.add(image)
                    written += 1
                    advance()
    except av.error.FFmpegError as error:
        raise DataError(
            f"{source} cannot be read to its end as a video ({_ffmpeg_message(error)}): repair it"
        ) from None
    except OSError as error:
        raise DataError(f"{source} cannot be read ({reason_of(error)}): give another video") from None
    return Redrawn(written, writer.size, None if clip.sound is None else writer.copies_sound)


def _ffmpeg_message(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)


def _opened(av: Any, file: Any, source: Path) -> Any:
    # A title may be in any encoding. PyAV before 19 raises an error for one that is not UTF-8, unless told otherwise.
    before_19 = int(av.__version__.partition(".")[0]) < 19
    lenient = {"metadata_errors": "replace"} if before_19 else {}
    try:
        return av.open(file, options={"format_whitelist": _FORMATS}, **lenient)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DataError(
            f"{source} cannot be read as a video ({_ffmpeg_message(error)}): give another one"
        ) from None


class _Clip:
    """A video that is being read: its pictures in order, and the packets of sound between them."""

    def __init__(self, container: Any, source: Path, max_pixels: int) -> None:
        if not container.streams.video:
            raise DataError(f"{source} holds only sound: give a video")
        self.source, self.container = source, container
        self.video = container.streams.best("video")  # the first may be a cover
        self.sound = container.streams.audio[0] if container.streams.audio else None
        self.rate = self.video.average_rate or self.video.guessed_rate or Fraction(25)
        # When each picture that `pictures` has returned is shown, and for how long; 0 if the file does not say it.
        self.times: deque[tuple[int | None, int]] = deque()
        self.packets: deque[Any] = deque()  # packets of sound
        width, height = self._in_square_pixels(
            self.video.codec_context.width, self.video.codec_context.height
        )
        if width * height > max_pixels:
            raise DataError(
                f"{source} has {width} x {height} pixels, more than {max_pixels:,}: raise --max-pixels to allow it"
            )

    def _in_square_pixels(self, width: int, height: int) -> tuple[int, int]:
        """The size with which players show a picture. Pixels of DVDs, for example, are not square."""
        ratio = self.video.sample_aspect_ratio or 1
        return (max(1, round(width * ratio)), height) if 1 / WIDEST <= ratio <= WIDEST else (width, height)

    def pictures(self) -> Iterator[Image.Image]:
        """Each picture, upright, with square pixels. Raises DataError if there is none."""
        number = 0
        for packet in self.container.demux([stream for stream in (self.video, self.sound) if stream]):
            if self.sound is not None and packet.stream.index == self.sound.index:
                if packet.dts is not None:  # skip the empty packet at the end
                    self.packets.append(packet)
                continue
            for frame in packet.decode():
                number += 1
                self.times.append((frame.pts, getattr(frame, "duration", 0) or 0))
                image = image_of(frame)
                size = self._in_square_pixels(*image.size)
                image = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
                turn = _TURNED.get(round(frame.rotation))
                yield image if turn is None else image.transpose(turn)
        if not number:
            raise DataError(f"{self.source} holds no picture that can be read: give another video")


class _Writer:
    """The resulting video. It is opened with the first picture, which determines the size."""

    def __init__(self, av: Any, partial: Path, target: Path, clip: _Clip) -> None:
        self.av, self.clip, self.target = av, clip, target
        kind, self.encoder, self.options = WRITTEN[suffix_of(target.name)]
        with _writing(av, target):
            self.container = av.open(str(partial), "w", format=kind)
        self.stream: Any = None
        self.sound: Any = None
        self.size = (0, 0)

    @property
    def copies_sound(self) -> bool:
        """Whether the sound of the video is copied into the result."""
        return self.sound is not None

    def __enter__(self) -> "_Writer":
        return self

    def add(self, image: Image.Image) -> None:
        """Add the next picture, at the time of its source."""
        with _writing(self.av, self.target):
            if self.stream is None:
                self._start(image)
            if image.size != self.size:
                image = image.resize(self.size, Image.Resampling.LANCZOS)
            frame = frame_of(self.av, image)
            time, lasts = self.clip.times.popleft()
            if time is not None:
                frame.pts, frame.time_base = time, self.clip.video.time_base
                if lasts:
                    frame.duration = lasts
            self.container.mux(self.stream.encode(frame))
            self._copy_sound()

    def _start(self, image: Image.Image) -> None:
        self.size = image.size
        self.stream = self.container.add_stream(self.encoder, rate=self.clip.rate, options=self.options)
        shape_stream(self.stream, image.size)
        if self.clip.video.time_base:
            self.stream.codec_context.time_base = self.clip.video.time_base
            if self.clip.times[0][1]:
                self.stream.codec_context.flags |= _FRAME_DURATION
        sound = self.clip.sound
        if sound is not None and sound.codec_context.name in self.container.supported_codecs:
            self.sound = self.container.add_stream_from_template(sound)

    def _copy_sound(self) -> None:
        while self.clip.packets:
            packet = self.clip.packets.popleft()
            if self.sound is not None:
                packet.stream = self.sound
                self.container.mux(packet)

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is not None:  # the incomplete result is deleted
            with suppress(self.av.error.FFmpegError, OSError):
                self.container.close()
            return
        with _writing(self.av, self.target):
            if self.stream is not None:
                self.container.mux(self.stream.encode())
                self._copy_sound()
            self.container.close()


@contextmanager
def _replacing(av: Any, target: Path) -> Iterator[Path]:
    """As `replacing`, with errors as in `_writing`: an OSError of the block may come from reading the source."""
    with ExitStack() as stack:
        with _writing(av, target):
            partial = stack.enter_context(replacing(target, durable=False))
        yield partial
        with _writing(av, target):
            stack.close()


@contextmanager
def _writing(av: Any, target: Path) -> Iterator[None]:
    """Turn FFmpeg's errors while writing into a DataError."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(
            f"{target} cannot be written ({_ffmpeg_message(error)}): give another --out"
        ) from None

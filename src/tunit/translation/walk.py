"""A walk from style to style: a sequence of pictures, saved as an animation or video."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tunit.errors import ConfigError
from tunit.files.paths import expand_home
from tunit.given import real_number
from tunit.translation.frames import frame_of, pyav, shape_stream
from tunit.translation.result_files import write_result

MOST_FRAMES = 2_000  # all frames are in memory: 100 MB at 128 px
MOST_RATE = 100.0  # frames per second; the times in a GIF are in hundredths of a second
LEAST_RATE = 0.01  # formats store the time of a frame, or of the whole animation, in few bits
SUFFIXES = ".gif, .webp or .mp4"
ENCODED = (".gif", ".webp", ".mp4")


def between(styles: Tensor, frames: int) -> Tensor:
    """Style codes (frames, width) on the straight lines from each of `styles` (M, width), M >= 2, to the next.

    All lines have the same number of steps; the first and last codes are those of `styles`.
    """
    place = torch.linspace(0, len(styles) - 1, frames, dtype=torch.float64)
    left = place.floor().long().clamp_max(len(styles) - 2)
    share = (place - left)[:, None]
    return (styles[left].double() * (1 - share) + styles[left + 1].double() * share).float()


@dataclass(frozen=True)
class Walk:
    """The frames of a walk, all of the same size and mode."""

    frames: Sequence[Image.Image]

    def __len__(self) -> int:
        return len(self.frames)

    def save(self, path: str | Path, *, rate: float = 24.0) -> None:
        """Write an animation that repeats for ever (.gif, .webp), or a video (.mp4, which PyAV writes).

        rate: frames per second, from 0.01 to 100. Each pixel of a GIF is either opaque or transparent; a video shows
        the frames on white. Raises ConfigError for another suffix or a missing PyAV, DataError if it cannot be
        written.
        """
        path = expand_home(path)
        suffix = path.suffix.lower()
        if suffix not in ENCODED:
            raise ConfigError(f"{path} has no suffix of an animation: give one of {SUFFIXES}")
        write_result(path, self.encoded(suffix, rate=rate))

    def encoded(self, suffix: str, *, rate: float = 24.0) -> bytes:
        """The bytes of a file with one of the suffixes .gif, .webp and .mp4; rate and errors as for `save`."""
        sentence = f"rate is {{}}: take frames per second, from {LEAST_RATE:g} to {MOST_RATE:g}"
        if not LEAST_RATE <= real_number(rate, sentence) <= MOST_RATE:
            raise ConfigError(sentence.format(rate))
        return self._video(rate) if suffix == ".mp4" else self._animation(suffix, rate)

    def _animation(self, suffix: str, rate: float) -> bytes:
        first, *others = self.frames
        options: dict[str, Any] = {"quality": 90} if suffix == ".webp" else {"disposal": 2}
        encoded = io.BytesIO()
        first.save(
            encoded,
            "WEBP" if suffix == ".webp" else "GIF",
            save_all=True,
            append_images=others,
            duration=_durations(len(self.frames), rate, 1 if suffix == ".webp" else 10),
            loop=0,
            **options,
        )
        return encoded.getvalue()

    def _video(self, rate: float) -> bytes:
        av = pyav("give a name that ends in .gif or .webp")
        encoded = io.BytesIO()
        with av.open(encoded, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
            shape_stream(stream, self.frames[0].size)
            for image in self.frames:
                container.mux(stream.encode(frame_of(av, image)))
            container.mux(stream.encode())
        return encoded.getvalue()


def _durations(frames: int, rate: float, step: int) -> list[int]:
    """How many milliseconds each frame is shown, as multiples of `step`, which the format counts in.

    They differ by one step, so that each frame ends as near as possible to its time: with equal durations, a GIF of
    60 frames per second would be shown at 100.
    """
    ends = [round((number + 1) * 1000 / rate / step) for number in range(frames)]
    return [step * (end - begin) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]

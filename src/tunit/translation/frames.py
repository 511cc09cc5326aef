"""What videos and walks share: importing PyAV, and converting pictures to frames and back.

A video stores brightness and two differences of colours. How these are computed from red, green and blue depends on
the size: players take BT.709 for HD and BT.601 for smaller videos, if the file does not say. FFmpeg's conversions
take BT.601 for all sizes, if they are not told.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tunit.errors import ConfigError

_BT709, _LIMITED = 1, 1  # FFmpeg's numbers for the colours of HD, and for a brightness from 16 to 235
_UNKNOWN = 2  # FFmpeg's number for colours of which the file says nothing


def pyav(instead: str) -> Any:
    """Import PyAV. instead: what the user can do without it. Raises ConfigError if it is missing."""
    try:
        import av
    except ImportError:
        raise ConfigError(f'a video needs PyAV: pip install "tunit[video]", or {instead}') from None
    return av


def on_canvas(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels (height, width, 3) of a picture on white. Sides are made even, because videos store colours at half
    the size.
    """
    canvas = Image.new("RGB", (image.width + image.width % 2, image.height + image.height % 2), "white")
    canvas.paste(image, mask=image.getchannel("A") if image.mode in ("RGBA", "LA") else None)
    return np.asarray(canvas)


def is_hd(width: int, height: int) -> bool:
    """Whether players take BT.709 for a video of this size."""
    return width >= 1280 or height >= 720


def shape_stream(stream: Any, size: tuple[int, int]) -> None:
    """Set up a stream that is written for pictures of this size (width, height)."""
    stream.width, stream.height = (side + side % 2 for side in size)
    stream.pix_fmt = "yuv420p"
    if is_hd(stream.width, stream.height):
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED


def frame_of(av: Any, image: Image.Image) -> Any:
    """A picture as a frame for a stream of `shape_stream`."""
    frame = av.VideoFrame.from_ndarray(on_canvas(image), format="rgb24")
    if is_hd(frame.width, frame.height):
        return frame.reformat(format="yuv420p", dst_colorspace="ITU709")
    return frame


def image_of(frame: Any) -> Image.Image:
    """A frame that was read as a picture."""
    guess = frame.colorspace == _UNKNOWN and not frame.format.is_rgb and is_hd(frame.width, frame.height)
    image: Image.Image = frame.to_image(src_colorspace="ITU709") if guess else frame.to_image()
    return image

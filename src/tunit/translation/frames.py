"""What videos and walks share: importing PyAV, and converting a picture to a frame."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tunit.errors import ConfigError


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

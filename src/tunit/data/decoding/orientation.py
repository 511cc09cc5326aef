"""The EXIF orientation of a picture, and the picture upright."""

from PIL import Image

_ORIENTATION = 0x0112  # the EXIF tag
_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; a damaged EXIF block counts as upright."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a picture with damaged metadata is still a picture
        return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned upright; orientation: how its pixels are stored."""
    method = _METHODS.get(orientation)
    return image if method is None else image.transpose(method)

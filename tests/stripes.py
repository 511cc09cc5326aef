"""Pictures whose kinds only a feature network sees: stripes of one pixel, which vanish at 32 px, where cues look."""

import numpy as np
from PIL import Image

SIDE = 64
CONTRAST = 70  # grey levels above and below the colour of a field


def striped_pictures(each, seed=0):
    """Pictures (3 * each, 64, 64, 3) of random coloured fields, with stripes across, stripes down or a chequerboard;
    and the kind of each, (3 * each,).

    In all kinds, every 2 x 2 pixels have the colour of their field as their mean, and half of all pixels are lighter
    and half darker by the same amount: so colour histograms, and everything at 32 px, say nothing about the kind.
    """
    rng = np.random.default_rng(seed)
    kinds = np.arange(3 * each) % 3
    fields = rng.integers(CONTRAST, 256 - CONTRAST, (3 * each, 4, 4, 3))
    fields = fields.repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    odd = np.arange(SIDE) % 2
    across, down = np.broadcast_arrays(odd[:, None], odd[None])
    light = np.stack([across, down, (across + down) % 2])[kinds][..., None]
    return (fields + CONTRAST * (2 * light - 1)).astype(np.uint8), kinds


def write_striped_pictures(folder, each):
    """The pictures as files whose names begin with their numbers; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(striped_pictures(each)[0]):
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    return folder

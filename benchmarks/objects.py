"""Paste transparent pictures of objects in front of rough and smooth backgrounds of any colour, for benchmarks.

  apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb stamps
  python benchmarks/objects.py FOLDER stamps/usr/share/tuxpaint/stamps/*/*/rose.png ...

Each object has a folder of 100 to 260 pictures of 64 px, in which it is turned, scaled, mirrored and lit in different
ways. Neither colours nor textures of whole pictures tell the objects apart, because most of a picture is background.
With --backgrounds the backgrounds are parts of photographs: benchmarks/ground.py says where to get some.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ground import part, textures

SIDE = 64
PICTURES = 180  # of an object, on average
Rng = np.random.Generator


def background(rng: Rng) -> Image.Image:
    """A colour with a gradient, and noise of any strength and scale."""
    line = np.linspace(-1, 1, SIDE)
    colour = rng.uniform(40, 220) + rng.normal(0, 18, 3)
    light = rng.uniform(-40, 40) * line[:, None, None] + rng.uniform(-40, 40) * line[None, :, None]
    speckles = Image.fromarray(rng.integers(0, 255, (SIDE + 32, SIDE + 32)).astype(np.uint8))
    blurred = speckles.filter(ImageFilter.GaussianBlur(rng.uniform(0.7, 6)))
    noise = np.asarray(blurred.crop((16, 16, 16 + SIDE, 16 + SIDE))).astype(float)
    noise = (noise - noise.mean()) / (noise.std() + 1e-6) * 50 * rng.uniform(0, 0.3)
    return as_picture(colour + light + noise[..., None])


def as_picture(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def picture(rng: Rng, thing: Image.Image, photographs: list[Image.Image]) -> Image.Image:
    if rng.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    thing = thing.rotate(rng.uniform(-25, 25), expand=True, resample=Image.Resampling.BICUBIC)
    thing.thumbnail((round(SIDE * rng.uniform(0.6, 0.95)),) * 2, Image.Resampling.BICUBIC)
    drawn = part(rng, photographs[rng.integers(len(photographs))]) if photographs else background(rng)
    left, top = (int(rng.integers(0, SIDE - length + 1)) for length in thing.size)
    drawn.paste(thing, (left, top), thing)
    values = np.asarray(drawn).astype(float) * rng.uniform(0.7, 1.2)
    return as_picture(values + rng.normal(0, 6, values.shape))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("objects", type=Path, nargs="+", help="transparent pictures, one of each object")
    parser.add_argument("--backgrounds", type=Path, help="folder with the textures of 0 A.D.")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    grounds = textures(args.backgrounds).values() if args.backgrounds else ()
    photographs = [photograph for of_kind in grounds for photograph in of_kind]
    rng = np.random.default_rng(args.seed)
    for file in args.objects:
        thing = Image.open(file).convert("RGBA")
        thing = thing.crop(thing.getbbox())
        thing.thumbnail((200, 200))
        (args.folder / file.stem).mkdir(parents=True)
        for i in range(round(PICTURES * rng.uniform(0.6, 1.4))):
            picture(rng, thing, photographs).save(args.folder / file.stem / f"{i:03}.png")


if __name__ == "__main__":
    main()

"""Cut pictures of ten kinds of ground (cliff, dirt, grass, ...) out of photographs, for benchmarks.

  apt-get download 0ad-data && dpkg -x 0ad-data_*.deb 0ad
  unzip 0ad/usr/share/games/0ad/mods/public/public.zip 'art/textures/terrain/types/*' -d ground-textures
  python benchmarks/ground.py FOLDER ground-textures --seed 1

The photographs are textures of the game 0 A.D. Each kind has a folder of 100 to 229 pictures of 64 px, cut out of 12
to 102 textures of this kind: nearly any colour occurs in several kinds, and a kind has smooth and rough textures.
"""

import argparse
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

SIDE = 64
LEAST = 256  # px: smaller files are no textures
Rng = np.random.Generator
# Files that show two kinds, or that are not photographs.
MIXED = re.compile(
    r"snow.*(grass|rock|dirt|forest)|(grass|dirt|cliff)_snow|_(25|50|75)|grass_(dirt|rocks|mud)|rocks_grass|mud_grass"
    r"|sand_(scrub|grass)|cliff_.*(grass|plants)|shrub|_norm|_spec"
)
KINDS = {  # what a file's name has; the first kind that fits
    "cliff": "cliff",
    "forestfloor": "forr?estfloor",
    "farmland": "farmland|furrows",
    "paving": "paving|tile|road_(stones|roman|rome)|pavement",
    "coral": "coral|ocean|sea_",
    "snow": "snow|ice|glacial",
    "rocks": "rocks|pebbles|gravel",
    "sand": "sand|dune|sahara",
    "grass": "grass",
    "dirt": "dirt|mud",
}


def textures(folder: Path) -> dict[str, list[Image.Image]]:
    """The photographs of each kind in a folder and those below it."""
    found: dict[str, list[Image.Image]] = {kind: [] for kind in KINDS}
    for file in sorted(folder.rglob("*.dds")):
        name = file.name.partition(".")[0].lower()
        kinds = [kind for kind, words in KINDS.items() if re.search(words, name)]
        if not kinds or MIXED.search(name):
            continue
        with Image.open(file) as picture:
            if min(picture.size) >= LEAST:
                found[kinds[0]].append(picture.convert("RGB"))
    return found


def part(rng: Rng, photograph: Image.Image) -> Image.Image:
    """A square of 0.3 to 0.7 of the photograph's height at any place, turned, mirrored and lit in any way."""
    side = int(rng.uniform(0.3, 0.7) * min(photograph.size))
    left, top = (int(rng.integers(0, length - side + 1)) for length in photograph.size)
    square = photograph.crop((left, top, left + side, top + side)).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )
    if rng.random() < 0.5:
        square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    square = square.rotate(90 * int(rng.integers(4)))
    for enhanced in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        square = enhanced(square).enhance(rng.uniform(0.75, 1.25))
    return square


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("textures", type=Path, help="folder with the textures of 0 A.D.")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    for kind, photographs in textures(args.textures).items():
        if not photographs:
            parser.error(f"{args.textures} has no texture of {kind}: unpack 0ad-data as described above")
        (args.folder / kind).mkdir(parents=True)
        for i in range(int(rng.integers(100, 230))):
            drawn = part(rng, photographs[rng.integers(len(photographs))])
            drawn.save(args.folder / kind / f"{i:03}.png")


if __name__ == "__main__":
    main()

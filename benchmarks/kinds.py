"""Draw creatures of any number of kinds up to 36, for benchmarks: one folder of pictures for each kind.

  python benchmarks/kinds.py FOLDER --kinds 12 --seed 3

Up to six kinds are species as they are. The others have the shape and proportions of one species and the colours of
another, so that colours alone do not tell all kinds apart. The seed chooses the kinds and draws the individuals.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from tunit.data.creatures.drawing import Look, paint
from tunit.data.creatures.factors import sample_creatures
from tunit.data.creatures.species import LOOKS

COLOURS = ("base", "second", "accent", "paw", "iris", "habitat", "outline")


def kinds(number: int, rng: np.random.Generator) -> list[tuple[int, Look]]:
    """For each kind, the species whose shape it has, and its look."""
    species = [(i, i) for i in rng.permutation(len(LOOKS))]
    mixed = [(i, j) for i in range(len(LOOKS)) for j in range(len(LOOKS)) if i != j]
    pairs = [*species, *(mixed[i] for i in rng.permutation(len(mixed)))][:number]
    return [
        (shape, dataclasses.replace(LOOKS[shape], **{name: getattr(LOOKS[paint], name) for name in COLOURS}))
        for shape, paint in pairs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", type=int, default=12, choices=range(1, len(LOOKS) ** 2 + 1), metavar="N")
    parser.add_argument("--pictures", type=int, default=120, help="of each kind")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chosen = kinds(args.kinds, np.random.default_rng(args.seed))
    drawn = sample_creatures(len(LOOKS) * args.kinds * args.pictures, args.seed)
    of_shape = {i: iter([c for c in drawn if c.style.species == i]) for i in range(len(LOOKS))}
    for number, (shape, look) in enumerate(chosen):
        folder = args.folder / f"kind-{number:02}"
        folder.mkdir(parents=True)
        for i in range(args.pictures):
            picture, _ = paint(next(of_shape[shape]), look, args.size)
            Image.fromarray(picture).save(folder / f"{i:03}.png")


if __name__ == "__main__":
    main()

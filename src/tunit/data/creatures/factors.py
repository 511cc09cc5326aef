"""The factors of a creature: content (where and how it stands) and style (which species and individual)."""

from dataclasses import dataclass

import numpy as np

SPECIES: tuple[str, ...] = ("fox", "frog", "owl", "rabbit", "dragon", "zebra")

# One stream of random numbers for each purpose, so that content cannot depend on style or species.
_CONTENT, _STYLE, _ORDER = 0, 1, 2


@dataclass(frozen=True)
class Content:
    """Pose and expression. All species have the same factors, and the same skeleton."""

    x: float  # how far the centre is right of the picture's centre, as a fraction of its side: -0.1 .. 0.1
    y: float  # how far the centre is below the picture's centre: as x, but less for a large creature
    size: float  # height of the skeleton as a fraction of the picture's side: 0.78 .. 1
    tilt: float  # rotation in the picture plane, degrees clockwise: -18 .. 18
    turn: float  # where the head and body face: -1 (left) .. -0.35 and 0.35 .. 1 (right), never straight on
    gaze_x: float  # pupils: -1 (left) .. 1 (right)
    gaze_y: float  # pupils: -1 (up) .. 1 (down)
    openness: float  # eyes: 0.4 (sleepy) .. 1 (wide open)
    smile: float  # mouth: -0.7 (frown) .. 1 (smile)
    mouth: float  # mouth: 0 (closed, for two of five creatures) .. 1 (wide open)
    left_arm: float  # the arm on the left of the picture: 0 (hangs down) .. 1 (raised)
    right_arm: float  # the arm on the right of the picture: 0 .. 1


@dataclass(frozen=True)
class Style:
    """Species and individual: everything that makes up the look, except pose and expression."""

    species: int  # index into SPECIES
    hue: float  # of the base colour, in degrees from that of the species: -10 .. 10
    lightness: float  # of the base colour, relative to that of the species: -0.1 .. 0.1
    accent_hue: float  # of all other colours, in degrees from those of the species: -20 .. 20
    accent_lightness: float  # of all other colours, relative to those of the species: -0.08 .. 0.08
    phase: float  # where the pattern begins: 0 .. 1
    scale: float  # size of the pattern's elements, relative: 0.85 .. 1.2
    density: float  # how many or how wide the elements are: 0 (sparse) .. 1 (dense)
    tint_hue: float  # of the background, degrees away from the species' habitat: -20 .. 20
    tint: float  # strength of the background's tint: 0 (nearly cream) .. 1 (pastel)


# The range of every factor, ends included: creatures are sampled from it, and the values in tables must be in it.
RANGES = {
    "x": (-0.1, 0.1), "y": (-0.1, 0.1), "size": (0.78, 1), "tilt": (-18, 18), "turn": (-1, 1), "gaze_x": (-1, 1),
    "gaze_y": (-1, 1), "openness": (0.4, 1), "smile": (-0.7, 1), "mouth": (0, 1), "left_arm": (0, 1),
    "right_arm": (0, 1), "hue": (-10, 10), "lightness": (-0.1, 0.1), "accent_hue": (-20, 20),
    "accent_lightness": (-0.08, 0.08), "phase": (0, 1), "scale": (0.85, 1.2), "density": (0, 1),
    "tint_hue": (-20, 20), "tint": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Creature:
    """An individual in a pose: everything that `draw` needs."""

    content: Content
    style: Style


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _sample_content(rng: np.random.Generator) -> Content:
    size = float(rng.uniform(0.78, 1.0))
    room = min(0.1, (1 - size) / 2)  # large creatures stay near the middle, so that no head is cut off
    turn = float(rng.uniform(0.35, 1.0)) * (1 if rng.random() < 0.5 else -1)
    return Content(
        x=float(rng.uniform(-0.1, 0.1)),
        y=float(rng.uniform(-room, room)),
        size=size,
        tilt=float(rng.uniform(-18, 18)),
        turn=turn,
        gaze_x=float(rng.uniform(-1, 1)),
        gaze_y=float(rng.uniform(-1, 1)),
        openness=float(1 - 0.6 * rng.random() ** 1.5),
        smile=float(rng.uniform(-0.7, 1)),
        mouth=float(max(0.0, rng.uniform(-2 / 3, 1))),
        left_arm=float(rng.random()),
        right_arm=float(rng.random()),
    )


def _sample_style(rng: np.random.Generator, species: int) -> Style:
    return Style(
        species=species,
        hue=float(rng.uniform(-10, 10)),
        lightness=float(rng.uniform(-0.1, 0.1)),
        accent_hue=float(rng.uniform(-20, 20)),
        accent_lightness=float(rng.uniform(-0.08, 0.08)),
        phase=float(rng.random()),
        scale=float(rng.uniform(0.85, 1.2)),
        density=float(rng.random()),
        tint_hue=float(rng.uniform(-20, 20)),
        tint=float(rng.random()),
    )


def sample_creatures(number: int, seed: int) -> list[Creature]:
    """`number` creatures. Every six successive creatures contain each species once, in a random order.

    Creature i depends only on (seed, i), so a shorter list is the beginning of a longer one.
    """
    creatures: list[Creature] = []
    for i in range(number):
        block, place = divmod(i, len(SPECIES))
        species = int(_generator(seed, _ORDER, block).permutation(len(SPECIES))[place])
        content = _sample_content(_generator(seed, _CONTENT, i))
        creatures.append(Creature(content, _sample_style(_generator(seed, _STYLE, i), species)))
    return creatures


def exact_translation(source: Creature, reference: Creature) -> Creature:
    """The truth with which a translation is compared: the source's content in the reference's style."""
    return Creature(source.content, reference.style)

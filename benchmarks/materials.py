"""Draw pictures of ten materials, for benchmarks: a material is a texture, and nearly any paint occurs on it.

  python benchmarks/materials.py FOLDER --seed 5 --any-paint 0.35 --turned 180

Each material has a folder of 110 to 229 pictures of 64 px. Scale, light and contrast differ from picture to picture,
and so do the paint and the direction. Colours alone hardly tell the materials apart.
"""

import argparse
import colorsys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

SIDE = 64
Plane = NDArray[np.float64]
Rng = np.random.Generator


def noise(rng: Rng, u: Plane, v: Plane, frequency: float) -> Plane:
    """Smooth noise at the places (u, v)."""
    grid = rng.normal(size=(64, 64))
    found: Plane = map_coordinates(
        grid, [(v * frequency) % 64, (u * frequency) % 64], order=1, mode="grid-wrap"
    )
    return found


def turbulence(rng: Rng, u: Plane, v: Plane, frequency: float, octaves: int) -> Plane:
    """Noise of several frequencies, each twice the one before and half as strong."""
    return sum((noise(rng, u, v, frequency * 2**i) / 2**i for i in range(octaves)), np.zeros_like(u))


def cells(rng: Rng, u: Plane, v: Plane, frequency: float) -> tuple[Plane, Plane]:
    """Cells around random points: how far from the nearest cell wall a place is, and one random number per cell."""
    low = np.array([u.min() - 0.3, v.min() - 0.3])
    size = np.array([u.max() + 0.3, v.max() + 0.3]) - low
    points = low + rng.uniform(size=(max(8, int(frequency**2 * np.prod(size))), 2)) * size
    distances, nearest = cKDTree(points).query(np.stack([u.ravel(), v.ravel()], 1), k=2)
    wall = (distances[:, 1] - distances[:, 0]) * frequency
    return wall.reshape(u.shape), rng.uniform(size=len(points))[nearest[:, 0]].reshape(u.shape)


def wood(rng: Rng, u: Plane, v: Plane) -> Plane:
    rings = np.sin(2 * np.pi * (v * 5 + 0.5 * turbulence(rng, u * 0.4, v, 2, 4)))
    return 0.5 * rings + 0.3 * noise(rng, u * 2, v * 20, 2)


def brick(rng: Rng, u: Plane, v: Plane) -> Plane:
    row = np.floor(v * 6)
    across = u * 3 + 0.5 * (row % 2)
    mortar = (across % 1 < 0.06) | ((v * 6) % 1 < 0.12)
    shade = rng.normal(size=(64, 64))[row.astype(int) % 64, np.floor(across).astype(int) % 64]
    return np.where(mortar, 1.3, -0.3 + 0.3 * shade) + 0.2 * turbulence(rng, u, v, 12, 2)


def grass(rng: Rng, u: Plane, v: Plane) -> Plane:
    bent = 0.2 * turbulence(rng, u, v, 3, 2)
    return noise(rng, (u + bent) * 24, v * 4, 1.5) + 0.7 * noise(rng, (u - bent) * 20, v * 3, 1.5)


def gravel(rng: Rng, u: Plane, v: Plane) -> Plane:
    wall, shade = cells(rng, u, v, 8)
    return np.minimum(wall * 2, 0.6) * 2 + shade - 1


def water(rng: Rng, u: Plane, v: Plane) -> Plane:
    bent = 0.12 * turbulence(rng, u, v, 3, 3)
    return 0.6 * np.sin(2 * np.pi * 6 * (v + bent)) + 0.4 * np.sin(2 * np.pi * (v * 9 + u * 2 - bent * 8))


def marble(rng: Rng, u: Plane, v: Plane) -> Plane:
    return 1 - 2 * np.abs(np.sin(2 * np.pi * (u + 0.45 * turbulence(rng, u, v, 3, 5)))) ** 0.4


def weave(rng: Rng, u: Plane, v: Plane) -> Plane:
    over = (np.floor(u * 9) + np.floor(v * 9)) % 2 == 0
    threads = np.where(over, np.sin(np.pi * ((u * 9) % 1)), np.sin(np.pi * ((v * 9) % 1)) - 0.5)
    return threads + 0.15 * noise(rng, u, v, 40)


def leather(rng: Rng, u: Plane, v: Plane) -> Plane:
    wall, _ = cells(rng, u, v, 20)
    return np.minimum(wall, 0.35) * 3 - 0.5 + 0.2 * noise(rng, u, v, 10)


def sand(rng: Rng, u: Plane, v: Plane) -> Plane:
    ripples = np.sin(2 * np.pi * (v * 4 + 0.3 * turbulence(rng, u, v, 2, 2)))
    return 0.5 * rng.normal(size=u.shape) + 0.4 * ripples


def metal(rng: Rng, u: Plane, v: Plane) -> Plane:
    brushed: Plane = gaussian_filter(noise(rng, u, v * 40, 1) + 0.5 * noise(rng, u * 0.6, v * 60, 1), 0.3)
    return brushed + 0.8 * turbulence(rng, u, v, 1.5, 1)


# The texture, the usual hue (None: any), and the usual saturation of each material.
MATERIALS: dict[str, tuple[Callable[[Rng, Plane, Plane], Plane], float | None, float]] = {
    "wood": (wood, 0.08, 0.5),
    "brick": (brick, 0.03, 0.55),
    "grass": (grass, 0.28, 0.5),
    "gravel": (gravel, 0.1, 0.15),
    "water": (water, 0.55, 0.45),
    "marble": (marble, 0.6, 0.1),
    "weave": (weave, None, 0.5),
    "leather": (leather, 0.06, 0.45),
    "sand": (sand, 0.11, 0.35),
    "metal": (metal, 0.6, 0.12),
}


def places(rng: Rng, turned: float) -> tuple[Plane, Plane]:
    """Where on the material each pixel lies; the picture is turned by at most `turned` degrees."""
    angle, scale = np.deg2rad(rng.uniform(-turned, turned)), rng.uniform(0.7, 1.5)
    down, right = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    u = scale * (np.cos(angle) * right - np.sin(angle) * down) + rng.uniform(0, 9)
    return u, scale * (np.sin(angle) * right + np.cos(angle) * down) + rng.uniform(0, 9)


def picture(name: str, rng: Rng, any_paint: float, turned: float) -> Image.Image:
    """One picture of a material. any_paint: the share of pictures with any hue, not the material's usual one."""
    texture, usual, usual_saturation = MATERIALS[name]
    relief = texture(rng, *places(rng, turned))
    relief = (relief - relief.mean()) / (relief.std() + 1e-6)
    hue = rng.uniform() if usual is None or rng.uniform() < any_paint else rng.normal(usual, 0.04)
    saturation = np.clip(rng.normal(usual_saturation, 0.15), 0, 0.9)
    down, right = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0, 0.6) * (np.cos(angle) * right + np.sin(angle) * down)
    value = np.clip((rng.uniform(0.35, 0.8) + rng.uniform(0.08, 0.2) * relief) * light, 0, 1)
    paint = np.array(colorsys.hsv_to_rgb(hue % 1, saturation, 1))
    shade = np.array(
        colorsys.hsv_to_rgb((hue + 0.05) % 1, np.clip(saturation + 0.15 * rng.normal(), 0, 1), 1)
    )
    share = np.clip(0.5 + 0.4 * relief, 0, 1)[..., None]
    pixels = value[..., None] * (paint * share + shade * (1 - share)) + 0.02 * rng.normal(
        size=(SIDE, SIDE, 3)
    )
    if rng.uniform() < 0.3:
        blur = rng.uniform(0.3, 0.9)
        pixels = gaussian_filter(pixels, (blur, blur, 0))
    return Image.fromarray((255 * pixels.clip(0, 1)).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--any-paint", type=float, default=0.35, help="share of pictures with any hue")
    parser.add_argument("--turned", type=float, default=180, help="largest turn of a picture, degrees")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    for name in MATERIALS:
        (args.folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(int(rng.integers(110, 230))):
            picture(name, rng, args.any_paint, args.turned).save(args.folder / name / f"{i:03d}.png")


if __name__ == "__main__":
    main()

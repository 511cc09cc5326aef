"""The shapes of which creatures consist, given by signed distances, and the canvas on which they are painted.

A shape gives the signed distance of every point of its frame from its edge (negative inside). The canvas converts
distances to coverage, paints only the window that the shape can touch, and averages its sub-pixels at the end, so
that edges are smooth at every size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Colour = tuple[float, float, float]  # sRGB, each 0 .. 1
Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """A place to draw in, with its own coordinates (u, v), of which v points down. `to_canvas` converts them."""

    x: float  # where its origin lies on the canvas, in sub-pixels
    y: float
    scale: float  # sub-pixels per local unit
    cos: float = 1.0  # of the angle by which it is turned clockwise
    sin: float = 0.0

    def to_canvas(self, u: float, v: float) -> Point:
        """Where local point (u, v) lies, in sub-pixels."""
        return (
            self.x + self.scale * (self.cos * u - self.sin * v),
            self.y + self.scale * (self.sin * u + self.cos * v),
        )

    def child(self, u: float, v: float, degrees: float = 0.0) -> "Frame":
        """A frame of the same scale with its origin at local (u, v), turned clockwise by `degrees`."""
        x, y = self.to_canvas(u, v)
        c, s = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
        return Frame(x, y, self.scale, self.cos * c - self.sin * s, self.sin * c + self.cos * s)


@dataclass(frozen=True)
class Shape:
    """A distance function of local (u, v), and a circle (x, y, radius) that holds the shape."""

    distance: Callable[[Array, Array], Array]
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Stencil:
    """The coverage 0 .. 1 of a shape on a window of the canvas, and its circle (x, y, radius) in sub-pixels."""

    rows: slice
    columns: slice
    coverage: Array
    x: float
    y: float
    radius: float


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Shape:
    """An ellipse. The distance is a first-order approximation, exact at the edge (I. Quilez, "Ellipse distance")."""
    c, s = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))

    def distance(u: Array, v: Array) -> Array:
        """The signed distance of points (u, v) from the edge, below 0 inside."""

        du, dv = u - x, v - y
        a, b = (c * du + s * dv) / rx, (c * dv - s * du) / ry
        k = np.sqrt(a * a + b * b)
        slope = np.sqrt((a / rx) ** 2 + (b / ry) ** 2)
        found: Array = k * (k - 1) / np.maximum(slope, 1e-6)
        return found

    return Shape(distance, x, y, max(rx, ry))


def squircle(x: float, y: float, rx: float, ry: float) -> Shape:
    """A superellipse |u/rx|^2.5 + |v/ry|^2.5 = 1, fuller than an ellipse.

    The distance is a first-order approximation.
    """

    def distance(u: Array, v: Array) -> Array:
        """The signed distance of points (u, v) from the edge, below 0 inside."""

        a, b = np.abs(u - x) / rx, np.abs(v - y) / ry
        a1, b1 = a * np.sqrt(a), b * np.sqrt(b)  # a^1.5: a root is far quicker than a power
        slope = 2.5 * np.sqrt((a1 / rx) ** 2 + (b1 / ry) ** 2)
        found: Array = (a1 * a + b1 * b - 1) / np.maximum(slope, 1e-6)
        return found

    return Shape(distance, x, y, 1.42 * max(rx, ry))


def limb(start: Point, end: Point, r0: float, r1: float) -> Shape:
    """A capsule from start to end whose radius goes from r0 to r1."""
    (ax, ay), (bx, by) = start, end
    dx, dy = bx - ax, by - ay
    length2 = max(dx * dx + dy * dy, 1e-9)

    def distance(u: Array, v: Array) -> Array:
        """The signed distance of points (u, v) from the edge, below 0 inside."""

        pu, pv = u - ax, v - ay
        t = _clip(np.asarray((pu * dx + pv * dy) / length2, np.float32), 0, 1)
        found: Array = np.sqrt((pu - t * dx) ** 2 + (pv - t * dy) ** 2) - (r0 + (r1 - r0) * t)
        return found

    return Shape(distance, (ax + bx) / 2, (ay + by) / 2, length2**0.5 / 2 + max(r0, r1))


def triangle(corners: Sequence[Point], rounding: float = 0.0) -> Shape:
    """A triangle with corners rounded off by `rounding`; the corners may be listed clockwise or anticlockwise."""
    (ax, ay), (bx, by), (cx, cy) = corners
    turn = 1.0 if (bx - ax) * (cy - by) > (by - ay) * (cx - bx) else -1.0
    sides = ((ax, ay, bx - ax, by - ay), (bx, by, cx - bx, cy - by), (cx, cy, ax - cx, ay - cy))

    def distance(u: Array, v: Array) -> Array:
        """The signed distance of points (u, v) from the edge, below 0 inside."""

        far = np.full(u.shape, np.inf, np.float32)
        inside = np.full(u.shape, np.inf, np.float32)
        for qx, qy, ex, ey in sides:
            pu, pv = u - qx, v - qy
            t = _clip(np.asarray((pu * ex + pv * ey) / (ex * ex + ey * ey), np.float32), 0, 1)
            far = np.minimum(far, (pu - t * ex) ** 2 + (pv - t * ey) ** 2)
            inside = np.minimum(inside, turn * (ex * pv - ey * pu))
        return np.asarray(-np.sqrt(far) * np.sign(inside) - rounding, np.float32)

    x, y = (ax + bx + cx) / 3, (ay + by + cy) / 3
    return Shape(distance, x, y, max(hypot(u - x, v - y) for u, v in corners) + rounding)


def crescent(x: float, y: float, half: float, bend: float, gap: float, thickness: float) -> Shape:
    """A mouth, 2 * half wide: a line or, if `gap` is above 0, a lens. Its ends lie `bend` higher than its middle, and
    its lower lip hangs `gap` below the upper one; `thickness` is added on every side.
    """

    def distance(u: Array, v: Array) -> Array:
        """The signed distance of points (u, v) from the edge, below 0 inside."""

        t = _clip((u - x) / half, -1, 1)
        upper = y + bend * (0.5 - t * t)
        lower = upper + gap * (1 - t * t)
        steep = np.sqrt(1 + (2 * (abs(bend) + gap) * t / half) ** 2)
        outside = np.maximum(np.maximum(upper - v, v - lower), 0) / steep
        inside = np.minimum(v - upper, lower - v) / steep
        beyond = np.maximum(np.abs(u - x) - half, 0)
        return np.asarray(np.hypot(outside, beyond) - np.maximum(inside, 0) - thickness, np.float32)

    return Shape(distance, x, y + gap / 2, half + abs(bend) + gap + thickness)


def _clip(values: Array, low: float, high: float) -> Array:
    """np.clip without its overhead, which is large for small windows."""
    return np.minimum(np.maximum(values, np.float32(low)), np.float32(high))


def union(*shapes: Shape, blend: float = 0.0) -> Shape:
    """All of the shapes as one shape, with joints smoothed over the length `blend` (polynomial minimum)."""

    def distance(u: Array, v: Array) -> Array:
        """The signed distance of points (u, v) from the edge, below 0 inside."""

        d = shapes[0].distance(u, v)
        for shape in shapes[1:]:
            e = shape.distance(u, v)
            if blend:
                h = np.maximum(blend - np.abs(d - e), 0) / blend
                d = np.minimum(d, e) - h * h * (blend / 4)
            else:
                d = np.minimum(d, e)
        return d

    x = sum(s.x for s in shapes) / len(shapes)
    y = sum(s.y for s in shapes) / len(shapes)
    return Shape(distance, x, y, max(hypot(s.x - x, s.y - y) + s.radius for s in shapes) + blend / 4)


class Canvas:
    """Sub-pixels to paint on: `pixels` (3, n, n) in sRGB; `cover` (n, n), how much of each the creature covers."""

    def __init__(self, size: int, factor: int) -> None:
        self.size, self.factor, n = size, factor, size * factor
        self.n = n
        self.pixels = np.empty((3, n, n), np.float32)
        self.cover = np.zeros((n, n), np.float32)
        self.centres = np.arange(n, dtype=np.float32) + np.float32(0.5)

    def background(self, colour: Colour, vignette: float) -> None:
        """Flat colour, lit softly from the top left and darker by `vignette` in the corners."""
        t = self.centres / self.n * 2 - 1
        shade = 1 - np.float32(vignette) * (t[:, None] ** 2 + t**2) / 2
        shade -= np.float32(0.012) * (t[:, None] + t)
        self.pixels[:] = np.asarray(colour, np.float32)[:, None, None] * shade

    def stencils(
        self,
        frame: Frame,
        shape: Shape,
        grows: Sequence[float],
        inside: Stencil | None = None,
        soft: float = 0.0,
    ) -> list[Stencil]:
        """The shape's coverage, grown by each of `grows` (local units), cut to `inside`; [] outside of the canvas.

        soft: half the width of the edge in local units; 0 means one sub-pixel, the sharpest smooth edge."""
        x, y = frame.to_canvas(shape.x, shape.y)
        reach = (shape.radius + max(grows) + soft) * frame.scale + 1
        r0, r1 = max(0, int(y - reach)), min(self.n, int(y + reach) + 1)
        c0, c1 = max(0, int(x - reach)), min(self.n, int(x + reach) + 1)
        if inside is not None:
            r0, r1 = max(r0, inside.rows.start), min(r1, inside.rows.stop)
            c0, c1 = max(c0, inside.columns.start), min(c1, inside.columns.stop)
        if r0 >= r1 or c0 >= c1:
            return []
        px = (self.centres[c0:c1] - np.float32(frame.x)) / np.float32(frame.scale)
        py = (self.centres[r0:r1, None] - np.float32(frame.y)) / np.float32(frame.scale)
        u = np.float32(frame.cos) * px + np.float32(frame.sin) * py
        v = np.float32(frame.cos) * py - np.float32(frame.sin) * px
        d = shape.distance(u, v)
        sharpness = min(frame.scale, 0.5 / soft) if soft else frame.scale
        found = []
        for grow in grows:
            a = _clip(np.float32(0.5 + grow * sharpness) - d * np.float32(sharpness), 0, 1)
            if inside is not None:
                top, left = inside.rows.start, inside.columns.start
                a *= inside.coverage[r0 - top : r1 - top, c0 - left : c1 - left]
            found.append(Stencil(slice(r0, r1), slice(c0, c1), a, x, y, shape.radius * frame.scale))
        return found

    def fill(self, stencil: Stencil, colour: Colour, shade: float = 0.0, opacity: float = 1.0) -> None:
        """Paint through the stencil: brighter by `shade` at its top left, darker by it at its bottom right."""
        under = self.pixels[:, stencil.rows, stencil.columns]
        paint = np.asarray(colour, np.float32)[:, None, None]
        if shade:
            reach = np.float32(1.4 * stencil.radius)
            across = (self.centres[stencil.columns] - np.float32(stencil.x)) / reach
            down = (self.centres[stencil.rows, None] - np.float32(stencil.y)) / reach
            paint = paint * (1 - np.float32(shade) * _clip(across + down, -1, 1))
        alpha = stencil.coverage if opacity == 1 else stencil.coverage * np.float32(opacity)
        under += (paint - under) * alpha

    def add_to_mask(self, stencil: Stencil) -> None:
        """Count the stencil as the creature's own pixels."""
        cover = self.cover[stencil.rows, stencil.columns]
        np.maximum(cover, stencil.coverage, out=cover)

    def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The picture (size, size, 3) and the creature's mask (size, size), averaged over sub-pixels."""
        blocks = (self.size, self.factor, self.size, self.factor)
        mean = self.pixels.reshape(3, *blocks).mean((2, 4))
        picture = np.clip(np.rint(mean * 255), 0, 255).astype(np.uint8)
        mask = self.cover.reshape(blocks).mean((1, 3)) > 0.5
        return np.ascontiguousarray(picture.transpose(1, 2, 0)), mask


def oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """The sRGB colour of an OKLCH one (B. Ottosson, 2020), clipped; hue in degrees.

    In OKLCH, equal distances look equally different, so individuals differ to the same degree in every species."""
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    l_ = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m_ = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s_ = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.array(
        (
            4.0767416621 * l_ - 3.3077115913 * m_ + 0.2309699292 * s_,
            -1.2684380046 * l_ + 2.6097574011 * m_ - 0.3413193965 * s_,
            -0.0041960863 * l_ - 0.7034186147 * m_ + 1.7076147010 * s_,
        )
    ).clip(0, 1)
    r, g, blue = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return float(r), float(g), float(blue)

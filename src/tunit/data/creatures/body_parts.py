"""The parts that differ between species: ears, tails, wings, noses, and the patterns of head and body."""

import numpy as np

from tunit.data.creatures.drawing import BODY, INK, WHITE, Pen, mixed
from tunit.data.creatures.shapes import Array, Colour, Frame, Shape, Stencil, ellipse, limb, triangle, union

SIDES = (-1.0, 1.0)
CREAM = (0.98, 0.93, 0.82)


def _belly(pen: Pen, body: Stencil, rx: float = 0.26, ry: float = 0.3) -> Stencil | None:
    x = 0.09 * pen.content.turn
    return pen.mark(pen.torso, ellipse(x, BODY[1] + 0.1, rx, ry), pen.second, body, shade=0.05)


def nothing(pen: Pen) -> None:
    """Draw nothing, for a species without tail or wings."""


def _pointed_ears(pen: Pen, inner: Colour, tip: Colour) -> None:
    for side in SIDES:
        at = pen.head.child(side * 0.36 - 0.05 * pen.content.turn, -0.34, side * 14)
        ear = pen.part(at, triangle(((-0.2, 0.12), (0.0, -0.46), (0.2, 0.12)), 0.06), pen.base)
        if ear:
            pen.mark(at, ellipse(0, -0.52, 0.3, 0.24), tip, ear)
        pen.mark(at, triangle(((-0.09, 0.1), (0.0, -0.22), (0.09, 0.1)), 0.04), inner)


def fox_behind(pen: Pen) -> None:
    """A bushy tail with a pale tip."""
    s = pen.tail_side
    root = limb((s * 0.2, 0.8), (s * 0.6, 0.62), 0.12, 0.23)
    brush = limb((s * 0.6, 0.62), (s * 0.66, 0.22), 0.23, 0.07)
    tail = pen.part(pen.root, union(root, brush, blend=0.1), pen.base)
    if tail:
        pen.mark(pen.root, ellipse(s * 0.7, 0.16, 0.34, 0.27), pen.second, tail)


def fox_on_body(pen: Pen, body: Stencil) -> None:
    """A pale belly."""
    _belly(pen, body, 0.25 + 0.04 * pen.style.density, 0.32)


def fox_on_head(pen: Pen, head: Stencil) -> None:
    """A pale mask, and a blaze (a pale stripe on the forehead) whose length differs between individuals."""
    s = pen.style
    width = 0.34 * s.scale
    for side in SIDES:
        cheek = ellipse(side * 0.36, 0.34, width, 0.27 + 0.05 * s.density, side * -20)
        pen.mark(pen.face, cheek, pen.second, head)
    pen.mark(pen.face, ellipse(0, 0.28, 0.2, 0.22), pen.second, head)
    top = -0.48 + 0.14 * s.phase
    pen.mark(pen.face, limb((0, -0.02), (0, top), 0.02, 0.075 + 0.03 * s.density), pen.second, head)


def fox_nose(pen: Pen) -> None:
    """A black nose that shines."""
    at = pen.face.child(0.06 * pen.content.turn, 0.12)
    pen.mark(at, triangle(((-0.06, -0.03), (0.06, -0.03), (0.0, 0.03)), 0.045), INK)
    pen.mark(at, ellipse(-0.03, -0.045, 0.03, 0.018), WHITE, opacity=0.7)


def fox_ears(pen: Pen) -> None:
    """Pointed ears with dark tips."""
    _pointed_ears(pen, mixed(pen.second, (0.95, 0.6, 0.5), 0.35), pen.accent)


def frog_ears(pen: Pen) -> None:
    """A frog has no ears; in their place, the bulges of the eyes."""
    dx, dy = pen.look.eyes
    for side in SIDES:
        pen.part(pen.face, ellipse(side * dx, dy - 0.02, 0.25, 0.26), pen.base, 0.06)


def _spots(pen: Pen, frame: Frame, inside: Stencil, ring: tuple[float, float, float], count: int) -> None:
    _, rx, ry = ring
    for k in range(count):
        angle = 2 * np.pi * (k + pen.style.phase) / count
        radius = (0.15 if k % 2 else 0.125) * pen.style.scale
        at = ellipse(rx * float(np.cos(angle)), ring[0] + ry * float(np.sin(angle)), radius, radius * 0.9)
        pen.mark(frame, at, pen.accent, inside)


def frog_on_body(pen: Pen, body: Stencil) -> None:
    """Spots around a pale belly."""
    _spots(pen, pen.torso, body, (BODY[1], 0.38, 0.3), 5 + round(2 * pen.style.density))
    _belly(pen, body, 0.24, 0.3)


def frog_on_head(pen: Pen, head: Stencil) -> None:
    """Spots around the face, a pale chin."""
    _spots(pen, pen.face, head, (0.0, 0.56, 0.4), 6 + round(3 * pen.style.density))
    for side in SIDES:  # the bulges of the eyes belong to the head: no line between them
        dx, dy = pen.look.eyes
        pen.mark(pen.face, ellipse(side * dx, dy - 0.02, 0.25, 0.26), pen.base, head)
    pen.mark(pen.face, ellipse(0, 0.34, 0.5, 0.22), pen.second, head, shade=0.04)


def frog_nose(pen: Pen) -> None:
    """Two nostrils."""
    for side in SIDES:
        pen.mark(pen.face, ellipse(side * 0.06 + 0.04 * pen.content.turn, 0.04, 0.024, 0.03), pen.line)


def owl_ears(pen: Pen) -> None:
    """Dark tufts."""
    for side in SIDES:
        at = pen.head.child(side * 0.4 - 0.05 * pen.content.turn, -0.34, side * 34)
        pen.part(at, triangle(((-0.17, 0.1), (0.04, -0.34), (0.15, 0.1)), 0.05), pen.accent)


def owl_on_body(pen: Pen, body: Stencil) -> None:
    """Rows of feathers on a pale chest."""
    belly = _belly(pen, body, 0.31, 0.36)
    if belly is None:
        return
    period = 0.23 * pen.style.scale
    for row in range(3):
        for k in range(-2, 3):
            x = (k + 0.5 * (row % 2) + 0.4 * (pen.style.phase - 0.5)) * period + 0.09 * pen.content.turn
            feather = ellipse(x, 0.54 + 0.14 * row, 0.07 * pen.style.scale, 0.06 + 0.015 * pen.style.density)
            pen.mark(pen.torso, feather, pen.accent, belly)


def owl_on_head(pen: Pen, head: Stencil) -> None:
    """A dark cap and pale discs around the eyes."""
    dx, dy = pen.look.eyes
    cap = 0.1 + 0.08 * pen.style.density
    pen.mark(pen.face, triangle(((-0.52, -0.62), (0.52, -0.62), (0, -0.1)), cap), pen.accent, head)
    for side in SIDES:
        pen.mark(pen.face, ellipse(side * (dx + 0.02), dy + 0.03, 0.31, 0.32), pen.second, head, shade=0.05)


def owl_nose(pen: Pen) -> None:
    """A beak."""
    at = pen.face.child(0.07 * pen.content.turn, 0.13)
    beak = triangle(((-0.075, -0.05), (0.075, -0.05), (0.0, 0.09)), 0.035)
    pen.part(at, beak, (0.99, 0.72, 0.2), line=(0.55, 0.33, 0.12))


def rabbit_behind(pen: Pen) -> None:
    """A puff of a tail."""
    pen.part(pen.root, ellipse(pen.tail_side * 0.42, 0.72, 0.17, 0.16), pen.second)


def rabbit_ears(pen: Pen) -> None:
    """Tall ears, the tip of one in the colour of the patches."""
    patched = -1.0 if pen.style.phase < 0.5 else 1.0
    for side in SIDES:
        at = pen.head.child(side * 0.25 - 0.06 * pen.content.turn, -0.36, side * 13 - 5 * pen.content.turn)
        ear = pen.part(at, ellipse(0, -0.18, 0.16, 0.38), pen.base)
        if ear and side == patched:
            pen.mark(at, ellipse(0, -0.52, 0.3, 0.28), pen.accent, ear)
        pen.mark(at, ellipse(0, -0.15, 0.078, 0.27), mixed(pen.accent, WHITE, 0.55), ear)


def rabbit_on_body(pen: Pen, body: Stencil) -> None:
    """A patch on one flank, a pale belly."""
    side = 1.0 if pen.style.phase < 0.5 else -1.0
    pen.mark(pen.torso, ellipse(side * 0.36, 0.56, 0.2 * pen.style.scale, 0.24), pen.accent, body)
    _belly(pen, body, 0.25, 0.28)


def rabbit_on_head(pen: Pen, head: Stencil) -> None:
    """A large patch over one eye, pale lips."""
    s = pen.style
    side = -1.0 if s.phase < 0.5 else 1.0
    drift = (s.phase * 2) % 1 - 0.5
    patch = ellipse(side * 0.36, -0.14 + 0.16 * drift, (0.27 + 0.05 * s.density) * s.scale, 0.34, side * 15)
    pen.mark(pen.face, patch, pen.accent, head)
    for cheek in SIDES:
        pen.mark(pen.face, ellipse(cheek * 0.12, 0.28, 0.19, 0.16), pen.second, head)


def rabbit_nose(pen: Pen) -> None:
    """A small pink nose."""
    at = pen.face.child(0.05 * pen.content.turn, 0.13)
    pen.mark(at, triangle(((-0.045, -0.025), (0.045, -0.025), (0, 0.02)), 0.035), (0.86, 0.28, 0.42))


def dragon_behind(pen: Pen) -> None:
    """Wings, and a tail with a spade at its end."""
    s = pen.tail_side
    for side in SIDES:
        wing = union(
            triangle(((side * 0.28, 0.4), (side * 0.72, 0.12), (side * 0.66, 0.5)), 0.04),
            triangle(((side * 0.28, 0.5), (side * 0.66, 0.42), (side * 0.5, 0.66)), 0.04),
        )
        pen.part(pen.torso, wing, pen.accent)
    spade = triangle(((s * 0.62, 0.6), (s * 0.92, 0.66), (s * 0.72, 0.38)), 0.04)
    pen.part(pen.root, limb((s * 0.2, 0.84), (s * 0.62, 0.78), 0.13, 0.07), pen.base)
    pen.part(pen.root, limb((s * 0.62, 0.78), (s * 0.74, 0.6), 0.07, 0.05), pen.base)
    pen.part(pen.root, spade, pen.accent)


def dragon_ears(pen: Pen) -> None:
    """A crest between two horns."""
    turn = pen.content.turn
    for x, height in ((-0.2, 0.2), (0.2, 0.2), (0.0, 0.3)):
        at = pen.head.child(x - 0.04 * turn, -0.42, 40 * x)
        pen.part(at, triangle(((-0.12, 0.05), (0, -height), (0.12, 0.05)), 0.035), pen.accent)
    for side in SIDES:
        at = pen.head.child(side * 0.42 - 0.05 * turn, -0.3, side * 30)
        tip = limb((0, -0.18), (side * -0.1, -0.38), 0.085, 0.02)
        horn = union(limb((0, 0.1), (0, -0.18), 0.11, 0.085), tip)
        pen.part(at, horn, CREAM, line=(0.5, 0.4, 0.3))


def dragon_on_body(pen: Pen, body: Stencil) -> None:
    """Plates on the belly."""
    belly = _belly(pen, body, 0.27, 0.36)
    if belly is None:
        return
    period = 0.17 * pen.style.scale
    for k in range(4):
        y = 0.44 + (k + pen.style.phase) * period
        groove = limb((-0.4, y), (0.4, y), 0.028, 0.028)
        pen.mark(pen.torso, groove, mixed(pen.second, pen.line, 0.55), belly)


def dragon_on_head(pen: Pen, head: Stencil) -> None:
    """Large scales, a pale snout."""
    s = pen.style
    scale = mixed(pen.base, pen.line, 0.45)
    brow = ((0.0, -0.25), (-0.22, -0.38), (0.22, -0.38))
    for x, y in (*brow, (-0.53, -0.02), (0.53, -0.02), (-0.5, 0.26), (0.5, 0.26)):
        r = (0.06 + 0.03 * s.density) * s.scale
        at = pen.face.child(x * (0.92 + 0.16 * s.phase), y)
        pen.mark(at, triangle(((-r, -0.3 * r), (r, -0.3 * r), (0, r)), 0.05), scale, head)
    pen.mark(pen.face, ellipse(0.02 * pen.content.turn, 0.27, 0.36, 0.23), pen.second, head, shade=0.06)


def dragon_nose(pen: Pen) -> None:
    """Two nostrils."""
    for side in SIDES:
        at = ellipse(side * 0.1 + 0.05 * pen.content.turn, 0.13, 0.032, 0.042, side * 20)
        pen.mark(pen.face, at, pen.line)


def _stripes(pen: Pen, x: float, slope: float, face: float) -> Shape:
    """Stripes that go down by `slope` from the middle to the sides; there are no stripes where |u| < face."""
    period = 0.52 * pen.style.scale  # wide enough to be seen at 32 px
    share = 0.36 + 0.12 * pen.style.density

    def distance(u: Array, v: Array) -> Array:
        """The signed distance of points (u, v) from the edge of the nearest stripe, below 0 inside."""
        across = np.abs(u - np.float32(x))
        t = (v - slope * across) / period + 0.5 * pen.style.phase
        band = np.abs(t - np.rint(t)) * period - share * period / 2
        return np.asarray(np.maximum(band * 0.94, face - across - 0.25 * band), np.float32)

    return Shape(distance, 0.0, 0.0, 2.0)


def zebra_behind(pen: Pen) -> None:
    """A thin tail with a tuft."""
    s = pen.tail_side
    pen.part(pen.root, limb((s * 0.2, 0.66), (s * 0.58, 0.62), 0.06, 0.05), pen.base)
    pen.part(pen.root, limb((s * 0.58, 0.6), (s * 0.66, 0.82), 0.08, 0.11), pen.accent)


def zebra_ears(pen: Pen) -> None:
    """Oval ears and a mane."""
    turn = pen.content.turn
    for side in SIDES:
        at = pen.head.child(side * 0.4 - 0.05 * turn, -0.4, side * 28)
        pen.part(at, ellipse(0, -0.12, 0.13, 0.24), pen.base)
        pen.mark(at, ellipse(0, -0.1, 0.065, 0.15), (0.93, 0.66, 0.66))
    for x, y, r in ((-0.17, -0.48, 0.12), (0.17, -0.48, 0.12), (0.0, -0.56, 0.16)):
        pen.part(pen.head, ellipse(x - 0.05 * turn, y, r, r * 1.25, 40 * x), pen.accent)


def zebra_on_body(pen: Pen, body: Stencil) -> None:
    """Stripes."""
    pen.mark(pen.torso, _stripes(pen, 0.06 * pen.content.turn, 0.25, -1.0), pen.accent, body)


def zebra_on_head(pen: Pen, head: Stencil) -> None:
    """Stripes beside the face, a forelock, a grey muzzle."""
    pen.mark(pen.face, _stripes(pen, 0.0, -0.3, 0.3), pen.accent, head)
    pen.mark(pen.face, limb((0, -0.62), (0, -0.3), 0.16, 0.04), pen.accent, head)
    pen.mark(pen.face, ellipse(0.02 * pen.content.turn, 0.29, 0.34, 0.25), pen.second, head, shade=0.06)


def zebra_nose(pen: Pen) -> None:
    """Two nostrils."""
    for side in SIDES:
        at = ellipse(side * 0.11 + 0.05 * pen.content.turn, 0.155, 0.033, 0.042, side * 20)
        pen.mark(pen.face, at, INK)

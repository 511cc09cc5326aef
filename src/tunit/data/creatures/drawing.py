"""Draw a creature: every species has the same skeleton of head, body, eyes, mouth, arms and feet.

Lengths are in units of half the skeleton's height: it reaches from -1 (the ears) to 1 (the feet), y down.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunit.data.creatures.factors import Content, Creature, Style
from tunit.data.creatures.shapes import (
    Canvas,
    Colour,
    Frame,
    Point,
    Shape,
    Stencil,
    crescent,
    ellipse,
    limb,
    oklch,
    squircle,
)

OUTLINE = 0.034  # width of the outline
HEAD: Point = (0.0, -0.13)
BODY: Point = (0.0, 0.56)
WHITE: Colour = (1.0, 1.0, 1.0)
INK: Colour = (0.13, 0.09, 0.13)

Lch = tuple[float, float, float]  # OKLCH: lightness 0 .. 1, chroma 0 .. 0.3, hue in degrees


@dataclass(frozen=True)
class Look:
    """What distinguishes one species: its colours, its proportions and its own parts."""

    base: Lch
    second: Lch  # belly and muzzle
    accent: Lch  # the pattern
    paw: Lch
    iris: Lch
    habitat: float  # hue of the background's tint
    head: Point  # half width, half height
    body: Point
    eyes: Point  # half the distance between them, and y from the middle of the face
    behind: Callable[["Pen"], None]  # tail, wings
    on_body: Callable[["Pen", Stencil], None]
    ears: Callable[["Pen"], None]
    on_head: Callable[["Pen", Stencil], None]
    nose: Callable[["Pen"], None]
    arm: Point = (0.125, 0.125)  # radius at the shoulder and at the paw
    mouth: Point = (0.0, 0.285)
    mouth_half: float = 0.15
    outline: float = 0.55  # lightness of the outline, relative to the base colour


@dataclass
class Pen:
    """What is needed to draw one creature: the canvas, the frames of its parts, and its individual colours."""

    canvas: Canvas
    look: Look
    content: Content
    style: Style
    root: Frame
    base: Colour = field(init=False)
    second: Colour = field(init=False)
    accent: Colour = field(init=False)
    paw: Colour = field(init=False)
    line: Colour = field(init=False)

    def __post_init__(self) -> None:
        turn, s = self.content.turn, self.style
        self.head = self.root.child(HEAD[0] + 0.07 * turn, HEAD[1], 4 * turn)
        self.face = self.head.child(0.13 * turn, 0.0)
        self.torso = self.root.child(0.0, 0.0, 2 * turn)
        self.tail_side = -1.0 if turn > 0 else 1.0  # opposite to where it looks
        lightness, chroma, hue = self.look.base
        # Without the limit, a light zebra would be lighter than white.
        lightness = min(lightness * (1 + s.lightness), 0.985)
        self.base = oklch(lightness, chroma, hue + s.hue)
        self.line = oklch(lightness * self.look.outline, chroma * 0.75, hue + s.hue - 6)
        self.second = self._individual(self.look.second)
        self.accent = self._individual(self.look.accent)
        self.paw = self._individual(self.look.paw)

    def _individual(self, colour: Lch) -> Colour:
        lightness, chroma, hue = colour
        s = self.style
        return oklch(min(lightness * (1 + s.accent_lightness), 0.985), chroma, hue + s.accent_hue)

    def part(
        self, frame: Frame, shape: Shape, colour: Colour, shade: float = 0.11, line: Colour | None = None
    ) -> Stencil | None:
        """Draw a solid part of the creature with its outline. Returns its stencil, or None outside of the picture."""
        found = self.canvas.stencils(frame, shape, (OUTLINE, 0.0))
        if not found:
            return None
        outer, inner = found
        self.canvas.add_to_mask(outer)
        self.canvas.fill(outer, line or self.line)
        self.canvas.fill(inner, colour, shade)
        return inner

    def mark(
        self,
        frame: Frame,
        shape: Shape,
        colour: Colour,
        inside: Stencil | None = None,
        opacity: float = 1.0,
        soft: float = 0.0,
        shade: float = 0.0,
    ) -> Stencil | None:
        """Paint a shape without an outline, only where `inside` is.

        Returns its stencil, or None if nothing is visible.
        """
        for stencil in self.canvas.stencils(frame, shape, (0.0,), inside, soft):
            self.canvas.fill(stencil, colour, shade, opacity)
            return stencil
        return None


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """Colour a with `share` of colour b."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def _ground(canvas: Canvas, style: Style, habitat: float) -> Colour:
    """Paint the background, cream with a tint of the habitat's hue; returns the colour of shadows on it."""
    cream, leaf = oklch(0.955, 0.022, 85), oklch(0.94, 0.04, habitat + style.tint_hue)
    tint = mixed(cream, leaf, 0.1 + 0.3 * style.tint)
    canvas.background(tint, 0.05)
    return mixed(tint, oklch(0.45, 0.05, habitat), 0.55)


def _shadow(pen: Pen, colour: Colour) -> None:
    # The shadow lies on the ground, so it stays level even if the creature tilts.
    x, y = pen.root.to_canvas(0.0, 0.97)
    flat = Frame(x, y, pen.root.scale)
    pen.mark(flat, ellipse(0.06, 0.03, 0.56, 0.11), colour, opacity=0.55, soft=0.07)


def _body(pen: Pen) -> None:
    rx, ry = pen.look.body
    body = pen.part(pen.torso, squircle(*BODY, rx, ry), pen.base)
    if body:
        pen.look.on_body(pen, body)
        hx = 0.07 * pen.content.turn
        chin = ellipse(hx, HEAD[1], pen.look.head[0] * 0.95, pen.look.head[1] + 0.1)
        pen.mark(pen.root, chin, pen.line, body, opacity=0.35, soft=0.05)
    for side in (-1.0, 1.0):
        x = side * 0.2 + 0.05 * pen.content.turn
        pen.part(pen.torso, ellipse(x, 0.905, 0.165, 0.105), pen.paw)


def _head(pen: Pen) -> None:
    pen.look.ears(pen)
    head = pen.part(pen.head, squircle(0, 0, *pen.look.head), pen.base)
    if head:
        pen.look.on_head(pen, head)
        for side in (-1.0, 1.0):
            cheek = ellipse(side * 0.37, 0.185, 0.115, 0.075)
            pen.mark(pen.face, cheek, (0.98, 0.42, 0.45), head, opacity=0.45, soft=0.04)


def _eye(pen: Pen, side: float) -> None:
    c = pen.content
    dx, dy = pen.look.eyes
    near = 1 + 0.07 * side * c.turn  # the eye on the far side of a turned head is a little smaller
    at = pen.face.child(side * dx, dy)
    found = pen.canvas.stencils(at, ellipse(0, 0, 0.165 * near, 0.195 * near), (0.026, 0.0))
    if not found:
        return
    rim, white = found
    pen.canvas.fill(rim, mixed(pen.line, INK, 0.35))
    pen.canvas.fill(white, WHITE)
    gx, gy = 0.066 * c.gaze_x * near, 0.072 * c.gaze_y * near
    pen.mark(at, ellipse(gx, gy, 0.118 * near, 0.128 * near), oklch(*pen.look.iris), white, shade=-0.25)
    pen.mark(at, ellipse(gx, gy, 0.082 * near, 0.092 * near), INK, white)
    pen.mark(at, ellipse(gx - 0.04, gy - 0.05, 0.043, 0.047), WHITE, white)
    pen.mark(at, ellipse(gx + 0.042, gy + 0.05, 0.02, 0.02), WHITE, white, opacity=0.85)
    drop = (1 - c.openness) * 0.36 * near  # how far the lid hangs over the eye
    if drop > 0.004:
        top = drop - 0.195 * near - 0.4
        pen.mark(at, ellipse(0, top, 0.455, 0.43), pen.line, white)
        pen.mark(at, ellipse(0, top, 0.43, 0.4), mixed(pen.base, pen.line, 0.12), white)


def _mouth(pen: Pen) -> None:
    c, look = pen.content, pen.look
    at = pen.face.child(look.mouth[0] + 0.05 * c.turn, look.mouth[1])
    half, gap = look.mouth_half * (1 - 0.15 * c.mouth), 0.19 * c.mouth
    # A steep curve would swallow a small mouth, so it flattens as the mouth opens.
    bend = -0.13 * c.smile * (1 - 0.35 * c.mouth)
    lips = pen.canvas.stencils(at, crescent(0, -0.4 * gap, half, -bend, gap, 0.0), (0.03, 0.003))
    if not lips:
        return
    pen.canvas.fill(lips[0], INK)
    if gap > 0.05:
        pen.canvas.fill(lips[1], (0.55, 0.13, 0.17))
        pen.mark(at, ellipse(0, 0.62 * gap, half * 0.62, 0.38 * gap), (0.96, 0.48, 0.5), lips[1])


def _arm(pen: Pen, side: float, pose: float) -> None:
    r0, r1 = pen.look.arm
    start = (side * 0.33 + 0.05 * pen.content.turn, 0.47)
    swing = np.radians(20 + 115 * pose)
    end = (start[0] + side * 0.31 * float(np.sin(swing)), start[1] + 0.31 * float(np.cos(swing)))
    arm = pen.part(pen.torso, limb(start, end, r0, r1), pen.base)
    if arm:
        pen.mark(pen.torso, ellipse(*end, r1 * 1.15, r1 * 1.15), pen.paw, arm, shade=0.1)


def paint(creature: Creature, look: Look, size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture (size, size, 3) and the mask (size, size) of the creature's own pixels, without its shadow."""
    c = creature.content
    canvas = Canvas(size, 2)
    n = canvas.n
    upright = Frame((0.5 + c.x) * n, (0.5 + c.y) * n, c.size * n / 2)
    pen = Pen(canvas, look, c, creature.style, upright.child(0, 0, c.tilt))
    _shadow(pen, _ground(canvas, creature.style, look.habitat))
    look.behind(pen)
    _body(pen)
    _head(pen)
    look.nose(pen)
    _mouth(pen)
    for side in (-1.0, 1.0):
        _eye(pen, side)
    _arm(pen, -1.0, c.left_arm)
    _arm(pen, 1.0, c.right_arm)
    return canvas.finish()

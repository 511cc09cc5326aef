"""Line and bar charts as SVG text that follows the page's colours."""

from collections.abc import Callable, Sequence

import numpy as np

from tunit.printing import escape

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 24
# Pixels of a bar chart: the height of a row, the space for its value, and the width of a letter of its name.
ROW_HEIGHT, VALUE_WIDTH, LETTER_WIDTH = 20, 52, 6.2
LONGEST_NAME = 24  # letters that are shown of a row's name
POINTS = 400  # the most points of a line
# Values that differ by less, as a share, are one value: the means of equal numbers differ in their last digit.
SAME = 1e-9
LARGEST = 1e300  # larger values are not drawn, because differences of two may not be finite
Series = tuple[str, Sequence[float], Sequence[float]]  # name, steps, values


def number(value: float) -> str:
    """Short text of a number: 1,200 or 0.35 or 2.1e-05."""
    if value == 0:
        return "0"
    if abs(value) >= 999.5:  # three digits of it would be 1e+03
        return f"{value:,.0f}"
    return f"{value:.3g}"


def line_chart(title: str, series: Sequence[Series]) -> str:
    """One chart of several lines over the training steps, with a legend. Values that are not finite are left out.

    The place of a series gives its colour, also if others have no points: a run has one colour in all charts.
    """
    thinned = [(i % 8, name, *_thinned(steps, values)) for i, (name, steps, values) in enumerate(series)]
    kept = [(colour, name, x, y) for colour, name, x, y in thinned if len(x)]
    if not kept:
        return ""
    all_x = np.concatenate([x for _, _, x, _ in kept])
    all_y = np.concatenate([y for _, _, _, y in kept])
    x0, x1 = float(all_x.min()), float(max(all_x.max(), all_x.min() + 1))
    y0, y1 = _rounded_range(float(all_y.min()), float(all_y.max()))
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def px(x: float) -> float:
        """The position of a step in the drawing, from the left."""
        return LEFT + inner_w * (x - x0) / (x1 - x0)

    def py(y: float) -> float:
        """The position of a value in the drawing, from the top."""
        return TOP + inner_h * (1 - (y - y0) / (y1 - y0))

    parts = []
    for tick in np.linspace(y0, y1, 5):
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>'
        )
        parts.append(f'<text x="{LEFT - 5}" y="{py(tick) + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick, anchor in ((x0, "start"), (x1, "end")):
        parts.append(
            f'<text x="{px(tick):.1f}" y="{HEIGHT - 7}" text-anchor="{anchor}">{"step " if tick == x0 else ""}'
            f"{number(tick)}</text>"
        )
    for colour, name, x, y in kept:
        points = " ".join(f"{px(a):.1f},{py(b):.1f}" for a, b in zip(x, y, strict=True))
        parts.append(
            f'<polyline class="line s{colour}" points="{points}"><title>{escape(name)}</title></polyline>'
        )
    label = f"{title}: " + ", ".join(f"{name} ends at {number(y[-1])}" for _, name, _, y in kept)
    legend = "".join(
        f'<span class="key"><i class="swatch s{colour}"></i>{escape(name)}</span>'
        for colour, name, _, _ in kept
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(parts)}</svg>"
        f'<div class="legend">{legend}</div></figure>'
    )


def bar_chart(
    title: str,
    rows: Sequence[tuple[str, list[float]]],
    *,
    written: Callable[[float], str] = number,
    colour: int = 0,
) -> str:
    """Bars from 0 to the mean of each row's values; a line from the smallest to the largest if there are several.

    Each chart has its own scale. rows: name, values; rows without values are left out, and without any row the result
    is empty. written: formats a value. colour: the number of a colour of the page.
    """
    known = [(name, values) for name, values in rows if values]
    top = max((max(values) for _, values in known), default=0.0)
    if top <= 0:
        return ""
    left = LETTER_WIDTH * max(len(_shortened(name)) for name, _ in known) + 8
    scale = (WIDTH - left - VALUE_WIDTH) / top
    parts = []
    for i, (name, values) in enumerate(known):
        y, mean = ROW_HEIGHT * i, sum(values) / len(values)
        length = max(0.0, mean * scale)
        parts.append(
            f'<text x="{left - 6:.1f}" y="{y + 14}" text-anchor="end">{escape(_shortened(name))}'
            f"<title>{escape(name)}</title></text>"
            f'<rect class="mark s{colour}" x="{left:.1f}" y="{y + 4}" width="{length:.1f}" height="12" rx="2"/>'
        )
        end = left + max(length, max(values) * scale) + 5
        if len(values) > 1:
            low, high = (left + max(0.0, edge * scale) for edge in (min(values), max(values)))
            parts.append(
                f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y + 10}" y2="{y + 10}"/>'
            )
        parts.append(f'<text x="{end:.1f}" y="{y + 14}">{written(mean)}</text>')
    label = f"{title}: " + ", ".join(f"{name} {written(sum(v) / len(v))}" for name, v in known)
    height = ROW_HEIGHT * len(known) + 4
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _thinned(steps: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS points, each the mean of neighbouring ones, so that the trend of a noisy line is visible."""
    x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    drawable = np.abs(y) <= LARGEST  # not so for NaN
    x, y = x[drawable], y[drawable]
    if len(x) <= POINTS:
        return x, y
    edges = np.linspace(0, len(x), POINTS + 1).astype(int)[:-1]
    counts = np.diff(np.append(edges, len(x)))
    return np.add.reduceat(x, edges) / counts, np.add.reduceat(y, edges) / counts


def _rounded_range(low: float, high: float) -> tuple[float, float]:
    if high - low <= SAME * max(abs(low), abs(high)):
        margin = max(0.5, abs(low) / 1000)  # of a number above 1e16, 0.5 less is the same number
        return low - margin, high + margin
    step = 10 ** np.floor(np.log10(high - low)) / 2
    return float(np.floor(low / step) * step), float(np.ceil(high / step) * step)

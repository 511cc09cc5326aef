"""The map of Explore in a real browser: what it draws, what it finds, and how long a frame of 10,000 points takes."""

import numpy as np
import pytest

from browser import WIDTHS
from studio.page import Page

SIDE, MARGIN = 232, 16
A_FRAME = 33.0  # milliseconds: 30 frames per second

MAKE = """
const [points, shown, done] = arguments;
document.body.innerHTML = '<div class="map canvas-map"><canvas id="canvas"></canvas></div>';
const canvas = document.getElementById("canvas");
canvas.style = "width: 232px; height: 232px; background: rgb(255, 255, 255)";
import("/static/now/map.js").then(({ StyleMap }) => {
  window.said = [];
  const on = { point: (place) => said.push(place), open() {}, lasso() {} };
  const colours = (domain) => ["rgb(200, 0, 40)", "rgb(0, 100, 250)"][domain];
  window.map = new StyleMap(canvas, points, colours, on);
  map.show(shown && Uint8Array.from(shown));
  requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done)));
});
"""
FRAMES = """
const [number, done] = arguments, canvas = document.getElementById("canvas");
let left = number;
const frame = () => {
  if (!left--) return done(said);
  map.zoom(left % 60 < 30 ? 1.05 : 1 / 1.05);
  const box = canvas.getBoundingClientRect();
  const [clientX, clientY] = [box.left + 20 + left, box.top + 200 - left];
  canvas.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY}));
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
"""


@pytest.fixture
def drawn(browser, server):
    """A function that draws points on a map of 200 x 200 pixels with a margin."""
    page = Page(browser, server, WIDTHS["tablet"])
    page.open("/")
    page.away()

    def draw(points, shown=None):
        browser.execute_async_script(MAKE, points, shown)
        pixels = browser.execute_script(
            "const c = document.getElementById('canvas');"
            "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        )
        return np.array(pixels, np.uint8).reshape(SIDE, SIDE, 4)[..., :3]

    return draw


def at(share):
    """The pixel of a place, from 0 to 10,000."""
    return MARGIN + round(share / 10_000 * (SIDE - 2 * MARGIN))


def test_points_are_discs_of_their_domains_colour_and_faint_if_not_chosen(drawn):
    points = {"x": [0, 5000, 10_000], "y": [2500, 5000, 10_000], "domain": [0, 1, 0]}
    pixels = drawn(points, [1, 0, 1])
    red, blue = np.array([200, 0, 40]), np.array([0, 100, 250])
    assert pixels[at(2500), at(0)].tolist() == red.tolist()
    assert pixels[at(10_000), at(10_000)].tolist() == red.tolist()
    assert pixels[at(5000), at(5000)] == pytest.approx(255 + 0.13 * (blue - 255.0), abs=2)
    radius = 6  # the largest, for few points
    for apart, is_inside in ((radius - 1, True), (radius + 2, False)):
        assert (pixels[at(2500), at(0) + apart].tolist() == red.tolist()) is is_inside
    area = (pixels != 255).any(2).sum() / 3
    assert area == pytest.approx(np.pi * (radius + 0.5) ** 2, rel=0.1)


def test_the_pointer_finds_the_nearest_of_the_chosen_points(drawn, browser):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 10_001, (2, 2000))
    shown = rng.integers(0, 2, 2000)
    drawn({"x": x.tolist(), "y": y.tolist(), "domain": [0] * 2000}, shown.tolist())
    found = browser.execute_async_script(
        "const [done] = arguments, found = [], canvas = document.getElementById('canvas');"
        "const box = canvas.getBoundingClientRect(); let k = 0; map.zoom(3, 90, 120);"
        "const next = () => { found.push(map.cursor); if (++k < 40) move(); else done(found); };"
        "const move = () => { canvas.dispatchEvent(new PointerEvent('pointermove',"
        " {clientX: box.left + 5 * k, clientY: box.top + 200 - 4 * k}));"
        " requestAnimationFrame(() => requestAnimationFrame(next)); }; move();"
    )
    # After zooming, pixel (90, 120) shows the same place as before, and lengths are three times as long.
    places = [MARGIN + share / 10_000 * 200 for share in (x, y)]
    on_screen = [fixed + 3 * (place - fixed) for place, fixed in zip(places, (90, 120), strict=True)]
    for k, place in enumerate(found):
        apart = np.hypot(on_screen[0] - 5 * k, on_screen[1] - (200 - 4 * k))
        apart[shown == 0] = np.inf
        assert place == (apart.argmin() if apart.min() < 14 else -1)
    assert len(set(found)) > 10


def test_a_frame_of_10000_points_takes_little_time(drawn, browser):
    rng = np.random.default_rng(0)
    points = {"x": rng.integers(0, 10_001, 10_000), "y": rng.integers(0, 10_001, 10_000)}
    points = {name: values.tolist() for name, values in points.items()} | {"domain": [0, 1] * 5000}
    drawn(points)
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    def busy():
        metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    browser.execute_async_script(FRAMES, 20)  # while the browser compiles the script
    before = busy()
    said = browser.execute_async_script(FRAMES, 60)
    took = 1000 * (busy() - before) / 60  # CPU time of the page's thread
    browser.execute_cdp_cmd("Performance.disable", {})
    assert len(said) > 10
    assert took < A_FRAME

"""Takes the pictures of docs/studio.md.

The test takes them of a tiny run, to see that it can. To make those of the documentation:

    TUNIT_SCREENSHOTS_OF=RUN python -m pytest tests/studio/test_screenshots.py
"""

import base64
import io
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.conftest import serving
from tunit.data.packing.packed import open_packed

DOCS = Path(__file__).parents[2] / "docs"
RUN = os.environ.get("TUNIT_SCREENSHOTS_OF", "")
MOST_BYTES = 200_000  # of a picture in the documentation
WIDTH, SCALE = 1280, 0.75
HEIGHTS = {"explore": 1180, "translate": 1132, "teach": 860, "train": 900}

LASSO = """
const canvas = document.getElementById("canvas"), box = canvas.getBoundingClientRect();
const at = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, {pointerId: 1, bubbles: true,
  clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
canvas.setPointerCapture = () => {};
at("pointerdown", 0.55, 0.1);
for (let i = 0, a = 4; i <= 40; i++, a += 0.154)
  at("pointermove", 0.72 + 0.25 * Math.cos(a), 0.4 + 0.32 * Math.sin(a));
at("pointerup", 0.5, 0.2);
"""
TRANSLATE = """
const choose = (id, value) => { const e = document.getElementById(id); e.value = value;
  e.dispatchEvent(new Event("input")); e.dispatchEvent(new Event("change")); };
choose("split", 45); choose("domain-add", document.querySelectorAll("#domain-add option")[2].value);
document.querySelector("#domain-form button").click();
document.getElementById("grid-draw").click();
"""
# Names a domain after the folder of most of its pictures, and selects two pictures.
TEACH = """
const folders = [...document.querySelectorAll(".tile")].map((one) => one.ariaLabel.split("/")[0]);
const often = (name) => folders.filter((one) => one === name).length;
const name = document.getElementById("name");
name.value = folders.reduce((a, b) => often(b) > often(a) ? b : a);
document.getElementById("rename").requestSubmit();
for (const k of [2, 3]) document.querySelectorAll(".tile")[k].click();
"""


def wait(driver, script):
    end = time.monotonic() + 300
    while not driver.execute_script(f"return {script}"):
        assert time.monotonic() < end, script
        time.sleep(0.05)
    driver.execute_async_script("setTimeout(arguments[0], 300)")  # until pictures have been decoded


def shot(driver, height):
    """The top of the page, as a WebP: a PNG of photographs would be large, or lose the colours of the domains."""
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": SCALE}
    found = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    small = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(found["data"]))) as image:
        image.convert("RGB").save(small, "WEBP", quality=85, method=6)
    return small.getvalue()


def screenshots(driver, server, run, pictures):
    """(part, WebP) for each part of the studio, as it shows a run of so many pictures."""
    size = {"width": WIDTH, "height": 1200, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def of(part):
        wait(driver, "[...document.images].every((one) => one.complete)")
        return part, shot(driver, HEIGHTS[part])

    driver.get(f"{server}/runs/{run}/explore")
    wait(driver, "document.getElementById('progress').hidden")
    driver.execute_script(LASSO)
    yield of("explore")
    driver.get(f"{server}/runs/{run}/translate?source=4&reference={pictures * 3 // 4}")
    wait(driver, "!document.getElementById('download').disabled")
    driver.execute_script(TRANSLATE)
    wait(driver, "document.querySelector('#grid img')")
    yield of("translate")
    driver.get(f"{server}/runs/{run}/teach")
    wait(driver, "document.querySelectorAll('.tile').length > 3")
    driver.execute_script(TEACH)
    wait(driver, "document.getElementById('saved').textContent.startsWith('1 action')")
    yield of("teach")
    driver.get(f"{server}/train?run={run}")
    wait(driver, "document.querySelector('.chart polyline')")
    yield of("train")


def test_the_pictures_of_the_documentation_can_be_taken(browser, runs, tmp_path):
    source = Path(RUN) if RUN else runs / "birds"
    shutil.copytree(source, tmp_path / "runs" / source.name)  # Teach writes into it
    (tmp_path / "pictures").mkdir()
    pictures = len(open_packed(source / "data").images)
    with serving(tmp_path / "runs") as server:
        taken = dict(screenshots(browser, server, source.name, pictures))
    assert list(taken) == list(HEIGHTS)
    for part, data in taken.items():
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (WIDTH * SCALE, HEIGHTS[part] * SCALE)
            assert np.asarray(image.convert("L")).std() > 5  # not an empty page
        assert len(data) < MOST_BYTES
        if RUN:
            (DOCS / f"studio-{part}.webp").write_bytes(data)


@pytest.mark.parametrize("part", HEIGHTS)
def test_the_documentation_has_a_picture_of_every_part(part):
    with Image.open(DOCS / f"studio-{part}.webp") as image:
        assert image.size == (WIDTH * SCALE, HEIGHTS[part] * SCALE)
    assert f"](studio-{part}.webp)" in (DOCS / "studio.md").read_text("utf-8")

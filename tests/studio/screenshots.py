"""Makes the pictures of docs/studio.md from a trained run: `python tests/studio/screenshots.py RUN docs`."""

import base64
import shutil
import sys
import threading
import time
from pathlib import Path

import uvicorn
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tunit.studio import serve
from tunit.studio.app import create_app
from tunit.studio.workspace import Workspace

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
document.getElementById("grid-draw").click();
"""


def wait(driver, script):
    while not driver.execute_script(f"return {script}"):
        time.sleep(0.2)
    time.sleep(2)


def shot(driver, path, height):
    clip = {"x": 0, "y": 0, "width": 1280, "height": height, "scale": 0.75}
    found = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(found["data"]))
    with Image.open(path) as image:
        image.convert("RGB").quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)


def main(run: Path, out: Path) -> None:
    listening = serve.listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(Workspace(run, device="cpu")), log_config=None))
    threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True).start()
    base = f"http://127.0.0.1:{listening.getsockname()[1]}/runs/{run.resolve().name}"
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    size = {"width": 1280, "height": 1200, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(f"{base}/explore")
    wait(driver, "document.getElementById('progress').hidden")
    driver.execute_script(LASSO)
    time.sleep(2)
    shot(driver, out / "studio-explore.png", 1180)
    driver.get(f"{base}/translate?source=4&reference=9")
    wait(driver, "!document.getElementById('download').disabled")
    driver.execute_script(TRANSLATE)
    wait(driver, "document.querySelector('#grid img')")
    shot(driver, out / "studio-translate.png", 860)
    driver.quit()
    server.should_exit = True


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

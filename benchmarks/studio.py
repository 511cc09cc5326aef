"""How fast the studio responds: a translation at 128 px, all domains, a walk; and its map of 10,000 pictures.

    python benchmarks/studio.py [--quick] [--size 128] [--pictures 10000] [--repeats 20] [--threads N]

Translations are requested as the page does it, through the whole application except the network. The model has the
default preset and is untrained (this does not change its speed). The map is zoomed in and out in a headless Chromium,
if one is installed: frames per second, and the longest wait for a frame.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from machine import write
from translation import untrained
from tunit.config import Config
from tunit.data.decoding.workers import usable_cores
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import pack_settings
from tunit.studio import serve
from tunit.studio.app import create_app
from tunit.studio.workspace import Workspace
from tunit.training.run_folder import RunFolder

ZOOMING = """
const done = arguments[0], canvas = document.getElementById("canvas"), times = [];
canvas.scrollIntoView({block: "center"});
const frame = (now) => {
  times.push(now);
  if (times.length > 180) return done(times);
  const deltaY = times.length % 60 < 30 ? -20 : 20;
  const [clientX, clientY] = [canvas.getBoundingClientRect().left + 200, canvas.getBoundingClientRect().top + 200];
  canvas.dispatchEvent(new WheelEvent("wheel", {deltaY, clientX, clientY, cancelable: true}));
  canvas.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY}));
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
"""


def seconds(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    call()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return {"median": statistics.median(took), "least": min(took), "most": max(took)}


def photograph() -> bytes:
    """A picture of 12 megapixels, like a phone's."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def translations(folder: Path, repeats: int) -> Iterator[tuple[str, dict[str, float]]]:
    """The page's requests: the picture once, then its square for every movement of a slider."""
    base = f"/runs/{folder.name}/translate"
    with TestClient(create_app(Workspace(folder, device="cpu")), base_url="http://localhost") as client:

        def post(what: str, data: bytes, **fields: str) -> Any:
            answer = client.post(f"{base}/{what}", data=fields, files={"source": ("me.jpg", data)})
            assert answer.status_code == 200, answer.text
            return answer

        source = photograph()
        about = post("prepare", source).json()
        buffer = io.BytesIO()
        square = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        side = Config().data.image_size
        Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "PNG")
        style = json.dumps([{"code": about["code"], "weight": 1}, {"domain": 0, "weight": 0.5}])
        small = buffer.getvalue()
        stops = json.dumps([[{"domain": 0}], [{"domain": 1}]])
        for name, call, times in (
            ("a source of 12 megapixels is prepared, seconds", lambda: post("prepare", source), repeats),
            ("a result, seconds", lambda: post("draw", small, style=style), repeats),
            (
                "a result at another strength, seconds",
                lambda: post("draw", small, style=style, strength="0.7"),
                repeats,
            ),
            ("all 10 domains, seconds", lambda: post("grid", small), max(2, repeats // 5)),
            ("a walk of 48 frames, seconds", lambda: post("walk", small, stops=stops), max(2, repeats // 5)),
        ):
            yield name, seconds(call, times)


def run_of(folder: Path, pictures: int) -> Path:
    """A small model, and this many small pictures."""
    run, source = folder / "many", folder / "pictures"
    untrained(run, 32)
    source.mkdir()
    rng = np.random.default_rng(0)
    for i in range(pictures):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(source / f"{i:05d}.png")
    pack_pictures(source, RunFolder(run).data, pack_settings(Config().with_overrides({"image_size": 32})))
    return run


def the_map(run: Path) -> dict[str, Any]:
    listening = serve.listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(Workspace(run, device="cpu")), log_config=None))
    threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True).start()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_window_size(1400, 900)
        driver.set_script_timeout(120)
        began = time.perf_counter()
        driver.get(f"http://127.0.0.1:{listening.getsockname()[1]}/runs/{run.name}/explore")
        while driver.execute_script("return document.getElementById('explore').hidden"):
            time.sleep(0.2)
        first = time.perf_counter() - began
        began = time.perf_counter()
        driver.refresh()
        while driver.execute_script("return document.getElementById('explore').hidden"):
            time.sleep(0.02)
        again = time.perf_counter() - began
        times = np.diff(driver.execute_async_script(ZOOMING))
    finally:
        driver.quit()
        server.should_exit = True
    return {
        "the first look, seconds": first,
        "opened again, seconds": again,
        "frames per second while zooming": 1000 / float(times.mean()),
        "longest wait for a frame, milliseconds": float(times.max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few pictures, few repeats")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--pictures", type=int, help="on the map; 0 leaves it out")
    parser.add_argument("--repeats", type=int, help="of each measurement [20; 2 if quick]")
    parser.add_argument("--threads", type=int, default=usable_cores())
    args = parser.parse_args()
    pictures = (200 if args.quick else 10_000) if args.pictures is None else args.pictures
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        load = os.getloadavg()[0]
        untrained(folder / "run", args.size)
        result: dict[str, Any] = {
            "size": args.size,
            "threads": args.threads,
            "load before": load,
            "translate": {},
        }
        name = "studio-quick" if args.quick else "studio"
        for what, took in translations(folder / "run", args.repeats or (2 if args.quick else 20)):
            result["translate"][what] = took
            write(name, result)  # results so far are saved, in case the rest takes too long
        if pictures and shutil.which("chromium") and shutil.which("chromedriver"):
            result["map"] = {"pictures": pictures, **the_map(run_of(folder, pictures))}
    print(write(name, result).read_text())


if __name__ == "__main__":
    main()

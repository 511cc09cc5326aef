"""How fast the studio responds: a translation at 128 px, all domains, a walk; and its map of 10,000 pictures.

    python benchmarks/studio.py [--quick] [--size 128] [--pictures 10000] [--repeats 20] [--threads N]

Translations are requested as the page does it, through the whole application except the network. The model has the
default preset and is untrained (this does not change its speed). Beside each time is the CPU time of the studio, as
it depends less on what else the machine does. Explore is opened in a headless Chromium, if one is installed, and its
map is zoomed in and out: frames per second, the longest wait for a frame, and CPU time for each frame.
"""

import argparse
import io
import itertools
import json
import os
import shutil
import statistics
import sys
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

from machine import cpu_seconds, write
from translation import untrained
from tunit.config import Config
from tunit.data.decoding.workers import usable_cores
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import pack_settings
from tunit.openmp_wait import sleep_soon
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
    took, busy = [], []
    for _ in range(repeats):
        began, spent = time.perf_counter(), time.process_time()
        call()
        took.append(time.perf_counter() - began)
        busy.append(time.process_time() - spent)
    return {
        "median": statistics.median(took),
        "least": min(took),
        "most": max(took),
        "CPU time, median": statistics.median(busy),
    }


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
        style = json.dumps([{"code": about["code"], "weight": 1}, {"domain": 0, "weight": 0.5}])
        fresh, strengths = map(square, itertools.count(1)), itertools.cycle(("0.7", "0.8", "1.2"))
        small, few = square(0), max(2, repeats // 5)
        stops = json.dumps([[{"domain": 0}], [{"domain": 1}]])
        for name, call, times in (
            ("a source of 12 megapixels is prepared, seconds", lambda: post("prepare", source), repeats),
            (
                "a result of a new source, seconds",
                lambda: post("draw", next(fresh), style=style),
                repeats,
            ),
            (
                "a result at another strength, seconds",
                lambda: post("draw", small, style=style, strength=next(strengths)),
                repeats,
            ),
            ("all 10 domains, seconds", lambda: post("grid", small), few),
            ("a walk of 48 frames as WebP, seconds", lambda: post("walk", small, stops=stops), few),
            (
                "a walk of 48 frames as MP4, seconds",
                lambda: post("walk", small, stops=stops, kind="mp4"),
                few,
            ),
        ):
            yield name, seconds(call, times)


def square(seed: int) -> bytes:
    """A picture of the size of the networks' input, as the page sends it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    side, buffer = Config().data.image_size, io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


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
    service = Service(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_window_size(1400, 900)
        driver.set_script_timeout(120)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/runs/{run.name}/explore"
        spent = time.process_time()
        first = opened(driver, lambda: driver.get(address))
        spent = time.process_time() - spent
        again = opened(driver, driver.refresh)
        found = zoomed(driver, service.process.pid)
    finally:
        driver.quit()
        server.should_exit = True
    return {
        "opened first, seconds": first,
        "opened first, CPU seconds of the studio": spent,
        "opened again, seconds": again["everything"],
        **found,
    }


def opened(driver: Any, call: Callable[[], None]) -> dict[str, float]:
    """Seconds from opening the page until each of its parts can be used."""
    began, found = time.perf_counter(), {}
    call()
    for name, identity, is_hidden in (
        ("domains and galleries", "explore", False),
        ("a map of 1,500 pictures", "map-parts", False),
        ("everything", "progress", True),
    ):
        while driver.execute_script(f"return document.getElementById('{identity}').hidden") is not is_hidden:
            time.sleep(0.02)
        found[name] = time.perf_counter() - began
    return found


def zoomed(driver: Any, pid: int) -> dict[str, float]:
    """Zoom the map in and out. pid: of the browser's driver."""
    time.sleep(3)  # until thumbnails have been loaded
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    def busy() -> float:
        metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    page, whole = busy(), cpu_seconds(pid)
    times = np.diff(driver.execute_async_script(ZOOMING))
    page, whole = busy() - page, cpu_seconds(pid) - whole
    return {
        "frames per second while zooming": 1000 / float(times.mean()),
        "longest wait for a frame, milliseconds": float(times.max()),
        "a frame, CPU milliseconds of the page's thread": 1000 * page / len(times),
        "a frame, CPU milliseconds of all processes of Chromium": 1000 * whole / len(times),
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
    environment = dict(os.environ)
    sleep_soon()
    if os.environ != environment:  # it must be set before PyTorch is loaded, as `tunit studio` does
        os.execv(sys.executable, [sys.executable, *sys.argv])
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
            run = run_of(folder, pictures)
            before = os.getloadavg()[0]
            result["map"] = {"pictures": pictures, "load before": before, **the_map(run)}
    print(write(name, result).read_text())


if __name__ == "__main__":
    main()

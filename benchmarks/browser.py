"""The page of `tunit export --format browser`, in a headless Chromium, against PyTorch on held-back pictures.

    python benchmarks/browser.py RUN PICTURES ... [--number 20] [--name browser]
    python benchmarks/browser.py untrained-128 PICTURES ... --name browser-128

For some pictures of each folder it measures: the largest difference of the style codes and of the translations if
both networks get the same input; the difference in grey levels between the page's result and the translator's, if
both read the file; and the time of a translation in the page, with the CPU time of all processes of Chromium.
untrained-SIZE is a model of the default preset that was not trained (this does not change its speed).
"""

import argparse
import base64
import http.server
import os
import shutil
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from machine import cpu_seconds, write
from translation import untrained
from tunit.cli import main as tunit
from tunit.translation.translator import Translator

REDRAWN = """
const [text, numbers, code, done] = arguments;
(async () => {
  const page = await import("./page.js"), x = Float32Array.from(numbers), style = Float32Array.from(code);
  const own = Array.from(await page.styleOf(x)), same = Array.from(await page.drawn(x, style));
  const file = new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], "picture");
  const began = performance.now(), square = await page.squareOf(file);
  const read = performance.now(), whole = Array.from(await page.drawn(square.x, style));
  window.lastSquare = square;
  return [own, same, whole, read - began, performance.now() - read];
})().then(done, (error) => done(String(error)));
"""
TIMES = 3
AGAIN = f"""
const [code, done] = arguments;
(async () => {{
  const page = await import("./page.js");
  for (let i = 0; i < {TIMES}; i++) await page.drawn(window.lastSquare.x, Float32Array.from(code));
}})().then(done);
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def compared(driver: Any, pid: int, translator: Translator, path: Path, domain: int) -> dict[str, float]:
    """Translate one picture into the average style of a domain. pid: of the browser's driver."""
    style = translator.domain_style(domain)
    ((_, x, guidance),) = translator.guided(path)
    with torch.no_grad():
        expected = translator.model.generator(x, style[None])[0].numpy()
    text = base64.b64encode(path.read_bytes()).decode()
    answer = driver.execute_async_script(REDRAWN, text, x.flatten().tolist(), style.tolist())
    assert not isinstance(answer, str), answer
    busy = cpu_seconds(pid)
    driver.execute_async_script(AGAIN, style.tolist())
    busy = cpu_seconds(pid) - busy
    own, same, whole = (np.array(part, np.float32) for part in answer[:3])
    side = translator.image_size
    pixels = np.rint((whole.reshape(3, side, side).transpose(1, 2, 0) + 1) * 127.5).clip(0, 255)
    levels = np.abs(pixels - np.asarray(translator.translate(path, domain=domain), np.float32))
    ours = guidance.style[0].numpy()
    return {
        "style, largest difference by its largest number": float(
            np.abs(own - ours).max() / max(1, np.abs(ours).max())
        ),
        "translation, largest difference": float(np.abs(same - expected.ravel()).max()),
        "grey levels, largest": float(levels.max()),
        "grey levels, mean": float(levels.mean()),
        "reading in the page, milliseconds": answer[3],
        "redrawing in the page, milliseconds": answer[4],
        "redrawing in the page, CPU milliseconds": 1000 * busy / TIMES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="or untrained-SIZE")
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--number", type=int, default=20, help="of pictures of each folder")
    parser.add_argument("--name", default="browser", help="of the result")
    args = parser.parse_args()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.wait import WebDriverWait

    torch.set_num_threads(1)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(args.run)
        if args.run.startswith("untrained-"):
            run = Path(scratch) / "run"
            untrained(run, int(args.run.removeprefix("untrained-")))
        translator = Translator.load(run, device="cpu")
        domains = [k for k, size in enumerate(translator.domain_sizes) if size]
        result: dict[str, Any] = {"image size": translator.image_size, "load before": os.getloadavg()[0]}
        assert tunit(["export", str(run), "--format", "browser", "--out", f"{scratch}/page"]) == 0
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(Quiet, directory=f"{scratch}/page")
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        service = Service(shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            result["browser"] = driver.capabilities["browserVersion"]
            result["folders"] = {}
            driver.set_script_timeout(300)
            driver.get(f"http://127.0.0.1:{server.server_address[1]}/index.html")
            WebDriverWait(driver, 120).until(lambda d: d.execute_script("return document.body.dataset.ready"))
            for folder in args.pictures:
                paths = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))
                chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, args.number).astype(int)]
                rows = [
                    compared(driver, service.process.pid, translator, path, domains[i % len(domains)])
                    for i, path in enumerate(chosen)
                ]
                result["folders"][folder.name] = {
                    "pictures": len(rows),
                    **{
                        name: (np.median if "milliseconds" in name else np.max)([row[name] for row in rows])
                        for name in rows[0]
                    },
                }
        finally:
            driver.quit()
            server.shutdown()
    print(write(args.name, result).read_text())


if __name__ == "__main__":
    main()

"""How fast `tunit prepare` packs very many pictures, and how much memory it needs.

    python benchmarks/preparing.py [--pictures 100000] [--shards 4096] [--folder SCRATCH] [--quick]

The pictures are drawn: ellipses on a coloured background, as JPEGs of 160 x 160, all different; packed at 128 px.
Every two seconds the number of packed pictures and the resident memory of the process and its workers are recorded.
CPU time is the sum over all of them, so it is useful on a busy machine too. The CPU time of only reading, decoding
and fitting is measured for comparison.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from machine import write
from tunit.data.decoding.decode import decode_scaled
from tunit.data.packing.fit import fit_picture
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.search import Search
from tunit.data.packing.shards import pack_shards

SIDE, SIZE = 160, 128
IN_FOLDER = 1000
EVERY = 2.0  # seconds between two measurements of the memory


def draw_folder(folder: Path, first: int, count: int) -> None:
    """Draw `count` pictures; each depends only on its number."""
    if folder.is_dir() and len(list(folder.iterdir())) == count:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        ground, *colours = (tuple(map(int, colour)) for colour in rng.integers(0, 256, (5, 3)))
        image = Image.new("RGB", (SIDE, SIDE), ground)
        pen = ImageDraw.Draw(image)
        for colour in colours:
            x, y, w, h = rng.integers(0, SIDE, 4)
            pen.ellipse((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=colour)
        image.save(folder / f"{number:07}.jpg", quality=90)


def draw(root: Path, count: int) -> None:
    starts = range(0, count, IN_FOLDER)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(draw_folder, root / f"{first:07}", first, min(IN_FOLDER, count - first))
            for first in starts
        ]
        for job in jobs:
            job.result()


def resident(process: int) -> float:
    """Resident megabytes of a process and its child processes."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    total = 0.0
    for one in (str(process), *children):
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        except (OSError, IndexError):  # the process has just ended
            continue
    return round(total, 1)


def pack(root: Path, out: Path, shards: int) -> dict[str, Any]:
    """Pack in this new process. Returns the measurements."""
    began, done, series, over = time.monotonic(), [0], [], threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            series.append([round(time.monotonic() - began, 1), done[0], resident(os.getpid())])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        settings = PackSettings(SIZE)
        arguments: dict[str, Any] = {"workers": 2, "progress": lambda now, _: done.__setitem__(0, now)}
        if shards:
            packed = pack_shards(Search(root, settings), out, shards, **arguments)
        else:
            packed = pack_pictures(root, out, settings, resume=True, **arguments)
    finally:
        over.set()
        watcher.join()
    seconds = time.monotonic() - began
    packing = [row for row in series if row[1]]
    own = resource.getrusage(resource.RUSAGE_SELF)
    cpu = own.ru_utime + own.ru_stime
    from tunit.data.decoding.workers import close_workers

    close_workers()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu += children.ru_utime + children.ru_stime
    return {
        "pictures": len(packed.names),
        "seconds": round(seconds, 1),
        "pictures per second": round(len(packed.names) / seconds, 1),
        "CPU seconds": round(cpu, 1),
        "CPU milliseconds per picture": round(cpu / len(packed.names) * 1000, 3),
        "load when it ended": os.getloadavg()[0],
        "[seconds, pictures done, resident MB]": packing[:: max(1, len(packing) // 200)],
    }


def decoder_alone(root: Path) -> float:
    """CPU milliseconds to read, decode and fit one picture, without worker processes and output files."""
    paths = sorted(root.glob("*/*.jpg"))[:3000]
    began = time.process_time()
    for path in paths:
        decoded = decode_scaled(path.read_bytes(), SIZE)
        fit_picture(decoded.image, SIZE, "stretch", box=decoded.box)
    return round((time.process_time() - began) / len(paths) * 1000, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pack", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pack:
        root, out = args.pack
        print(json.dumps(pack(root, out, args.shards)))
        return
    count = 500 if args.quick else args.pictures
    if args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        root = (args.folder or Path(scratch)) / "pictures"
        draw(root, count)
        command = [
            sys.executable,
            __file__,
            "--pack",
            str(root),
            f"{scratch}/pack",
            "--shards",
            str(args.shards),
        ]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found["CPU milliseconds per picture, reading, decoding and fitting alone"] = decoder_alone(root)
    found["shards of"] = args.shards or None
    print(json.dumps({name: value for name, value in found.items() if not name.startswith("[")}, indent=2))
    if not args.quick:
        write("preparing-shards" if args.shards else "preparing", found)


if __name__ == "__main__":
    main()

"""Packing of large photographs compared with a plain full-size decode and resize, and the cost of a large pack.

    python benchmarks/packing.py [--quick]

One core; each method runs in a separate process. The photographs are scikit-learn's two, enlarged to 12 megapixels,
with camera noise, so that a file is about as large as a phone's. The baseline is Pillow's: open, RGB, resize.
"""

import argparse
import contextlib
import io
import itertools
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from machine import write
from paired import compare, seconds_of, spread
from tunit.config import AugmentConfig
from tunit.data.decoding.decode import decode_scaled
from tunit.data.packing import packed as packs
from tunit.data.packing.fit import fit_picture
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.packed import Index, open_pack_with_index

SIZE = 128
GRAIN = 4.0  # standard deviation, grey levels


def photographs(number: int, width: int, height: int, *, progressive: bool) -> list[bytes]:
    rng = np.random.default_rng(0)
    files = []
    for _, sample in zip(range(number), itertools.cycle(load_sample_images().images), strict=False):
        image = Image.fromarray(sample).resize((width, height), Image.Resampling.BICUBIC)
        grain = rng.normal(0, GRAIN, (height, width, 1)).astype(np.float32)
        file = io.BytesIO()
        pixels = (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=90, progressive=progressive)
        files.append(file.getvalue())
    return files


def plain(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def ours(data: bytes) -> np.ndarray:
    decoded = decode_scaled(data, SIZE)
    return fit_picture(decoded.image, SIZE, "stretch", box=decoded.box)


def squares(way: Callable[[bytes], np.ndarray], folder: Path) -> list[np.ndarray]:
    return [way(path.read_bytes()) for path in sorted(folder.iterdir())]


def decode(way: Callable[[bytes], np.ndarray], folder: Path) -> None:
    squares(way, folder)


def compare_apart(
    ours: Callable[[Path], None], baseline: Callable[[Path], None], folder: Path, **how: int
) -> dict[str, Any]:
    """`compare` for two methods on the files of a folder, each in a separate process, as in real use.

    In one process the two would disturb each other: whether the C library returns memory to the system depends on the
    large blocks freed before. If it does not, the baseline avoids 13,000 page faults per picture of 12 megapixels.
    """
    with contextlib.ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        a, b = (stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(2))
        return compare(
            lambda: a.submit(ours, folder).result(), lambda: b.submit(baseline, folder).result(), **how
        )


def decoding(files: list[bytes], repeats: int) -> dict[str, Any]:
    """From files to squares in memory: each method in its own process, and both in one."""
    difference = [np.abs(plain(data).astype(int) - ours(data)) for data in files]
    how = {"work": len(files), "repeats": repeats}
    with written(files) as folder:
        apart = compare_apart(partial(decode, ours), partial(decode, plain), folder, **how)
        together = compare(lambda: decode(ours, folder), lambda: decode(plain, folder), **how)
    return {
        "pictures": len(files),
        "bytes each": round(sum(map(len, files)) / len(files)),
        "mean difference, grey levels": float(np.mean([d.mean() for d in difference])),
        "largest difference, grey levels": int(max(d.max() for d in difference)),
        **apart,
        "times as fast, in one process": together["times as fast"],
    }


@contextlib.contextmanager
def written(files: list[bytes]) -> Iterator[Path]:
    """A folder of these files."""
    with tempfile.TemporaryDirectory() as scratch:
        for number, data in enumerate(files):
            (Path(scratch) / f"{number}.jpg").write_bytes(data)
        yield Path(scratch)


def pack(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        pack_pictures(folder, Path(scratch) / "pack", PackSettings(SIZE), workers=1)


def loop(folder: Path) -> None:
    with tempfile.TemporaryFile() as file:
        np.save(file, np.stack(squares(plain, folder)))


def whole_pack(files: list[bytes], repeats: int) -> dict[str, Any]:
    """All of `pack_pictures`, from folder to pack, compared with the plain loop from files to files."""
    with written(files) as folder:
        return {
            "pictures": len(files),
            **compare_apart(pack, loop, folder, work=len(files), repeats=repeats),
        }


def index_of(entries: int, repeats: int) -> dict[str, Any]:
    """Opening a pack of this many pictures, and drawing from it; 8 px, since the pixels are mapped, not read."""
    import torch

    from tunit.data.batching.batches import Batches

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pixels = packs.new_pixels(folder, entries, 8)
        names = [f"folder/{number:07d}.jpg" for number in range(entries)]
        hashes = [f"{number:032x}" for number in range(entries)]
        packs.install(folder, pixels, Index(8, {}, "", names, [-1] * entries, [], hashes, []))
        opening = [seconds_of(lambda: open_pack_with_index(folder)) for _ in range(repeats)]
        packed = open_pack_with_index(folder)[1]
        batches = Batches(
            packed.images,
            packed.labels,
            AugmentConfig(),
            seed=0,
            device=torch.device("cpu"),
            resident_bytes=0,
        )
        epochs = [seconds_of(partial(batches.rows, "all", e * entries, 32)) for e in range(repeats)]
        later = [seconds_of(partial(batches.rows, "all", i * 32, 32)) for i in range(1, 200)]
        return {
            "entries": entries,
            "opening, seconds": spread(opening),
            "first batch of an epoch, seconds": spread(epochs),
            "rows of a later batch, seconds": spread(later[1:]),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few pictures, few repeats")
    args = parser.parse_args()
    number, repeats = (2, 3) if args.quick else (8, 7)
    photos = photographs(number, 4000, 3000, progressive=False)
    result = {
        "size": SIZE,
        "12 megapixels": decoding(photos, repeats),
        "12 megapixels, progressive": decoding(
            photographs(number, 4000, 3000, progressive=True), max(3, repeats // 2)
        ),
        "3 megapixels": decoding(photographs(number, 2000, 1500, progressive=False), repeats),
        "whole pack, 12 megapixels": whole_pack(photos, repeats),
        "index": [index_of(10**power, 3) for power in ((3, 4) if args.quick else (3, 4, 5, 6))],
    }
    print(write("packing-quick" if args.quick else "packing", result).read_text())


if __name__ == "__main__":
    main()

"""The readers of other people's files, with examples to damage. Each must return values or raise a TunitError."""

import io
import os
import random
import shutil
import tarfile
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import release_checkpoint
from soak.guarded import BreachError, guarded, in_time, unguarded
from soak.mutations import changed, png_mended, repacked, spliced, with_header, with_values
from tiny_run import tiny_config
from tunit.config import read_config
from tunit.data.decoding.decode import decode_picture, decode_scaled
from tunit.data.finding.find import find_pictures
from tunit.errors import TunitError
from tunit.networks.tensor_file import read_about, read_tensors, write_tensors
from tunit.released.checkpoint_file import read_published
from tunit.released.conversion import from_published
from tunit.training.checkpoint import load_newest, save_checkpoint
from tunit.training.initial_state import new_state

Corpus = list[bytes]
MOST_PIXELS = 1 << 22


@dataclass(frozen=True)
class Target:
    """read: reads the file at a path, which is alone in a folder; may raise only TunitError. examples: valid
    files.
    """

    suffixes: tuple[str, ...]
    examples: Callable[[], Corpus]
    read: Callable[[Path], None]
    damage: Callable[[bytes, random.Random], bytes] = field(default=changed)


def some_pictures() -> Corpus:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 4), np.uint8)
    image, corpus = Image.fromarray(pixels, "RGBA"), []
    kinds = (
        ("png", "RGB"), ("png", "RGBA"), ("png", "L"), ("png", "P"), ("png", "1"), ("png", "I;16"), ("jpeg", "RGB"),
        ("jpeg", "CMYK"), ("gif", "P"), ("bmp", "RGB"), ("tiff", "RGB"), ("webp", "RGBA"), ("ppm", "RGB"),
        ("tga", "RGBA"), ("ico", "RGBA"), ("jpeg2000", "RGB"), ("pcx", "P"), ("sgi", "RGB"), ("avif", "RGB"),
    )  # fmt: skip
    for kind, mode in kinds:
        out = io.BytesIO()
        try:
            of_mode = (
                Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
                if mode == "I;16"
                else image.convert(mode)
            )
            options = {"exif": _turned()} if kind in ("jpeg", "png", "webp") else {}
            of_mode.save(out, kind, **options)
        except (OSError, ValueError, KeyError):  # this version of Pillow cannot write it
            continue
        corpus.append(out.getvalue())
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group4"):
        out = io.BytesIO()
        image.convert("1" if compression == "group4" else "RGB").save(out, "tiff", compression=compression)
        corpus.append(out.getvalue())
    return corpus


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def read_picture(path: Path) -> None:
    data = path.read_bytes()
    for read in (
        lambda: decode_picture(data, max_pixels=MOST_PIXELS),
        lambda: decode_scaled(data, 8, max_pixels=MOST_PIXELS, opacity=True),
    ):
        try:
            read()
        except TunitError:
            pass


def damaged_picture(data: bytes, rng: random.Random) -> bytes:
    out = changed(data, rng)
    return png_mended(out) if out[:4] == b"\x89PNG" and rng.random() < 0.8 else out


def some_archives() -> Corpus:
    picture, corpus = some_pictures()[0], []
    names = ("a/1.png", "../../out.png", "/abs.png", "b\\2.png", "é.png", "c.zip", "a" * 200 + ".png")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for name in names:
                archive.writestr(name, picture)
        corpus.append(out.getvalue())
    for how in ("w", "w:gz", "w:bz2", "w:xz"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=how) as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(picture)
                archive.addfile(info, io.BytesIO(picture))
            link = tarfile.TarInfo("link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        corpus.append(out.getvalue())
    return corpus


def damaged_archive(data: bytes, rng: random.Random) -> bytes:
    return repacked(data, rng) if rng.random() < 0.4 else changed(data, rng)


def read_source(path: Path) -> None:
    """An archive, list or table: find all that it names, and read it."""
    for picture in find_pictures(path).pictures[:20]:
        try:
            picture.read()
        except TunitError:
            pass


def some_tables() -> Corpus:
    return [
        b"picture,label\na/1.png,x\na/2.png,y\n\n", b"path;class;split\n1.png;a;train\n2.png;b;test\n",
        b"\xef\xbb\xbffile\tlabel\r\n1.png\t\r\n\"2\n.png\"\tb\r\n", "bild,art\n1.png,größe\n".encode("utf-16"),
        b"1.png 0\n2.png 1\n", b"# a list\n1.png\n./2.png\n/etc/passwd\n~/x.png\nfile:///1.png\n",
    ]  # fmt: skip


def read_table(path: Path) -> None:
    for labels in ("none", "csv"):
        try:
            read_source(path) if labels == "none" else find_pictures(path, labels="csv")
        except TunitError:
            if labels == "csv":
                raise


def some_configs() -> Corpus:
    return [
        tiny_config().to_toml().encode(),
        b'base = "paper"\nsteps = 5\n',
        b"[data]\nbackground = [1, 2, 3]\n",
    ]


def some_tensors() -> Corpus:
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"soak-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    write_tensors(folder / "a", {"x": torch.zeros(3, 2), "n": torch.ones((), dtype=torch.int64)}, {"step": 3})
    save_checkpoint(folder, _state(), keep=1)
    corpus = [path.read_bytes() for path in sorted(folder.iterdir())]
    shutil.rmtree(folder)
    return corpus


_states: list[object] = []


def _state():
    if not _states:
        _states.append(new_state(tiny_config(), torch.device("cpu")))
    return _states[0]


def read_tensor_file(path: Path) -> None:
    for read in (read_about, read_tensors, lambda path: load_newest(path.parent, _state())):
        try:
            read(path)
        except TunitError:
            pass


def damaged_tensors(data: bytes, rng: random.Random) -> bytes:
    return with_header(data, rng) if rng.random() < 0.6 else changed(data, rng)


def some_released() -> Corpus:
    corpus = []
    for newer in (True, False):
        out = io.BytesIO()
        content = release_checkpoint.checkpoint(release_checkpoint.all_shapes())
        torch.save(content, out, _use_new_zipfile_serialization=newer)
        corpus.append(out.getvalue())
    weight = torch.nn.Parameter(torch.ones(2, 3))
    small = {
        "epoch": 1,
        "G_state_dict": OrderedDict(a=torch.zeros(2), b=weight, c=weight.T),
        "lr": (1e-4, None, True),
    }
    for newer in (True, False):
        out = io.BytesIO()
        torch.save(small, out, _use_new_zipfile_serialization=newer)
        corpus.append(out.getvalue())
    return corpus


def damaged_released(data: bytes, rng: random.Random) -> bytes:
    """Damage anywhere, of the values, or of one part of a zip whose checksums are right."""
    kind = rng.random()
    if kind < 0.3:
        return with_values(data, rng)
    return repacked(data, rng) if kind < 0.6 and data.startswith(b"PK") else changed(data, rng)


def read_released(path: Path) -> None:
    from_published(read_published(path), str(path))


TARGETS: Mapping[str, Target] = {
    "pictures": Target((".png",), some_pictures, read_picture, damaged_picture),
    "archives": Target((".zip", ".tar"), some_archives, read_source, damaged_archive),
    "tables and lists": Target((".csv", ".txt"), some_tables, read_table),
    "TOML": Target((".toml",), some_configs, lambda path: read_config(str(path)) and None),
    "checkpoints": Target(("/step_00000006.safetensors",), some_tensors, read_tensor_file, damaged_tensors),
    "published checkpoints": Target((".ckpt",), some_released, read_released, damaged_released),
}


class Hostile:
    """One target with its examples, in a separate folder. kept: a folder for the inputs that fail, made if needed."""

    def __init__(self, name: str, folder: Path, kept: Path) -> None:
        self.name, self.target, self.folder, self.kept = name, TARGETS[name], folder, kept
        self.corpus = self.target.examples()
        for number in (1, 2):  # the files that tables and lists name
            (folder / f"{number}.png").write_bytes(b"no picture")

    def whole(self) -> None:
        """The valid examples are read without errors, except if they name missing files."""
        for number in range(len(self.corpus)):
            self.try_one(self.corpus[number], number)

    def try_one(self, data: bytes, seed: int) -> None:
        """Raises AssertionError, which names the kept input, if the result is neither values nor a TunitError."""
        suffix = self.target.suffixes[seed % len(self.target.suffixes)]
        path = self.folder / (suffix[1:] if suffix[0] == "/" else f"input{suffix}")
        path.write_bytes(data)
        try:
            with in_time():
                self.target.read(path)
        except TunitError as error:
            if len(str(error)) >= 4000:
                raise self._failure(
                    data, seed, path, f"a sentence of {len(str(error))} characters"
                ) from error
            if not str(error).isprintable():
                raise self._failure(data, seed, path, f"{error!r:.300} is not printable") from error
        except (Exception, BreachError) as error:
            raise self._failure(data, seed, path, f"{type(error).__name__}: {error}") from error
        finally:
            path.unlink(missing_ok=True)

    def _failure(self, data: bytes, seed: int, path: Path, why: str) -> AssertionError:
        """The error for an input that fails, which is kept."""
        kept = self.kept / f"{self.name.replace(' ', '-')}-{seed}{path.suffix}"
        with unguarded():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
        return AssertionError(f"{self.name}, seed {seed}, input kept as {kept}: {why}")

    def damaged(self, seed: int) -> bytes:
        rng = random.Random(seed)
        data = self.corpus[rng.randrange(len(self.corpus))]
        if rng.random() < 0.15:
            return changed(spliced(data, rng.choice(self.corpus), rng), rng)
        return self.target.damage(data, rng)

    def run(self, first: int, seconds: float, most: int = 10**9) -> int:
        """Damage examples with the seeds `first`, `first` + 1, ... for this many seconds. Returns how many."""
        end, seed = time.monotonic() + seconds, first
        with guarded(self.folder):
            while seed < first + most and time.monotonic() < end:
                self.try_one(self.damaged(seed), seed)
                seed += 1
        return seed - first

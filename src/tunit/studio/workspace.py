"""The folders that were given to the studio, and the runs in them. Nothing outside of these folders is read."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tunit.data.finding.naming import INDEX
from tunit.errors import ConfigError, RunError
from tunit.files.destination import SIGNS_OF_A_RUN
from tunit.files.paths import expand_home
from tunit.files.reading import is_file
from tunit.machine import choose_device
from tunit.methods.model_file import ABOUT, DOMAIN_NAMES, TENSORS
from tunit.training.run_folder import RunFolder

# Runs are looked for at most this many folders below the given one: `tunit reproduce` makes OUT/TABLE/ROW/SEED/run.
DEEPEST = 4
MOST_RUNS = 500
MOST_FOLDERS = 5_000  # at most this many folders are searched
_PLAIN = re.compile(r"[\w-][\w.-]{0,60}", re.ASCII)
JOB = "studio/job.json"  # of a training that a studio has started
# What the studio, and the code that it calls, reads in a run. None may be a link that leads out of the workspace.
_READ = (
    "config.toml", "run.json", "pictures.csv", "metrics.jsonl", ABOUT, TENSORS, "number_of_domains.json",
    DOMAIN_NAMES, "data", f"data/{INDEX}", "data/pictures.npy", "samples", "checkpoints", "evaluation", "studio",
    ".lock", JOB, "studio/stop.json", "studio/train.log", "studio/journal.jsonl", "studio/labels.csv",
    "studio/seen.safetensors",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run of the workspace."""

    key: str  # used in addresses of pages: letters, digits, dots, hyphens and underscores
    name: str  # its path below the workspace's folder, or the name of that folder
    path: Path

    @property
    def folder(self) -> RunFolder:
        """The files of the run."""
        return RunFolder(self.path)

    @property
    def has_model(self) -> bool:
        """Whether there is a model yet."""
        return is_file(self.path / TENSORS)

    @property
    def has_pictures(self) -> bool:
        """Whether the run holds its packed pictures; a model folder does not."""
        return is_file(self.folder.data / INDEX)


@dataclass(frozen=True)
class Workspace:
    """What a studio may read, and its limits. Runs appear and disappear with their folders."""

    root: Path  # the folder of a run, or of runs
    pictures: tuple[Path, ...] = ()  # folders whose pictures may be trained on
    device: str = "auto"
    max_pixels: int = 50_000_000  # the largest uploaded picture
    max_upload: int = 64_000_000  # the largest request, in bytes
    # Where runs were found last, by their keys: they are looked for there first, because a search takes long.
    _last_places: dict[str, Path] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ConfigError or RunError if a folder or the device does not exist."""
        object.__setattr__(self, "root", _folder(self.root, "give the folder of a run, or of runs"))
        folders = tuple(_folder(path, "give another --pictures") for path in self.pictures)
        object.__setattr__(self, "pictures", folders)
        choose_device(self.device)

    def runs(self) -> list[Run]:
        """All runs, in the order of their names."""
        if _is_run(self.root):
            paths = [self.root]
        else:
            paths = sorted(_runs_below(self.root))
        return [_named(path, self.root) for path in paths]

    def run(self, key: str) -> Run:
        """The run of this key. Raises RunError if there is none, or if a part of it lies outside of the folder."""
        found = self._at_last_place(key) or next((run for run in self.runs() if run.key == key), None)
        if found is None:
            raise RunError(f"there is no run {key!r} here: choose one of the list")
        self.check(found)
        self._last_places[key] = found.path
        return found

    def key_of(self, path: Path) -> str:
        """The key of the run in this folder; "" if it is not listed, as beyond MOST_RUNS."""
        return next((run.key for run in self.runs() if run.path == path), "")

    def _at_last_place(self, key: str) -> Run | None:
        """The run of this key, if it still lies where it was found last."""
        path = self._last_places.get(key)
        if (
            path is None
            or not _is_run(path)
            or not _is_real(path)
            or (path != self.root and _is_run(self.root))
        ):
            return None
        return _named(path, self.root)

    def check(self, run: Run) -> None:
        """Raises RunError if a part of the run lies outside of the folder: then nothing of it is read."""
        for name in _READ:
            if not is_inside(run.path / name, self.root):
                raise RunError(f"{run.name}/{name} is a link that leads out of {self.root}: it is not read")

    def refusal(self, run: Run) -> str:
        """Why nothing of the run is read, as `check` says it; "" if it is read."""
        try:
            self.check(run)
        except RunError as error:
            return str(error)
        return ""


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder after all links were followed. The folder must be resolved already."""
    try:
        return path.resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # links in a circle; a null character
        return False


def _is_real(path: Path) -> bool:
    """Whether no part of a path is a link."""
    try:
        return path.resolve() == path
    except (OSError, RuntimeError):  # links in a circle
        return False


def _folder(path: Path, remedy: str) -> Path:
    path = expand_home(path)
    try:
        if not path.is_dir():
            raise ConfigError(f"{path} is not a folder: {remedy}")
        return path.resolve()
    except (OSError, ValueError):
        raise ConfigError(f"{path} cannot be read: {remedy}") from None


def _is_run(folder: Path) -> bool:
    if is_file(folder / TENSORS) or all(is_file(folder / name) for name in SIGNS_OF_A_RUN):
        return True
    return is_file(folder / JOB)  # a training that is starting, or has died before its first step


def _runs_below(root: Path) -> Iterator[Path]:
    """The folders of at most MOST_RUNS runs, at most DEEPEST levels below `root`. Links are not followed."""
    looked, found, level = 0, 0, [root]
    for _ in range(DEEPEST):
        below = []
        for folder in level:
            looked += 1
            if looked > MOST_FOLDERS:
                return
            for path in _folders_in(folder):
                if not _is_run(path):
                    below.append(path)
                    continue
                yield path
                found += 1
                if found == MOST_RUNS:
                    return
        level = below


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            )
    except OSError:
        return []


def _named(path: Path, root: Path) -> Run:
    name = path.name if path == root else path.relative_to(root).as_posix()
    plain = name.replace("/", ".")
    key = plain
    if plain != name or not _PLAIN.fullmatch(plain):  # two names must not share a key
        digest = hashlib.blake2b(os.fsencode(name), digest_size=4).hexdigest()
        key = re.sub(r"[^A-Za-z0-9_-]+", "-", plain)[:40].strip("-") + f".{digest}"
    return Run(key.lstrip("."), name or "run", path)

"""Where shards are: in a folder of this machine (perhaps a mounted one), or in a store whose URL fsspec supports."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tunit.data.finding.stores import as_store_error, open_store
from tunit.errors import ConfigError
from tunit.files.atomic import flush_folder, replacing
from tunit.files.paths import cache_folder, path_or_url

# What helps if a folder, or a shard in it, cannot be used.
_CHECK = "check the folder and its disk"
_PUT_BACK = (
    "if the folder of the shards was moved, leave a link to it in the old place; if shards were made there again, "
    "make them of the same pictures as before"
)
Span = tuple[str, int, int]  # a file, its first byte, and the byte after the last one


class Place(Protocol):
    """A flat folder of files. All methods raise DataError if the place cannot be read or written."""

    where: str
    far: bool  # whether reading is so slow that pictures should be cached

    def names(self) -> set[str]:
        """The names of the files there; empty if the place does not exist."""

    def read(self, name: str) -> bytes | None:
        """A whole file; None if it is not there."""

    def spans(self, wanted: Sequence[Span]) -> list[bytes]:
        """Parts of files, in the given order."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file: completely or not at all."""

    def scratch(self) -> Path:
        """A folder on this machine for files that are then given to `take`."""

    def take(self, name: str, path: Path) -> None:
        """Move a finished file from this machine to the place; it arrives completely or not at all."""

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""


def place_of(where: Path | str) -> Place:
    """The place for a path or a URL. Raises ConfigError if a package for it is missing."""
    where = path_or_url(where)
    return UrlPlace(where) if isinstance(where, str) else FolderPlace(where)


class FolderPlace:
    """A folder on this machine."""

    far = False

    def __init__(self, folder: Path) -> None:
        self._folder, self.where = folder, str(folder)

    def names(self) -> set[str]:
        """See Place."""
        with as_store_error(self.where, _CHECK):
            return {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else set()

    def read(self, name: str) -> bytes | None:
        """See Place."""
        with as_store_error(self.where, _CHECK):
            path = self._folder / name
            return path.read_bytes() if path.is_file() else None

    def spans(self, wanted: Sequence[Span]) -> list[bytes]:
        """See Place."""
        found: list[bytes] = [b""] * len(wanted)
        for name in dict.fromkeys(name for name, _, _ in wanted):
            with (
                as_store_error(f"{self.where}/{name}", _PUT_BACK),
                (self._folder / name).open("rb", buffering=0) as file,
            ):
                for i, (of, begin, end) in enumerate(wanted):
                    if of == name:
                        file.seek(begin)
                        found[i] = file.read(end - begin)
        return found

    def write(self, name: str, data: bytes) -> None:
        """See Place."""
        with as_store_error(self.where, _CHECK), replacing(self._folder / name) as partial:
            partial.write_bytes(data)

    def scratch(self) -> Path:
        """See Place."""
        return self._folder

    def take(self, name: str, path: Path) -> None:
        """See Place."""
        with as_store_error(self.where, _CHECK):
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            path.replace(self._folder / name)
            flush_folder(self._folder)

    def remove(self, name: str) -> None:
        """See Place."""
        with as_store_error(self.where, _CHECK):
            (self._folder / name).unlink(missing_ok=True)


class UrlPlace:
    """A folder in a store that fsspec supports, such as s3://bucket/pictures."""

    far = True

    def __init__(self, url: str) -> None:
        self.where = url.rstrip("/")
        self._store, root = open_store(self.where)
        self._root = root.rstrip("/")

    def names(self) -> set[str]:
        """See Place."""
        with as_store_error(self.where):
            self._store.invalidate_cache()
            try:
                found: list[Any] = self._store.ls(self._root, detail=False)
            except FileNotFoundError:
                return set()
        return {str(name).rstrip("/").rsplit("/", 1)[-1] for name in found}

    def all_names(self) -> set[str]:
        """The names of the files there and in all folders below, with `/` between the parts."""
        with as_store_error(self.where):
            self._store.invalidate_cache()
            found: list[Any] = self._store.find(self._root)
        return {str(name)[len(self._root) :].lstrip("/") for name in found}

    def read(self, name: str) -> bytes | None:
        """See Place."""
        with as_store_error(f"{self.where}/{name}"):
            try:
                return bytes(self._store.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

    def spans(self, wanted: Sequence[Span]) -> list[bytes]:
        """See Place. From a store such as S3, all parts are requested at the same time."""
        paths = [f"{self._root}/{name}" for name, _, _ in wanted]
        begins, ends = [begin for _, begin, _ in wanted], [end for _, _, end in wanted]
        with as_store_error(self.where):
            return [bytes(part) for part in self._store.cat_ranges(paths, begins, ends, on_error="raise")]

    def write(self, name: str, data: bytes) -> None:
        """See Place. An object appears in the store only when it is complete."""
        with as_store_error(f"{self.where}/{name}"):
            self._store.pipe_file(f"{self._root}/{name}", data)

    def scratch(self) -> Path:
        """See Place."""
        return local_scratch()

    def take(self, name: str, path: Path) -> None:
        """See Place."""
        with as_store_error(f"{self.where}/{name}"):
            self._store.put_file(str(path), f"{self._root}/{name}")
            path.unlink()

    def remove(self, name: str) -> None:
        """See Place."""
        with as_store_error(f"{self.where}/{name}"):
            try:
                self._store.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                pass


def local_scratch() -> Path:
    """A folder on a disk of this machine: TUNIT_CACHE, the user's cache folder, or the system's temporary folder."""
    try:
        folder = cache_folder() / "shards"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, ConfigError):
        pass
    return Path(tempfile.gettempdir())


def free_bytes(folder: Path) -> int:
    """The free space on the disk of a folder."""
    return shutil.disk_usage(folder).free

"""Pictures in a store that fsspec supports, such as s3://bucket/pictures: how they are listed and read."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tunit.data.decoding.decode import TOO_LARGE, UNREADABLE, PictureError
from tunit.data.finding.archives import MAX_BYTES, OUTSIDE
from tunit.data.finding.folders import note_of_results
from tunit.data.finding.found import Item, PictureSource
from tunit.data.finding.left_out import LeftOut
from tunit.data.finding.naming import PICTURE_SUFFIXES, is_hidden, is_outside, suffix_of, tidy
from tunit.data.finding.own_results import holds_only_results
from tunit.errors import ConfigError, DataError, StoreError
from tunit.printing import shown

CHECK = "check the address, the keys and the connection"  # if a store cannot be used


@dataclass(frozen=True)
class StoredFile:
    """A picture's file in a store."""

    url: str
    size: int | None  # bytes, as listed; None if the store does not say
    stamp: str  # changes when the file changes
    position: int = 0

    def read(self) -> bytes:
        """All bytes. Raises PictureError."""
        if self.size == 0:  # S3 refuses to give a part of an empty file
            return b""
        most = MAX_BYTES if self.size is None else self.size
        if most <= MAX_BYTES:
            try:
                with as_store_error(self.url):
                    store, path = open_store(self.url)
                    data = bytes(store.cat_file(path, start=0, end=most + 1))
            except (DataError, ConfigError) as error:
                raise PictureError(UNREADABLE, str(error)) from None
            if len(data) <= MAX_BYTES:
                return data
        raise PictureError(TOO_LARGE, f"more than {MAX_BYTES:,} bytes")


def walk_store(url: str, notes: list[str]) -> Iterator[Item]:
    """The pictures below a URL, or the single picture there; notes for the user are added to `notes`.

    The name decides whether a file is a picture. Folders of tunit's own results are skipped, as are hidden files.
    Raises DataError if the store cannot be listed.
    """
    with as_store_error(url):
        store, root = open_store(url)
        root = root.rstrip("/")
        store.invalidate_cache()
        listed: dict[str, Any] = store.find(root, detail=True)
    names = {
        path: path[len(root) :].strip("/") if path != root else path.rpartition("/")[2] for path in listed
    }
    results = _folders_of_results(names.values())
    for path, name in sorted(names.items(), key=lambda item: item[1]):
        if any(map(is_hidden, name.split("/"))) or (results and name.startswith(results)):
            continue
        if suffix_of(name) not in PICTURE_SUFFIXES:
            continue
        if is_outside(name) or tidy(name) != name:
            yield (
                LeftOut(name, OUTSIDE, "its name points out of the folder, or cannot be the name of a file"),
                "",
            )
            continue
        stamp = _stamp_of(listed[path])
        file = StoredFile(store.unstrip_protocol(path), listed[path].get("size"), stamp)
        yield PictureSource(name, None, file), f"{name}\0{stamp}"
    if results:
        notes.append(note_of_results(list(results)))


def _folders_of_results(names: Iterable[str]) -> tuple[str, ...]:
    """The folders of tunit's own results, each with a `/` at its end. The root was named by the user, so it
    is none.
    """
    inside: dict[str, set[str]] = {}
    for name in names:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            inside.setdefault("/".join([*parts[:depth], ""]), set()).add(parts[depth])
    return tuple(folder for folder, entries in sorted(inside.items()) if holds_only_results(entries))


def _stamp_of(listed: dict[str, Any]) -> str:
    """What a store says about the content of a file and its age, as far as it does."""
    parts = (
        listed.get(key) for key in ("size", "ETag", "etag", "LastModified", "mtime", "created", "md5Hash")
    )
    return " ".join(str(part) for part in parts if part is not None)


def open_store(url: str) -> tuple[Any, str]:
    """The store of a URL, as fsspec's object, and the path in it. Raises ConfigError or DataError."""
    if "::" in url:
        raise ConfigError(
            f"{url} holds `::`, which joins several stores to one, and is not supported: give the place of the files "
            "themselves, such as s3://bucket/pictures"
        )
    try:
        from fsspec.core import url_to_fs

        store, root = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f'{url} cannot be opened ({shown(str(error), 200)}): pip install "tunit[cloud]" for s3://, or '
            "the package of fsspec for this kind of store"
        ) from None
    except Exception as error:
        raise _unusable(url, error) from None
    return store, str(root)


def address_of(url: str) -> str:
    """A URL as stores write those of the files that they list: s3://bucket/x for s3a://bucket/x/, for example.

    Compare URLs only in this form. Raises ConfigError or DataError.
    """
    store, root = open_store(url)
    return str(store.unstrip_protocol(root.rstrip("/")))


@contextmanager
def as_store_error(what: str, remedy: str = CHECK) -> Iterator[None]:
    """Inside the block, any error of a store or folder becomes a StoreError of one sentence, because each store has
    its own exception classes. Only DataError and ConfigError stay as they are.
    """
    try:
        yield
    except (DataError, ConfigError):
        raise
    except Exception as error:
        raise _unusable(what, error, remedy) from error


def _unusable(what: str, error: Exception, remedy: str = CHECK) -> StoreError:
    number = getattr(error, "errno", None)
    why = (
        os.strerror(number)
        if isinstance(number, int) and number in errno.errorcode
        else shown(str(error) or type(error).__name__, 200)
    )
    return StoreError(f"{what} cannot be used ({why})", remedy, f"{remedy}, then give the same command")

"""Pictures in an LMDB database, as LSUN is published: every value is the whole file of one picture.

Needs the optional package lmdb: pip install "tunit[lsun]".
"""

import atexit
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.data.decoding.decode import TOO_LARGE, UNREADABLE, PictureError
from tunit.data.finding.archives import MAX_BYTES
from tunit.errors import DataError

if TYPE_CHECKING:
    import lmdb

DATA = "data.mdb"  # the file of a database that holds the values
_PLAIN_KEY = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class DatabaseEntry:
    """One value of a database."""

    folder: Path
    key: bytes
    position: int  # of its key in the order of keys; values are read fastest in this order

    def read(self) -> bytes:
        """The value. Raises PictureError."""
        import lmdb

        with _lock:
            try:
                with _opened(self.folder).begin(buffers=True) as transaction:
                    value = transaction.get(self.key)
                    if value is None:
                        raise PictureError(UNREADABLE, "its key is gone from the database")
                    if len(value) > MAX_BYTES:
                        raise PictureError(TOO_LARGE, f"{len(value):,} bytes, at most {MAX_BYTES:,} allowed")
                    return bytes(value)
            except (lmdb.Error, OSError) as error:
                raise PictureError(UNREADABLE, f"the database is damaged there ({error})") from None


def is_database(folder: Path) -> bool:
    """Whether a folder is an LMDB database."""
    return (folder / DATA).is_file()


def list_database(folder: Path) -> Iterator[tuple[str, DatabaseEntry]]:
    """The name and record of every value, in the order of keys. A name is the key, or ~ and its hexadecimal digits.

    Raises DataError if the package lmdb is missing, or the database cannot be read.
    """
    try:
        import lmdb
    except ImportError:
        raise DataError(f'{folder} is an LMDB database: pip install "tunit[lsun]" to read it') from None
    try:
        with _lock, _opened(folder).begin() as transaction, transaction.cursor() as cursor:
            for position, key in enumerate(cursor.iternext(keys=True, values=False)):
                yield _name_of(key), DatabaseEntry(folder, key, position)
    except (lmdb.Error, OSError) as error:
        raise DataError(
            f"{folder} is a damaged LMDB database ({error}): download or unpack it again"
        ) from None


def close_databases() -> None:
    """Close the database that reading has kept open."""
    with _lock:
        for environment in _open_databases.values():
            environment.close()
        _open_databases.clear()


def _name_of(key: bytes) -> str:
    """A name for a key: safe as a path, and different for different keys. LSUN's own keys are such names already."""
    return key.decode("ascii") if _PLAIN_KEY.fullmatch(key) else f"~{key.hex()}"


# Each process keeps the last database open between reads: LMDB does not let a process open one twice.
_lock = threading.RLock()
_open_databases: dict[tuple[object, ...], "lmdb.Environment"] = {}
atexit.register(close_databases)


def _opened(folder: Path) -> "lmdb.Environment":
    import lmdb

    status = (folder / DATA).stat()
    key = (os.getpid(), folder, status.st_size, status.st_mtime_ns)
    if key not in _open_databases:
        close_databases()
        # Without a lock, which would need write access: nobody changes a published set.
        _open_databases[key] = lmdb.open(str(folder), readonly=True, lock=False, create=False)
    return _open_databases[key]


__all__ = ["DATA", "DatabaseEntry", "close_databases", "is_database", "list_database"]

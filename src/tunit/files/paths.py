"""Paths as people write them."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from tunit.errors import ConfigError
from tunit.printing import shown


def expand_home(path: str | Path) -> Path:
    """The path with a leading `~` or `~user` replaced by that home folder; unchanged if there is no such user.

    A shell replaces `~` only at the start of a word, so not in --out=~/x, a list of paths, a setting or Python. For a
    file that is really called `~`, write ./~.

    Raises ConfigError if it is no path, or is empty: Python takes that for the working folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"{shown(path)} is not a path: give one path, as text or a pathlib.Path")
    if path == "":
        raise ConfigError("a path is empty: give one, or . for the working folder")
    try:
        return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
    except ValueError:  # a null character in the name of the user
        return Path(path)


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.+", re.S)


def is_url(text: str | Path) -> bool:
    """Whether this is the URL of a place for fsspec, such as s3://bucket/pictures."""
    return isinstance(text, str) and _URL.fullmatch(text) is not None


def path_or_url(text: str | Path) -> Path | str:
    """A URL as it is; everything else as a path, in which `~` is replaced. A file:// URL becomes a path, too."""
    if isinstance(text, str) and is_url(text):
        path = path_of_file_url(text)
        return text if path is None else Path(path)
    return expand_home(text)


def path_of_file_url(text: str) -> str | None:
    """The path of a file:// URL, such as "/a b" of file:///a%20b or file://localhost/a%20b; None for other texts."""
    scheme, found, path = text.partition("://")
    if not found or scheme.lower() != "file":
        return None
    if path.startswith("localhost/"):
        path = path.removeprefix("localhost")
    return unquote(path, errors="surrogateescape")


def without_dots(file: Path) -> Path:
    """The absolute path of a file without `..`. Links stay in it, unless `..` behind one of them leads elsewhere."""
    path = file.absolute()
    if ".." not in path.parts:
        return path
    plain = Path(os.path.normpath(path))
    try:
        is_same = plain.parent.samefile(path.parent)
    except OSError:
        is_same = False
    return plain if is_same else path.parent.resolve() / path.name


def absolute(place: Path | str) -> str:
    """A URL as it is; a path as an absolute path."""
    return place if isinstance(place, str) else str(place.resolve())


def cache_folder() -> Path:
    """Where files are kept that can be made or downloaded again: TUNIT_CACHE, or the user's cache folder.

    Raises ConfigError if this user has none, as in some containers.
    """
    given, base = os.environ.get("TUNIT_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if given:
        return expand_home(given)
    try:
        return (expand_home(base) if base else Path.home() / ".cache") / "tunit"
    except RuntimeError:
        raise ConfigError(
            "this user has no home folder: set TUNIT_CACHE to a folder for temporary files"
        ) from None

"""Files that are downloaded once from their public address, checked by their SHA-256, and kept."""

import hashlib
from pathlib import Path

from tunit.errors import ConfigError
from tunit.files.atomic import replacing
from tunit.files.paths import cache_folder
from tunit.printing import printable

TIMEOUT = 30  # seconds without an answer
CHUNK = 1 << 20


class UnreachableError(ConfigError):
    """A file cannot be downloaded. The caller may catch this and leave out what needs the file."""


def fetched(address: str, sha256: str, instead: str) -> Path:
    """The file at `address`, from the cache or newly downloaded.

    instead: what the user can do without it, for the error message. Raises ConfigError if it cannot be downloaded, or
    if its SHA-256 is wrong.
    """
    import http.client  # these take a tenth of a second, and most calls need no download
    import urllib.error
    import urllib.request

    path = cache_folder() / address.rsplit("/", 1)[-1]
    if path.is_file() and sha256_of(path) == sha256:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as partial:
            with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, partial.open("wb") as file:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                size, whole = file.tell(), answer.headers.get("Content-Length", "")
            if whole.isdecimal() and size < int(whole):  # the connection was lost, which raises no error
                raise OSError(f"it ended after {size:,} of {int(whole):,} bytes")
            if sha256_of(partial) != sha256:
                raise UnreachableError(
                    f"{address} has changed (its SHA-256 is not the expected one): give it by {instead}"
                )
    except (urllib.error.URLError, OSError, TimeoutError, http.client.HTTPException) as error:
        reason = printable(str(getattr(error, "reason", None) or error)) or type(error).__name__
        raise UnreachableError(f"{address} cannot be downloaded ({reason}): give it by {instead}") from None
    return path


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

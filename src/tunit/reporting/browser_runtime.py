"""onnxruntime-web, which runs exported networks in a browser: three files of one release, downloaded by npm.

They have 14 MB and are not part of tunit. npm uses its own settings for registries and proxies. The files are
compared with the checksums below and stored in tunit's cache. No script of a package is run.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

from tunit.errors import ConfigError
from tunit.files.atomic import UnwritableError, write_bytes
from tunit.files.download import sha256_of
from tunit.files.paths import cache_folder
from tunit.files.reading import is_file
from tunit.files.result_names import ORT, ORT_CODE, ORT_LOADER

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
CHECKSUMS = {
    ORT: "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    ORT_LOADER: "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    ORT_CODE: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
LARGEST = 1 << 26  # bytes of a file
LONGEST = 600  # seconds that npm may take
INSTEAD = (
    f"call `npm install {PACKAGE}` on another machine, and give node_modules/onnxruntime-web as --runtime"
)


def find_runtime(given: Path | None = None) -> Path:
    """The folder with the files of onnxruntime-web: `given`, its `dist`, or the cache, which npm fills.

    Raises ConfigError if the files are missing and cannot be downloaded, or belong to another release.
    """
    if given is None:
        return _fetched(cache_folder() / f"onnxruntime-web-{VERSION}")
    for folder in (given / "dist", given):
        if all(is_file(folder / name) for name in CHECKSUMS):
            if not _is_right(folder):
                raise ConfigError(f"{folder} is not {PACKAGE} (its SHA-256 sums differ): {INSTEAD}")
            return folder
    raise ConfigError(f"{given} does not hold onnxruntime-web ({', '.join(CHECKSUMS)}): {INSTEAD}")


def _is_right(folder: Path) -> bool:
    try:
        return all(sha256_of(folder / name) == right for name, right in CHECKSUMS.items())
    except OSError:
        return False


def _fetched(folder: Path) -> Path:
    if _is_right(folder):
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(f"the page needs {PACKAGE}, and there is no npm here to fetch it: {INSTEAD}")
    with tempfile.TemporaryDirectory(prefix="tunit-") as scratch:
        try:
            done = subprocess.run(
                [npm, "pack", PACKAGE, "--ignore-scripts", "--silent"],
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LONGEST,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"npm cannot fetch {PACKAGE} ({error}): {INSTEAD}") from None
        packed = sorted(Path(scratch).glob("*.tgz"))
        if done.returncode or not packed:
            said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
            raise ConfigError(f"npm cannot fetch {PACKAGE} ({said[:200]}): {INSTEAD}")
        _keep(packed[0], folder)
    return folder


def _keep(packed: Path, folder: Path) -> None:
    """Copy the three files of npm's archive into `folder` if they are the right ones. Raises ConfigError."""
    try:
        with tarfile.open(packed) as archive:
            brought = {name: archive.extractfile(f"package/dist/{name}") for name in CHECKSUMS}
            data = {name: file.read(LARGEST) for name, file in brought.items() if file is not None}
    except (OSError, tarfile.TarError, KeyError, EOFError, zlib.error) as error:
        raise ConfigError(f"what npm downloaded of {PACKAGE} cannot be read ({error}): {INSTEAD}") from None
    if {name: hashlib.sha256(held).hexdigest() for name, held in data.items()} != CHECKSUMS:
        raise ConfigError(f"what npm downloaded is not {PACKAGE} (its SHA-256 sums differ): {INSTEAD}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, held in data.items():
            write_bytes(folder / name, held, durable=False)
    except (OSError, UnwritableError) as error:
        raise ConfigError(
            f"{folder}, where {PACKAGE} is kept, cannot be written ({error}): {INSTEAD}"
        ) from None

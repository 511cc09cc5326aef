"""The folders whose pictures may be trained on: those that were given to the studio, and the folders in them."""

import os
import subprocess
import tempfile
import threading
from pathlib import Path

from tunit.data.finding.find import find_pictures
from tunit.data.finding.folders import walk_links
from tunit.data.finding.found import PictureSource
from tunit.data.finding.naming import INDEX
from tunit.data.finding.sharded_sets import is_sharded, open_shards
from tunit.data.finding.source_kind import kind_of
from tunit.errors import ConfigError, DataError, TunitError, reason_of
from tunit.files.reading import exists
from tunit.printing import printable, shown
from tunit.studio.command_lines import environment, prepare_command
from tunit.studio.shards import check_each_link, given_folder, is_given
from tunit.studio.workspace import Workspace, is_inside

DEEPEST = 2  # the page offers folders down to this many levels below a given folder,
MOST = 300  # and at most this many folders
MOST_ENTRIES = 500_000  # at most this many files and folders are checked for links
CHECK_WITHIN = 600  # seconds after which looking at a folder is given up
_LOCK = threading.Lock()  # only one folder at a time is checked: decoding uses all cores


def folders_of(workspace: Workspace) -> list[tuple[str, str]]:
    """(address, name) of the folders to choose from: first those that were given, then those in them.

    An address is the number of a given folder, and a path below it.
    """
    found = [(f"{number}/.", printable(root)) for number, root in enumerate(workspace.pictures)]
    for number, root in enumerate(workspace.pictures):
        level = [root]
        for _ in range(DEEPEST):
            level = [path for folder in level for path in _plain_folders(folder)]
            for folder in level:
                if len(found) >= MOST:
                    return found
                below = folder.relative_to(root).as_posix()
                found.append((f"{number}/{below}", printable(f"{root.name}/{below}")))
    return found


def _plain_folders(folder: Path) -> list[Path]:
    """Folders that may hold pictures, except links, hidden folders and results of tunit."""
    try:
        with os.scandir(folder) as entries:
            found = [
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []
    return sorted(path for path in found if not exists(path / "run.json") and path.name.isprintable())


def folder_at(workspace: Workspace, address: str) -> Path:
    """The folder of an address. Raises ConfigError if it does not exist, or lies outside of the given folders."""
    number, _, below = address.partition("/")
    roots = workspace.pictures
    if not number.isdecimal() or not number.isascii() or len(number) > 4 or int(number) >= len(roots):
        raise ConfigError(f"{shown(address)} is not a folder of this studio: choose one of the list")
    root = roots[int(number)]
    folder = root / below
    if "\0" in below or Path(below).is_absolute() or not is_inside(folder, root):
        raise ConfigError(f"{shown(below)} does not lie in {root}: choose a folder of the list")
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder: choose one of the list")
    return folder.resolve()


def check_links(workspace: Workspace, folder: Path) -> int:
    """Raises DataError if a training would read a place outside the folders given to the studio: through a link, or
    because the index of a packed data set names it.

    Returns the number of picture files, for `number_of_pictures`; 0 for a packed data set, or a folder that has only
    archives.

    A training must not show pictures that its owner did not give it. A link that no training follows, such as one to
    a text or in a hidden folder, may lead anywhere.
    """

    left = MOST_ENTRIES

    def count(entries: int) -> None:
        """Raises DataError if the folders listed so far hold too many files."""
        nonlocal left
        left -= entries
        if left < 0:
            raise DataError(f"{folder} holds more than {MOST_ENTRIES:,} files: train at the command line")

    def check(link: Path) -> None:
        """Raises DataError if this link leads out."""
        if not is_given(link, workspace.pictures):
            raise DataError(
                f"{link} is a link that leads out of the folders of this studio: remove it, or give the folder that "
                "it leads to by --pictures"
            )

    if kind_of(folder) == "folder":
        return sum(isinstance(source, PictureSource) for source, _ in walk_links(folder, check, count))
    check_each_link(folder, check)  # a database or shards: a few files, which are not looked for below it
    if is_sharded(folder):
        check_each_link(_place_of_shards(workspace, folder), check)
    return 0


def _place_of_shards(workspace: Workspace, folder: Path) -> Path:
    """The folder of the shards that the index in `folder` describes. Raises DataError if it is not a given one."""
    shards = open_shards(folder).shards
    assert shards is not None  # otherwise `open_shards` raises
    place = given_folder(shards.root, workspace.pictures)
    if place is not None:
        return place
    raise DataError(
        f"{folder / INDEX} says that its shards are in {shown(shards.root)}, which is no folder of this studio: "
        "train on it at the command line"
    )


def number_of_pictures(folder: Path, files: int) -> int:
    """How many pictures a training would find, also those that it would leave out; 0 if they cannot be counted.

    files: what `check_links` returned, so that a large folder is listed only once.
    """
    if files:
        return files
    try:
        return len(find_pictures(folder).pictures)
    except TunitError:  # the training will say it
        return 0


def check_pictures(folder: Path, preset: str) -> tuple[bool, list[str]]:
    """Run `tunit prepare` on a folder. Returns whether it can be trained on, and the printed lines.

    Raises DataError if `tunit prepare` cannot be run on it.
    """
    if not _LOCK.acquire(blocking=False):
        raise DataError("another folder is being checked: wait until that has ended")
    try:
        with tempfile.TemporaryDirectory(prefix="tunit-look-") as out:
            pack = Path(out) / "pack"
            done = subprocess.run(
                prepare_command(folder, pack, preset),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=out,
                env=environment(),
                timeout=CHECK_WITHIN,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return True, [
            f"checking {folder} took longer than {CHECK_WITHIN} s, so it was stopped: a training will check it again"
        ]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({reason_of(error)}): try again") from None
    finally:
        _LOCK.release()
    text = done.stdout.decode("utf-8", "replace").replace(f", packed: {pack}", "")
    lines = [printable(line.removeprefix("tunit: ")) for line in text.splitlines() if line.strip()]
    return done.returncode == 0, lines or ["tunit prepare printed nothing"]

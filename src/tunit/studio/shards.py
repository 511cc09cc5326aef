"""Where the shards of a packed data set lie. Its index.json names the place, and may have been made by anybody."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tunit.data.finding.index import Index
from tunit.data.finding.naming import INDEX
from tunit.errors import RunError
from tunit.files.paths import path_or_url
from tunit.printing import shown
from tunit.studio.workspace import Workspace, is_inside

# Stores on other machines. A URL of another kind, such as local://, could name a file of this machine.
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "http", "https")


def is_given(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a path lies in one of these folders after all links were followed."""
    return any(is_inside(path, folder) for folder in folders)


def given_folder(root: str | Path, folders: Sequence[Path]) -> Path | None:
    """The folder of shards that an index names, if it exists and lies in one of `folders`; otherwise None."""
    place = path_or_url(root)
    if not isinstance(place, Path) or not os.path.isdir(place):  # noqa: PTH112 (is_dir raises for a name too long)
        return None
    return place if place.is_absolute() and is_given(place, folders) else None


def check_each_link(folder: Path, check: Callable[[Path], None]) -> None:
    """Call `check` with every link in a folder, but not in those below it."""
    for path in folder.iterdir():
        if path.is_symlink():
            check(path)


def check_shards(workspace: Workspace, data: Path, index: Index) -> None:
    """Raises RunError if the pictures of a run are shards on this machine outside of the studio's folders.

    data: the run's folder of pictures, with this index. Shards in a store on another machine may be read.
    """
    if index.shards is None:
        return
    root = index.shards.root or data
    place = path_or_url(root)
    if isinstance(place, str) and place.partition("://")[0].lower() in STORES:
        return
    folders = (workspace.root, *workspace.pictures)

    def check(link: Path) -> None:
        """Raises RunError if this link leads out."""
        if not is_given(link, folders):
            raise RunError(f"{link} is a link that leads out of the folders of this studio: it is not read")

    folder = given_folder(root, folders)
    if folder is None:
        raise RunError(
            f"{data / INDEX} says that the pictures are in {shown(str(root))}, which is no folder of this studio: "
            "give it by --pictures"
        )
    check_each_link(folder, check)

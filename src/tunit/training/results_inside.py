"""Results of `tunit domains` and `tunit export` in a run, where these commands write them by default.

They describe the run's model, so they are removed with it. Each is known by a file that says what it is: a table with
the columns of domains.csv, or export.json. Other files in these folders are the user's.
"""

from collections.abc import Callable
from pathlib import Path

from tunit.data.finding.naming import belongs_to_system
from tunit.files import result_names
from tunit.files.atomic import is_unfinished_file
from tunit.files.destination import is_unfinished
from tunit.files.reading import LARGEST_TABLE, Record, UnreadableError, is_file, read_json, read_table

LARGEST_ABOUT = 1 << 26  # bytes of export.json: a thousand domains with their styles have 1 MiB
_NETWORKS = frozenset(
    f"{name}{suffix}" for name in result_names.NETWORKS for suffix in result_names.SUFFIXES.values()
)
_RECORD = ".tunit-unfinished."  # the name of a stopped job's record begins with this


def is_own_folder(path: Path) -> bool:
    """Whether this is a folder, and not a link to one elsewhere."""
    return path.is_dir() and not path.is_symlink()


def domains_in(folder: Path) -> list[Path]:
    """The files that `tunit domains` wrote into its folder; none if its table is not there.

    The table is last, because the folder is recognised by it. The list of pictures (KEPT) is not among them: it
    stays, because other runs may be trained on it. Raises OSError.
    """
    if not is_own_folder(folder) or not is_file(folder / result_names.TABLE):
        return []
    try:
        rows = read_table(folder / result_names.TABLE, ("picture", "domain", "confidence"), LARGEST_TABLE)
    except UnreadableError:
        return []
    names = {result_names.OVERVIEW, *(result_names.gallery_of(domain) for _, domain, _ in rows)}
    return [*_files(folder, names.__contains__), folder / result_names.TABLE]


def export_in(folder: Path) -> list[Path]:
    """The files that `tunit export` wrote into its folder; none if export.json is not there.

    export.json is last, because the folder is recognised by it. Raises OSError.
    """
    if not is_own_folder(folder) or not is_file(folder / result_names.ABOUT):
        return []
    try:
        about = Record(read_json(folder / result_names.ABOUT, LARGEST_ABOUT))
        about.text("tunit")
        about.whole("format")
    except UnreadableError:
        return []
    runtime = _files(folder / result_names.RUNTIME, result_names.RUNTIME_FILES.__contains__)
    page = [
        *_files(folder, result_names.PAGE.__contains__),
        *_files(
            folder / result_names.THUMBNAILS, lambda name: result_names.THUMBNAIL.fullmatch(name) is not None
        ),
        *runtime,
    ]
    return [*_files(folder, _NETWORKS.__contains__), *(page if runtime else ()), folder / result_names.ABOUT]


def is_left_behind(path: Path) -> bool:
    """Whether an entry of a folder was left by a killed process of tunit, or by the operating system."""
    if belongs_to_system(path.name):
        return True
    if is_own_folder(path):
        return is_unfinished(path.name) or path.name.startswith(_RECORD)
    return is_unfinished_file(path.name)


def _files(folder: Path, wanted: Callable[[str], bool]) -> list[Path]:
    """The files with wanted names in a folder that is no link; none if there is no such folder. Raises OSError."""
    if not is_own_folder(folder):
        return []
    return sorted(path for path in folder.iterdir() if wanted(path.name) and path.is_file())

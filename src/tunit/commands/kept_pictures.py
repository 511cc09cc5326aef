"""The list of the pictures that `tunit domains --leave-out-outliers` keeps, for the next training."""

from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.tally import Tally
from tunit.files.result_names import KEPT
from tunit.printing import numbered, remark, show

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tunit.data.finding.found import PictureSource


def paths_of(pictures: "list[PictureSource]", source: Path | str) -> dict[str, Path]:
    """The absolute path of each picture, by its name. Raises ConfigError if they are not files in a folder."""
    from tunit.data.finding.found import DiskFile
    from tunit.errors import ConfigError

    wanted = "--leave-out-outliers writes a list of paths, but"
    if isinstance(source, str) or not source.is_dir():
        raise ConfigError(f"{wanted} {source} is not a folder: give a folder")
    paths = {p.name: p.content.path.absolute() for p in pictures if isinstance(p.content, DiskFile)}
    if len(paths) < len(pictures):
        raise ConfigError(
            f"{wanted} pictures of {source} are in an archive, a database or shards: give the folder of the files"
        )
    return paths


def write_kept(
    path: Path, paths: dict[str, Path], tally: Tally, scores: "NDArray[np.float64]", limit: float
) -> None:
    """Write the paths of the pictures whose outlier score is below a limit, as a list for `tunit train`.

    paths: of each picture, by its name. scores: in the order of the tally's rows.
    """
    from tunit.translation.result_files import write_result

    pairs = zip(tally.rows, scores, strict=True)
    below = [str(paths[name]) for name in sorted(row[0] for row, score in pairs if score < limit)]
    # A list is read by lines, without the spaces around them.
    kept = [name for name in below if name == name.strip() and not {"\n", "\r"} & set(name)]
    write_result(path, "".join(f"{name}\n" for name in kept).encode("utf-8", "surrogateescape"))
    if broken := len(below) - len(kept):
        one, several = "path has line breaks or ends", "paths have line breaks or end"
        whose = f"whose {one if broken == 1 else several} in a space"
        lacked = numbered(broken, "picture")
        remark(f"{KEPT} lacks {lacked}, {whose}: rename the files or folders, and call again")
    show(f"{len(below):,} of {len(tally.rows):,} pictures have an outlier score below {limit}: {KEPT}")

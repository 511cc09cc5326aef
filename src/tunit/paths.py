"""Paths as people write them."""

import os
from pathlib import Path


def expand_home(path: str | Path) -> Path:
    """The path with a leading `~` or `~user` replaced by that home folder; unchanged if there is no such user.

    A shell does this only at the start of a word: not in --out=~/x, a list, a setting or Python. For a file that is
    really called `~`, write ./~.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises for an unknown user)

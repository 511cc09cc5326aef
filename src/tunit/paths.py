"""Paths as people write them."""

import os
from pathlib import Path


def home(path: str | Path) -> Path:
    """The path with a leading `~` or `~user` as the home folder; where there is no such user, as it is.

    A shell does this for a word of its own, but not for --out=~/x, nor in a list, a setting or Python. A file that is
    really named `~` is ./~.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises for an unknown user)

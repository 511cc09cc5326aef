"""Model folders on a hub of huggingface_hub: download one, upload one. Files are only moved; nothing in them is run.

A model is named as there, `user/name`. The environment says which hub (HF_ENDPOINT), who asks (HF_TOKEN) and whether
the network may be used (HF_HUB_OFFLINE).
"""

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tunit.errors import ConfigError, RunError
from tunit.printing import shown
from tunit.reading import exists, is_file

INSTALL = 'pip install "tunit[hub]"'
_PART = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?", re.ASCII)
REMEDIES = {"401": "call `hf auth login`", "403": "take a token that may do this"}  # of a hub's answer
LONGEST_REASON = 200  # characters of what a hub said


def is_hub_name(text: str) -> bool:
    """Whether a text could be the name of a repository, such as "user/name"."""
    parts = text.split("/")
    return (
        len(parts) == 2
        and all(_PART.fullmatch(part) for part in parts)
        and not any(bad in text for bad in ("--", ".."))
        and not text.endswith(".git")
    )


def is_on_hub(run: str | Path) -> bool:
    """Whether `run` is to be looked for on the hub: it has the form of a name there, and is no local path.

    Where the part before the slash is a folder here, such as `runs` of `runs/cats`, a local path was meant.
    """
    name = str(run)
    return is_hub_name(name) and not exists(Path(name)) and not exists(Path(name).parent)


def download(name: str, files: Sequence[str]) -> Path:
    """A folder with those of `files` that the repository has, all of one commit; from the hub's cache where it can.

    The first of `files` must be there. Raises ConfigError without huggingface_hub, RunError where there is no such
    repository or no way to it.
    """
    if not is_installed():
        raise ConfigError(
            f"there is no folder {name} here, and to look for it on the hub takes huggingface_hub: check the path, "
            f"or {INSTALL}"
        )
    from huggingface_hub import snapshot_download

    offline = ", nor was it downloaded before: check the network, or give the folder of a model"
    with _in_one_sentence(f"there is no folder {name} here, and on the hub", offline):
        folder = Path(snapshot_download(name, allow_patterns=list(files), max_workers=1))
    if not is_file(folder / files[0]):
        raise RunError(
            f"{name} on the hub holds no {files[0]}: it is no model of tunit, so give another name"
        )
    return folder


def upload(folder: Path, name: str, *, private: bool, message: str) -> str:
    """Make the repository where it is missing, and upload the files of `folder`; returns its address.

    Files there of other names stay. Raises RunError where the hub refuses, or where `private` is asked for and the
    repository is there already for everybody to read: nothing is uploaded then.
    """
    check_upload(name)
    from huggingface_hub import HfApi

    api = HfApi()
    with _in_one_sentence(f"{name} was not uploaded:"):
        # private=None leaves the choice to the owner's settings on the hub.
        address = str(api.create_repo(name, private=private or None, exist_ok=True))
        if private and not api.model_info(name).private:
            raise RunError(
                f"{name} is there already and public, so nothing was uploaded: make it private on {address}, or "
                "leave out --private"
            )
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    return address


def check_upload(name: str) -> None:
    """Raises ConfigError where an upload cannot succeed: a wrong name, no package, nobody logged in."""
    check_name(name)
    if not is_installed():
        raise ConfigError(f"an upload takes huggingface_hub, which is not installed: {INSTALL}")
    from huggingface_hub import get_token

    if not get_token():
        raise ConfigError(
            "nobody is logged in to the hub: call `hf auth login`, or set HF_TOKEN to a token that may write"
        )


def check_name(name: str) -> None:
    """Raises ConfigError where `name` cannot be that of a repository."""
    if not is_hub_name(name):
        raise ConfigError(
            f"{shown(name)} is no name on the hub: take user/name, each of letters, digits, dots, hyphens and "
            "underscores"
        )


def is_installed() -> bool:
    """Whether huggingface_hub is there."""
    return find_spec("huggingface_hub") is not None


@contextmanager
def _in_one_sentence(begins: str, offline: str = ": check the network") -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence that begins with `begins`; offline: how it ends then.

    Raises RunError.
    """
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    try:
        with _quiet():
            yield
    except _failures() as error:
        cause = _cause_of(error)
        if isinstance(cause, errors.GatedRepoError):
            why = "its owner must let you in: ask for access on its page there"
        elif isinstance(cause, errors.RepositoryNotFoundError):
            why = "there is none of this name that you may read: check it, or call `hf auth login` for a private one"
        elif isinstance(cause, errors.HfHubHTTPError):
            status = str(cause.response.status_code)
            why = f"answered {status} ({_first_line(cause)}): {REMEDIES.get(status, 'try again later')}"
        elif isinstance(cause, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError | _transport()):
            why = f"cannot be reached{offline}"
        else:
            why = f"something failed ({_first_line(cause)}): try again"
        raise RunError(f"{begins} {hub} {why}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress where there is no terminal, and without warnings of what the sentence will say."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    log = logging.getLogger("huggingface_hub")
    before, hides = log.level, not sys.stderr.isatty() and not are_progress_bars_disabled()
    log.setLevel(logging.ERROR)
    if hides:
        disable_progress_bars()
    try:
        yield
    finally:
        log.setLevel(before)
        if hides:
            enable_progress_bars()


def _transport() -> type[Exception]:
    """The error of the HTTP library that huggingface_hub uses, which is another one in other releases."""
    from huggingface_hub import errors

    base: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    return base


def _failures() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises, besides what would be a fault of ours."""
    return _transport(), OSError, ValueError, RuntimeError


def _cause_of(error: BaseException) -> BaseException:
    """What the hub or the network said: uploads, and looks into the cache after it, raise errors on top of that."""
    from huggingface_hub import errors

    while isinstance(error.__cause__, _failures()) and not isinstance(error, errors.HfHubHTTPError):
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:LONGEST_REASON]

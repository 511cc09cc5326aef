"""Download and upload model folders, by huggingface_hub. Files are only copied; no code in them is run.

A model has its name on the hub, `user/name`. Environment variables choose the hub (HF_ENDPOINT), the user (HF_TOKEN)
and whether the network may be used (HF_HUB_OFFLINE).
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tunit.errors import ConfigError, RunError
from tunit.files.reading import exists, is_file
from tunit.printing import shown

INSTALL = 'pip install "tunit[hub]"'
_PART = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?", re.ASCII)
# Remedies by the status of a hub's answer.
REMEDIES = {"401": "call `hf auth login`", "403": "take a token that may do this"}
LONGEST_REASON = 200  # characters of a hub's message


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
    """Whether to look for `run` on the hub: it has the form of a name there, and is not a local path.

    If the part before the slash is a local folder, such as `runs` in `runs/cats`, a local path was meant.
    """
    name = str(run)
    return is_hub_name(name) and not exists(Path(name)) and not exists(Path(name).parent)


def download(name: str, files: Sequence[str]) -> Path:
    """A folder with those of `files` that the repository has, all of one commit; from the local cache if possible.

    The first of `files` must exist. Raises ConfigError without huggingface_hub, RunError if there is no such
    repository or if it cannot be reached.
    """
    if not is_installed():
        raise ConfigError(
            f"there is no folder {name} here, and looking for it on the hub needs huggingface_hub: check the path, "
            f"or {INSTALL}"
        )
    from huggingface_hub import snapshot_download

    offline = ", nor was it downloaded before: check the network, or give the folder of a model"
    with _in_one_sentence(f"there is no folder {name} here, and on the hub", offline):
        folder = Path(snapshot_download(name, allow_patterns=list(files), max_workers=1))
    if not is_file(folder / files[0]):
        raise RunError(
            f"{name} on the hub holds no {files[0]}, so it is not a model of tunit: give another name"
        )
    return folder


def upload(
    folder: Path, name: str, *, private: bool, message: str, replaced: Callable[[str], bool] | None = None
) -> str:
    """Make the repository if it is missing, and upload the files of `folder`; returns its address.

    replaced: tells which older files of the repository, by their paths in it, are removed in the same commit, unless
        `folder` has a file of that name. All others stay, and so does the history.
    Raises RunError if the hub refuses, or if `private` is True and the repository exists and is public; then nothing
    is uploaded.
    """
    check_upload(name)
    from huggingface_hub import HfApi

    api = HfApi()
    with _in_one_sentence(f"{name} was not uploaded:"):
        # With private=None, the hub uses the settings of the user's account.
        address = str(api.create_repo(name, private=private or None, exist_ok=True))
        if private and not api.model_info(name).private:
            raise RunError(
                f"{name} exists already and is public, so nothing was uploaded: make it private on {address}, or "
                "leave out --private"
            )
        older = [file for file in api.list_repo_files(name) if replaced(file)] if replaced else None
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message, delete_patterns=older)
    return address


def check_upload(name: str) -> None:
    """Raises ConfigError if an upload cannot succeed: a wrong name, a missing package, no login."""
    check_name(name)
    if not is_installed():
        raise ConfigError(f"an upload needs huggingface_hub, which is not installed: {INSTALL}")
    from huggingface_hub import get_token

    if not get_token():
        raise ConfigError(
            "you are not logged in to the hub: call `hf auth login`, or set HF_TOKEN to a token that may write"
        )


def check_name(name: str) -> None:
    """Raises ConfigError if `name` cannot be the name of a repository."""
    if not is_hub_name(name):
        raise ConfigError(
            f"{shown(name)} cannot be a name on the hub: take user/name, each of letters, digits, dots, hyphens and "
            "underscores"
        )


def is_installed() -> bool:
    """Whether huggingface_hub is installed."""
    return find_spec("huggingface_hub") is not None


@contextmanager
def _in_one_sentence(begins: str, offline: str = ": check the network") -> Iterator[None]:
    """Turn errors of huggingface_hub into a RunError of one sentence.

    begins: how the sentence begins. offline: how it ends if the hub cannot be reached.
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
            why = "there is none of this name, or you may not read it: check it, or call `hf auth login`"
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
    """A block without progress bars if there is no terminal, and without the warnings of huggingface_hub."""
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
    """The error class of the HTTP library that huggingface_hub uses; it differs between releases."""
    from huggingface_hub import errors

    base: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    return base


def _failures() -> tuple[type[Exception], ...]:
    """The errors of huggingface_hub that are not bugs of ours."""
    return _transport(), OSError, ValueError, RuntimeError


def _cause_of(error: BaseException) -> BaseException:
    """The original error of the hub or the network, which huggingface_hub may wrap in others."""
    from huggingface_hub import errors

    while isinstance(error.__cause__, _failures()) and not isinstance(error, errors.HfHubHTTPError):
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:LONGEST_REASON]

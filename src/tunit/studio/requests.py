"""Read a request: its workspace, its run and its fields.

For a value that is not allowed, the error is one sentence.
"""

import io
import math
from typing import cast

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from tunit.errors import ConfigError
from tunit.printing import shown
from tunit.studio.library import Library
from tunit.studio.workspace import Run, Workspace

MOST_FILES = 64
MOST_FIELDS = 500
LONGEST_FIELD = 1 << 20  # bytes


def workspace_of(request: Request) -> Workspace:
    """The folders that were given to this studio."""
    return cast(Workspace, request.app.state.workspace)


def library_of(request: Request) -> Library:
    """The runs of this studio, opened."""
    return cast(Library, request.app.state.library)


def run_of(request: Request) -> Run:
    """The run that {run} in the address names. Raises RunError if there is none."""
    return workspace_of(request).run(request.path_params["run"])


async def form_of(request: Request) -> FormData:
    """The fields and files of a form, all in memory. Raises HTTPException if it is damaged or too large."""
    fields = []
    async with request.form(
        max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=LONGEST_FIELD
    ) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):  # its file on the disk is removed together with the form
                data = io.BytesIO(await value.read())
                value = UploadFile(data, size=value.size, filename=value.filename, headers=value.headers)
            fields.append((name, value))
    return FormData(fields)


def text_of(form: FormData, name: str, default: str = "") -> str:
    """A field of text. Raises ConfigError if it is a file."""
    value = form.get(name, default)
    if isinstance(value, UploadFile):
        raise ConfigError(f"{name} is a file: give a text")
    return value


def number_of(text: str, name: str, low: float, high: float) -> float:
    """A number from `low` to `high`. Raises ConfigError."""
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{name} is {shown(text)}: give a number from {low:g} to {high:g}") from None
    if not math.isfinite(value) or not low <= value <= high:
        raise ConfigError(f"{name} is {shown(text)}: give a number from {low:g} to {high:g}")
    return value


def whole_of(text: str, name: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`. Raises ConfigError."""
    digits = text.strip().removeprefix("-")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 15 or not low <= int(text) <= high:
        raise ConfigError(f"{name} is {shown(text)}: give a whole number from {low} to {high}")
    return int(text)

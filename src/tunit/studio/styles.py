"""Read the style in a request: a mix of domains, pictures and style codes, each with a weight."""

import math
from typing import Any

import torch
from torch import Tensor

from tunit.errors import ConfigError
from tunit.files.reading import UnreadableError, parse_json
from tunit.printing import shown
from tunit.studio.library import Library
from tunit.studio.workspace import Run

MOST_PARTS = 16  # the most parts of a mix
LARGEST = 1e6  # the largest weight, and the largest number in a style code
_KINDS = ("domain", "row", "code")


def mix_of(library: Library, run: Run, text: str) -> Tensor:
    """The style code (style width,) of a mix, as JSON: [{"domain": 3, "weight": 0.5}, {"row": 17, "weight": 1}].

    A part is a domain's average style, the style of a picture of the run ("row"), or a style code ("code", a list of
    numbers). Raises ConfigError.
    """
    return _mixed(library, run, _parsed(text))


def stops_of(library: Library, run: Run, text: str, most: int) -> Tensor:
    """The style codes (M, style width) of a walk's stops, each a mix: [[{"domain": 3}], [{"domain": 1}]]."""
    stops = _parsed(text)
    if not isinstance(stops, list) or not 1 <= len(stops) <= most:
        raise ConfigError(f"a walk has from 1 to {most} stops: choose that many styles")
    return torch.stack([_mixed(library, run, stop) for stop in stops])


def _parsed(text: str) -> Any:
    try:
        return parse_json(text)
    except UnreadableError as error:
        raise ConfigError(f"the style cannot be read ({error}): choose it again") from None


def _mixed(library: Library, run: Run, parts: Any) -> Tensor:
    if not isinstance(parts, list) or not 1 <= len(parts) <= MOST_PARTS:
        raise ConfigError(f"a style is mixed from 1 to {MOST_PARTS} parts: choose that many")
    total, weights = torch.zeros(library.translator(run).model.settings.style_width, dtype=torch.float64), 0.0
    for part in parts:
        if not isinstance(part, dict) or sum(kind in part for kind in _KINDS) != 1:
            raise ConfigError("a part of a style must be a domain, a picture or a code: choose it again")
        weight = _number(part.get("weight", 1), "a weight")
        if weight < 0:
            raise ConfigError(f"a weight is {weight:g}: give at least 0")
        total += weight * _code_of(library, run, part).double()
        weights += weight
    if weights == 0:
        raise ConfigError("all weights of the style are 0: raise one of them")
    return (total / weights).float()


def _code_of(library: Library, run: Run, part: dict[str, Any]) -> Tensor:
    translator = library.translator(run)
    width = translator.model.settings.style_width
    if "domain" in part:
        return translator.domain_style(_whole(part["domain"], "a domain"))
    if "row" in part:
        return translator.style(library.pixels(run, _whole(part["row"], "the number of a picture")))
    code = part["code"]
    if not isinstance(code, list) or len(code) != width:
        raise ConfigError(f"a style code has {width} numbers in this run: choose the picture again")
    return torch.tensor([_number(value, "a number of a style code") for value in code])


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise ConfigError(f"{name} is {shown(value)}: give a number")
    if not math.isfinite(value):
        raise ConfigError(f"{name} is {shown(value)}: give a number")
    return float(value)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**40:
        raise ConfigError(f"{name} is {shown(value)}: give a whole number")
    return value

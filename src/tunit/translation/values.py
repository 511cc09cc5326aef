"""Checks of style codes and strengths that are given to the API: a value of a wrong kind is one sentence, too."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.errors import ConfigError
from tunit.given import real_number

Codes = Tensor | NDArray[np.floating[Any]] | Sequence[float] | Sequence[Sequence[float]]  # style codes

_ONE_NUMBER = "a style code is {}: give {} numbers, or the number of a domain as domain"

# With far larger strengths, style codes leave the range of float32, and results would be black.
MOST_STRENGTH = 1e6


def given_strength(value: object) -> float:
    """How far to move from the source's own style. Raises ConfigError if it is no number, or far too large."""
    strength = real_number(value, "strength is {}: take a number, such as 0.5 for half of the way")
    if abs(strength) > MOST_STRENGTH:
        raise ConfigError(
            f"strength is {strength:g}: take at most {MOST_STRENGTH:,.0f}, such as 2 to exaggerate the style"
        )
    return strength


def style_codes(styles: Codes, width: int) -> Tensor:
    """Several style codes as a float tensor (M, width) on the CPU; whole numbers are converted.

    Raises ConfigError if they have another form.
    """
    codes = _tensor(styles, width)
    if codes.ndim == 0:
        raise ConfigError(_ONE_NUMBER.format(codes.item(), width))
    if codes.ndim == 1:
        raise ConfigError(f"several style codes are (M, {width}), and this is one: give code[None]")
    if codes.ndim != 2 or codes.shape[1] != width:
        raise ConfigError(
            f"style codes of shape {tuple(codes.shape[1:])} do not fit: this model's are ({width},)"
        )
    if codes.dtype == torch.bool or codes.is_complex():
        raise ConfigError(f"style codes of type {codes.dtype} do not fit: give real numbers")
    if not len(codes):
        raise ConfigError("there is no style code among those given: give at least one")
    codes = codes.float().cpu()
    if not bool(codes.isfinite().all()):
        raise ConfigError("a style code has a value that is not finite: give finite numbers")
    return codes


def style_code(style: Codes, width: int) -> Tensor:
    """One style code as `style_codes` gives it, (1, width). Raises ConfigError."""
    code = _tensor(style, width)
    if code.ndim == 0:
        raise ConfigError(_ONE_NUMBER.format(code.item(), width))
    return style_codes(code[None], width)


def _tensor(codes: object, width: int) -> Tensor:
    try:
        return codes if isinstance(codes, Tensor) else torch.tensor(np.asarray(codes))
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(
            f"a {type(codes).__name__} is no style code: give an array of {width} numbers"
        ) from None

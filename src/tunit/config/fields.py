"""One setting: its field in a section; reading its value from text, checking its range, and writing it as TOML."""

import dataclasses
import difflib
import json
import math
import numbers
import re
import types
import typing
from dataclasses import field
from typing import Any

from tunit.errors import ConfigError
from tunit.printing import LONGEST_SHOWN, shown

LONGEST_TEXT = 10_000  # characters of a setting
AUTO_WORD = "auto"  # the word for a value that tunit chooses; it may stand for all numbers of a setting
# Stands for a value that is chosen from the pictures when a run starts.
FROM_PICTURES = -1.0
FROM_PICTURES_WORDS = {"auto": FROM_PICTURES}


def setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Any = (),
    words: typing.Mapping[str, int | float | tuple[float, float]] | None = None,
) -> Any:
    """A config field: its default, a line of help, its range (ends included) or its choices.

    choices: a dict is kept as it is, because keys may be added later. words: words that stand for special
    values, such as {"auto": 0}.
    """
    choices = choices if isinstance(choices, dict) else tuple(choices)
    known = {"help": text, "low": low, "high": high, "choices": choices, "words": words or {}}
    return field(default=default, metadata=known)


def suggestion(word: str, words: typing.Iterable[str], prefix: str = "") -> str:
    """': did you mean X?', or an empty text if no word is similar. prefix: stands before X, but is not compared."""
    close = difflib.get_close_matches(word[:LONGEST_SHOWN], list(words), n=1, cutoff=0.5)
    return f": did you mean {prefix + close[0]!r}?" if close else ""


def check_range(f: "dataclasses.Field[Any]", value: Any, *, word: bool = True) -> None:
    """Raises ConfigError if a setting's value is outside of its range or not among its choices.

    word: also accept values for which a word stands, such as auto; these may lie outside of the range.
    """
    low, high, choices = f.metadata["low"], f.metadata["high"], f.metadata["choices"]
    if choices and value not in choices:
        raise ConfigError(
            f"{f.name} is {shown(value)}: take one of {', '.join(choices)}{suggestion(str(value), choices)}"
        )
    if isinstance(value, str) and (len(value) > LONGEST_TEXT or "\0" in value):
        raise ConfigError(
            f"{f.name} is {shown(value)}: take at most {LONGEST_TEXT:,} characters, none of them NUL"
        )
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, str | bool) or (word and number in f.metadata["words"].values()):
            continue
        finite = -math.inf < number < math.inf
        if not finite or (low is not None and number < low) or (high is not None and number > high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ConfigError(
                f"{f.name} is {shown(value)}: take a value {limits if finite else 'that is finite'}"
            )


def check_type(f: "dataclasses.Field[Any]", kind: Any, value: Any) -> None:
    """Raises ConfigError if a value that was set from Python is not of the setting's type.

    A whole number may stand for one with a decimal point. Numbers of NumPy are refused: TOML could not hold them.
    """
    read = read_value(f.name, kind, value)
    pairs = zip(read, value, strict=True) if isinstance(read, tuple) else [(read, value)]
    # In a list NaN equals itself; it is refused by its range.
    if [read] != [value] or not all(type(given) in (type(wanted), int) for wanted, given in pairs):
        raise ConfigError(
            f"{f.name} is {shown(value)}, which is of type {type(value).__name__}: give {_kind_name(kind)}, or use "
            "with_overrides, which reads text and words"
        )


def read_value(name: str, kind: Any, value: Any) -> Any:
    """Convert `value` (text, or a value from TOML) to the type `kind` of the setting `name`. Raises ConfigError."""
    try:
        if typing.get_origin(kind) is tuple:
            parts = value.replace(",", " ").split() if isinstance(value, str) else list(value)
            kinds = typing.get_args(kind)
            if len(parts) != len(kinds):
                raise ValueError
            return tuple(_scalar(k, v) for k, v in zip(kinds, parts, strict=True))
        if isinstance(kind, types.UnionType):  # int | float: whether there is a decimal point matters
            text = isinstance(value, str)
            whole = (
                re.fullmatch(r"\s*[+-]?[0-9_]+\s*", value) if text else isinstance(value, numbers.Integral)
            )
            return _scalar(int if whole else float, value)
        return _scalar(kind, value)
    except KeyError:
        raise ConfigError(f"{name} is {shown(value)}: take true or false") from None
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name} is {shown(value)}: take {_kind_name(kind)}{comma_hint(value)}") from None


def read_setting(f: "dataclasses.Field[Any]", kind: Any, value: Any) -> Any:
    """The value of a setting of the type `kind`, given as one of its words, as other text, or as a value from TOML;
    within its range. Raises ConfigError.
    """
    words = f.metadata["words"]
    given = isinstance(value, str) and value in words
    try:
        read = read_value(f.name, kind, words[value] if given else value)
    except ConfigError:
        if not words or not isinstance(value, str):
            raise
        low, high = f.metadata["low"], f.metadata["high"]
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(
            f"{f.name} is {shown(value)}: take {', '.join(words)} or {_kind_name(kind)} {limits}{comma_hint(value)}"
        ) from None
    check_range(f, read, word=given)
    return read


def _scalar(kind: type, value: Any) -> Any:
    if kind is bool:  # 0 and 1: as in development versions before 0.1.0
        return {"true": True, "false": False, "1": True, "0": False}[
            (value if isinstance(value, str) else shown(value)).lower()
        ]
    if isinstance(value, bool) or (kind is str and not isinstance(value, str)):
        raise ValueError
    if kind is int and isinstance(value, float):
        raise ValueError
    return kind(value.replace("_", "") if kind is int and isinstance(value, str) else value)


def comma_hint(value: Any) -> str:
    """Continues a sentence about a value that is no number, if it would be one without its commas: tunit writes 1,000
    in its messages, and many write 0,5.
    """
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(,\d+)+(\.\d*)?", value.strip()):
        return ", without commas (a decimal point is .)"
    return ""


def _kind_name(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return "a whole number of steps or a share such as 0.3"
    if typing.get_origin(kind) is tuple:
        return f"{len(typing.get_args(kind))} numbers"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]


def word_of(f: "dataclasses.Field[Any]", value: Any) -> Any:
    """The word that stands for a setting's value, such as auto; the value itself if there is none."""
    return next((word for word, number in f.metadata["words"].items() if number == value), value)


def check_chosen(settings: Any, *names: str) -> None:
    """Raises ConfigError if one of these settings of a section waits to be chosen from the pictures."""
    for f in dataclasses.fields(settings):
        if f.name in names and word_of(f, getattr(settings, f.name)) == AUTO_WORD:
            raise ConfigError(
                f"{f.name} is auto, to be chosen from the pictures: call suited_to_pictures first"
            )


def toml_value(value: Any) -> str:
    """A value as TOML text."""
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        # JSON escapes characters as TOML does, except for the delete character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)

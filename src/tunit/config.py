"""Every constant of the method, by name, with the paper's value as its default.

A `Config` is frozen and checks itself. It is read from a TOML preset that holds only its differences (to the
preset its `base` names, or to the paper), then changed by overrides such as {"r1_weight": "0.2"}. Field names
are unique over all sections, so that an override needs no section.
"""

import dataclasses
import difflib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from tunit.errors import ConfigError


def setting(
    default: Any, text: str, *, low: float | None = None, high: float | None = None, of: Any = ()
) -> Any:
    """A config field: its default, a line of help, its range (ends included) or its choices."""
    return field(default=default, metadata={"help": text, "low": low, "high": high, "of": tuple(of)})


@dataclass(frozen=True)
class DataConfig:
    """How pictures become squares."""

    image_size: int = setting(
        128, "side of the training pictures, a power of two from 32; 0 picks it from the data", low=0
    )
    fit: str = setting("stretch", "how a picture becomes a square", of=("stretch", "crop", "pad"))
    background: tuple[int, int, int] = setting(
        (255, 255, 255), "colour behind transparent and padded parts", low=0, high=255
    )
    min_side: int = setting(16, "a picture with a shorter side is left out", low=1)
    labels: str = setting("none", "labels to train with", of=("none", "folders", "csv"))
    label_column: str = setting("label", "the CSV column that holds labels")
    labelled_ratio: float = setting(0.0, "share of labelled steps in few-label training", low=0, high=1)


@dataclass(frozen=True)
class AugmentConfig:
    """The random transform from x to its second view x+ (method: animal faces, AFHQ, FFHQ, LSUN Car)."""

    flip: float = setting(0.5, "probability of a horizontal flip, both views", low=0, high=1)
    rotation: float = setting(20.0, "largest rotation, degrees", low=0, high=180)
    translation: float = setting(0.1, "largest shift, share of the side", low=0, high=1)
    shear: float = setting(10.0, "largest shear, degrees", low=0, high=80)
    crop_area: tuple[float, float] = setting(
        (0.9, 1.1), "area of the random crop, share of the picture", low=0.01, high=4
    )
    crop_aspect: tuple[float, float] = setting(
        (0.9, 1.1), "aspect ratio of the random crop", low=0.1, high=10
    )
    brightness: float = setting(0.4, "colour jitter: factor from 1 - b to 1 + b", low=0, high=1)
    contrast: float = setting(0.4, "colour jitter: factor from 1 - c to 1 + c", low=0, high=1)
    saturation: float = setting(0.4, "colour jitter: factor from 1 - s to 1 + s", low=0, high=1)
    hue: float = setting(0.125, "colour jitter: largest turn of the hue, of a full circle", low=0, high=0.5)


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of E, G and D."""

    domains: int = setting(10, "K-hat, the preset number of pseudo domains", low=1)
    style_width: int = setting(128, "length of a style code", low=1)
    guide_width: int = setting(64, "width of E's first convolution", low=1)
    head_std: float = setting(
        0.01, "initial standard deviation of the weights of E's clustering heads", low=0
    )
    overclusters: int = setting(
        0, "size of an auxiliary over-complete clustering head of E; 0 for none", low=0
    )
    generator_width: int = setting(0, "base width f of G; 0 is the paper's: 64, or 32 from 256 px", low=0)
    discriminator_width: int = setting(0, "base width w of D; 0 is the paper's: 64, or 32 from 256 px", low=0)


@dataclass(frozen=True)
class LossConfig:
    """Weights and constants of the losses (equations 1 to 6)."""

    mutual_information_weight: float = setting(5.0, "weight of the mutual information in E's loss", low=0)
    marginal_balance: float = setting(
        1.0, "factor on the marginal entropies of the mutual information (IIC's lambda)", low=0
    )
    overcluster_weight: float = setting(
        0.0, "weight of the auxiliary head's mutual information in E's loss", low=0
    )
    guide_style_weight: float = setting(1.0, "weight of E's style contrastive loss (equation 2)", low=0)
    classification_weight: float = setting(
        5.0, "weight of the cross-entropy on labelled pictures in E's loss", low=0
    )
    joint_guide_factor: float = setting(
        0.1, "factor on E's loss on unlabelled pictures once G and D train too", low=0
    )
    labelled_guide_factor: float = setting(1.0, "factor on E's loss on labelled pictures", low=0)
    adversarial_weight: float = setting(1.0, "weight of the adversarial loss (equation 3)", low=0)
    reconstruction_weight: float = setting(0.1, "weight of the reconstruction (equation 5)", low=0)
    generator_style_weight: float = setting(0.01, "weight of G's style contrastive loss (equation 4)", low=0)
    r1_weight: float = setting(10.0, "times E|grad D|^2 without the usual 1/2, so gamma is twice this", low=0)
    r1_every: int = setting(1, "R1 only at every n-th step, with n times the weight", low=1)
    temperature: float = setting(0.07, "tau of the contrastive losses", low=1e-6)


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam for E, RMSprop for G and D; no learning-rate schedule."""

    batch_size: int = setting(32, "pictures per step", low=2)
    guide_only_batch_size: int = setting(0, "pictures per step while E trains alone; 0 for batch_size", low=0)
    guide_rate: float = setting(1e-4, "Adam's learning rate for E", low=0)
    guide_joint_rate: float = setting(
        0.0, "Adam's learning rate for E once G and D train too; 0 for guide_rate", low=0
    )
    guide_betas: tuple[float, float] = setting((0.9, 0.999), "Adam's betas for E", low=0, high=1)
    guide_weight_decay: float = setting(1e-3, "L2 weight decay of E", low=0)
    generator_rate: float = setting(1e-4, "RMSprop's learning rate for G", low=0)
    discriminator_rate: float = setting(1e-4, "RMSprop's learning rate for D", low=0)
    rmsprop_alpha: float = setting(0.99, "RMSprop's smoothing", low=0, high=1)
    rmsprop_eps: float = setting(1e-8, "RMSprop's epsilon", low=0)
    weight_decay: float = setting(1e-4, "L2 weight decay of G and D", low=0)
    average_decay: float = setting(0.999, "decay of the moving averages of E and G", low=0, high=1)
    queue_length: int = setting(1024, "keys in the contrastive queue", low=1)


@dataclass(frozen=True)
class ScheduleConfig:
    """Phases, in steps; a number with a decimal point is a share of all steps."""

    steps: int = setting(200_000, "length of the training", low=1)
    labelled_only_until: int | float = setting(
        0, "few-label training: labelled pictures alone until here", low=0
    )
    guide_only_until: int | float = setting(65_000, "E trains alone until here", low=0)
    average_from: int | float = setting(66_000, "the average of G is G itself until here", low=0)


@dataclass(frozen=True)
class RunConfig:
    """How a run is carried out and written down; nothing here changes the method."""

    seed: int = setting(0, "seeds everything random", low=0)
    device: str = setting("auto", "auto, cpu, cuda or cuda:N; auto takes a GPU where there is one")
    precision: str = setting("auto", "of convolutions and matrices", of=("auto", "float32", "bfloat16"))
    threads: int = setting(0, "CPU threads; 0 for all cores", low=0)
    workers: int = setting(0, "processes that decode pictures; 0 for all cores", low=0)
    log_every: int = setting(100, "steps between lines of metrics.jsonl", low=1)
    sample_every: int = setting(5_000, "steps between sample grids; 0 for none but the last", low=0)
    checkpoint_every: int = setting(5_000, "steps between checkpoints", low=1)
    keep_checkpoints: int = setting(3, "how many of the newest checkpoints stay", low=1)


@dataclass(frozen=True)
class Config:
    """All settings of a training run, by section."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    networks: NetworkConfig = field(default_factory=NetworkConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimisers: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        for section in dataclasses.fields(self):
            values = getattr(self, section.name)
            for f in dataclasses.fields(values):
                _check_range(f, getattr(values, f.name))
        size = self.data.image_size
        if size and (size < 32 or size & (size - 1)):
            raise ConfigError(f"image_size is {size}: take a power of two from 32, such as 64 or 128")
        for name in ("crop_area", "crop_aspect"):
            low, high = getattr(self.augment, name)
            if low > high:
                raise ConfigError(f"{name} is ({low}, {high}): the first number must not exceed the second")

    def with_overrides(self, overrides: Mapping[str, Any]) -> "Config":
        """A copy with fields changed by name, in any section; text is read as the field's type.

        Raises ConfigError for an unknown name (with the nearest right one), type or value.
        """
        changed: dict[str, dict[str, Any]] = {}
        for name, value in overrides.items():
            section, f = find_field(name)
            changed.setdefault(section, {})[f.name] = _convert(f, value)
        sections = {s: dataclasses.replace(getattr(self, s), **fields) for s, fields in changed.items()}
        return dataclasses.replace(self, **sections)

    def resolved_schedule(self) -> "Config":
        """A copy whose phases are steps, not shares of all steps."""
        steps = self.schedule.steps
        names = ("labelled_only_until", "guide_only_until", "average_from")
        values = {n: getattr(self.schedule, n) for n in names}
        return self.with_overrides(
            {n: round(v * steps) if isinstance(v, float) else v for n, v in values.items()}
        )

    def to_toml(self) -> str:
        """All settings as a TOML file that `read_config` reads back."""
        lines = ["# Every setting of this run, resolved."]
        for section in dataclasses.fields(self):
            lines += ["", f"[{section.name}]"]
            values = getattr(self, section.name)
            lines += [
                f"{f.name} = {_toml_value(getattr(values, f.name))}" for f in dataclasses.fields(values)
            ]
        return "\n".join(lines) + "\n"


def all_fields() -> dict[str, tuple[str, "dataclasses.Field[Any]"]]:
    """Every setting by its name: (section, field), in order."""
    found = {}
    for section in dataclasses.fields(Config):
        section_type = typing.cast(type, section.type)
        for f in dataclasses.fields(section_type):
            found[f.name] = (section.name, f)
    return found


def find_field(name: str) -> tuple[str, "dataclasses.Field[Any]"]:
    """The (section, field) of a name, which may be `section.name` and may have - for _.

    Raises ConfigError with the nearest right name.
    """
    fields = all_fields()
    section, _, bare = name.replace("-", "_").rpartition(".")
    if bare in fields and section in ("", fields[bare][0]):
        return fields[bare]
    raise ConfigError(f"there is no setting {name!r}{nearest(bare, fields)}")


def nearest(word: str, words: typing.Iterable[str]) -> str:
    """': did you mean X?', or nothing where no word is near."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else ""


def preset_names() -> list[str]:
    """The presets that come with the package."""
    folder = resources.files("tunit") / "presets"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def read_config(preset: str) -> Config:
    """The config of a preset's name or of a TOML file's path.

    Raises ConfigError where there is none, where it is not TOML, or where it names an unknown setting.
    """
    return _read_chain(preset, ())


def _read_chain(preset: str, seen: tuple[str, ...]) -> Config:
    if preset in seen:
        raise ConfigError(f"the presets {', '.join(seen)} are based on each other in a circle")
    table = _read_table(preset)
    base = table.pop("base", None)
    config = Config() if base is None else _read_chain(str(base), (*seen, preset))
    overrides: dict[str, Any] = {}
    sections = {f.name for f in dataclasses.fields(Config)}
    for section, values in table.items():
        if section not in sections or not isinstance(values, dict):
            raise ConfigError(f"{preset}: there is no section {section!r}{nearest(section, sections)}")
        overrides |= {f"{section}.{name}": value for name, value in values.items()}
    try:
        return config.with_overrides(overrides)
    except ConfigError as error:
        raise ConfigError(f"{preset}: {error}") from None


def _read_table(preset: str) -> dict[str, Any]:
    shipped = preset_names()
    if preset in shipped:
        file: Traversable = resources.files("tunit") / "presets" / f"{preset}.toml"
    elif Path(preset).is_file():
        file = Path(preset)
    else:
        raise ConfigError(
            f"{preset!r} is neither a file nor a preset ({', '.join(shipped)}){nearest(preset, shipped)}"
        )
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{preset} is not valid TOML: {error}") from None


def _check_range(f: "dataclasses.Field[Any]", value: Any) -> None:
    low, high, choices = f.metadata["low"], f.metadata["high"], f.metadata["of"]
    if choices and value not in choices:
        raise ConfigError(
            f"{f.name} is {value!r}: take one of {', '.join(choices)}{nearest(str(value), choices)}"
        )
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, str):
            continue
        finite = -math.inf < number < math.inf
        if not finite or (low is not None and number < low) or (high is not None and number > high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ConfigError(f"{f.name} is {value}: take a value {limits if finite else 'that is finite'}")


def _convert(f: "dataclasses.Field[Any]", value: Any) -> Any:
    """`value`, perhaps text, as the field's type."""
    kind = typing.get_type_hints(_section_of(f.name))[f.name]
    try:
        if typing.get_origin(kind) is tuple:
            parts = value.replace(",", " ").split() if isinstance(value, str) else list(value)
            kinds = typing.get_args(kind)
            if len(parts) != len(kinds):
                raise ValueError(f"{len(kinds)} values are needed")
            return tuple(_scalar(k, v) for k, v in zip(kinds, parts, strict=True))
        if isinstance(kind, types.UnionType):  # int | float: whether there is a decimal point matters
            text = isinstance(value, str)
            whole = re.fullmatch(r"\s*[+-]?[0-9_]+\s*", value) if text else isinstance(value, int)
            return _scalar(int if whole else float, value)
        return _scalar(kind, value)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{f.name} is {value!r}, which does not read as {_kind_name(kind)} ({error})"
        ) from None


def _scalar(kind: type, value: Any) -> Any:
    if isinstance(value, bool) or (kind is str and not isinstance(value, str)):
        raise ValueError(f"it is of type {type(value).__name__}")
    if kind is int and isinstance(value, float):
        raise ValueError("a whole number is needed")
    return kind(value.replace("_", "") if kind is int and isinstance(value, str) else value)


def _kind_name(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return "a whole number of steps or a share such as 0.3"
    if typing.get_origin(kind) is tuple:
        return f"{len(typing.get_args(kind))} numbers"
    return {int: "a whole number", float: "a number", str: "text"}[kind]


def _section_of(name: str) -> Any:
    section = all_fields()[name][0]
    return next(f.type for f in dataclasses.fields(Config) if f.name == section)


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        # JSON escapes as TOML does, but for the delete character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)

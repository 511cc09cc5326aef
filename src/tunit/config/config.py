"""Every hyperparameter of the paper's method and every setting of our additions, by name; defaults are the paper's.

Constants of our additions that are no settings are in the modules that use them.

A `Config` is frozen and checks itself. It is read from a TOML preset, which holds only its differences from the
preset that it names as `base`, or from the paper. Overrides such as {"r1_weight": "0.2"} then change it. Field names
are unique over all sections, so an override needs no section.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tunit.config.adversarial import AdversarialConfig
from tunit.config.clustering import ClusteringConfig
from tunit.config.fields import check_range, check_type, read_setting, suggestion, toml_value, word_of
from tunit.config.methods import FORMER_SECTIONS, METHODS, RENAMED, MethodConfig, method_sections, was_removed
from tunit.config.picture_sections import AugmentConfig, DataConfig
from tunit.config.sections import (
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    RunConfig,
    ScheduleConfig,
)
from tunit.errors import ConfigError
from tunit.printing import shown

S = typing.TypeVar("S")


@dataclass(frozen=True)
class Config:
    """All settings of a training run, by section.

    Sections that belong to one method, such as [semit], are in `method_settings`, but only if they differ from their
    defaults; `of` and `section` find them.
    """

    method: MethodConfig = field(default_factory=MethodConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    networks: NetworkConfig = field(default_factory=NetworkConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    optimisers: OptimiserConfig = field(default_factory=OptimiserConfig)
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    run: RunConfig = field(default_factory=RunConfig)
    method_settings: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        changed = tuple(values for values in self.method_settings if values != type(values)())
        object.__setattr__(self, "method_settings", changed)
        for name, section in section_types().items():
            if not isinstance(self.section(name), section):
                raise ConfigError(f"{name} is {shown(self.section(name))}: give a {section.__name__}")
            values, kinds = self.section(name), kinds_of(section)
            for f in dataclasses.fields(values):
                check_type(f, kinds[f.name], getattr(values, f.name))
                check_range(f, getattr(values, f.name))
        for name in ("image_size", "guide_image_size"):
            size = self.value(name)
            if size and (size < 32 or size & (size - 1)):
                raise ConfigError(f"{name} is {size}: take a power of two from 32, such as 64 or 128")
        for f in dataclasses.fields(self.schedule):
            value = getattr(self.schedule, f.name)
            if isinstance(value, float) and value > 1:
                raise ConfigError(
                    f"{f.name} is {value}, but a number with a decimal point is a share of all steps: "
                    "give a share up to 1.0, or a whole number of steps"
                )
        for name in ("crop_area", "crop_aspect"):
            low, high = getattr(self.augment, name)
            if low > high:
                raise ConfigError(f"{name} is ({low}, {high}): the first number must not exceed the second")
            if low == 0 < high:
                raise ConfigError(f"{name} is (0, {high}): give numbers above 0, such as 0.1 and {high}")

    @property
    def guide_side(self) -> int:
        """The side at which E sees pictures: they are shrunk to guide_image_size, if they are larger."""
        side = self.data.image_size
        return min(side, self.networks.guide_image_size or side)

    @property
    def guide_domains_from(self) -> float:
        """The share of E's steps alone after which E learns domains, too; 1 if not before the joint steps.

        Without the style loss E would learn nothing before that, so it then learns domains from the start.
        """
        return self.clustering.domains_from if self.losses.guide_style_weight else 0.0

    def of(self, kind: type[S]) -> S:
        """A method's own section, by its class."""
        return next((values for values in self.method_settings if type(values) is kind), kind())

    def section(self, name: str) -> Any:
        """The settings of a section by its name."""
        return self.of(method_sections()[name]) if name in method_sections() else getattr(self, name)

    def value(self, name: str) -> Any:
        """The value of a setting by its name, in any section. Raises ConfigError for an unknown name."""
        section, f = find_field(name)
        return getattr(self.section(section), f.name)

    def word(self, name: str) -> Any:
        """The word that stands for the value of a setting, such as auto; its value if there is none. As `value`."""
        return word_of(find_field(name)[1], self.value(name))

    def with_overrides(self, overrides: Mapping[str, Any]) -> "Config":
        """A copy with fields changed by name, in any section; text is read as the field's type.

        Raises ConfigError for an unknown name (with the nearest right one), type or value.
        """
        if not isinstance(overrides, Mapping):
            raise ConfigError(f"the overrides are {shown(overrides)}: give names with values, as a dict")
        changed: dict[str, dict[str, Any]] = {}
        for name, value in overrides.items():
            section, f = find_field(name)
            read = read_setting(f, kinds_of(section_types()[section])[f.name], value)
            changed.setdefault(section, {})[f.name] = read
        sections = {s: dataclasses.replace(self.section(s), **fields) for s, fields in changed.items()}
        given = [sections.pop(name) for name in method_sections() if name in sections]
        kinds = {type(values) for values in given}
        kept = (values for values in self.method_settings if type(values) not in kinds)
        return dataclasses.replace(self, **sections, method_settings=(*kept, *given))

    def resolved_schedule(self) -> "Config":
        """A copy in which all phases are given in steps: shares of all steps are replaced by numbers of steps."""
        steps = self.schedule.steps
        names = ("labelled_only_until", "guide_only_until", "average_from")
        values = {n: getattr(self.schedule, n) for n in names}
        return self.with_overrides(
            {n: round(v * steps) if isinstance(v, float) else v for n, v in values.items()}
        )

    def to_toml(self) -> str:
        """All settings as a TOML file that `read_config` reads back.

        Sections of other methods than the config's are left out if they have their default values.
        """
        lines = ["# Every setting that this run uses."]
        idle = method_sections().keys() - METHODS[self.method.method].keys()
        for name in section_types():
            values = self.section(name)
            if name in idle and values not in self.method_settings:
                continue
            lines += ["", f"[{name}]"]
            for f in dataclasses.fields(values):
                lines.append(f"{f.name} = {toml_value(word_of(f, getattr(values, f.name)))}")
        return "\n".join(lines) + "\n"


@cache
def kinds_of(section: type) -> dict[str, Any]:
    """The type of each setting in a section, by name."""
    return typing.get_type_hints(section)


def section_types() -> dict[str, type]:
    """Every section by its name, those of single methods last."""
    shared = {
        f.name: typing.cast(type, f.type) for f in dataclasses.fields(Config) if f.name != "method_settings"
    }
    return shared | method_sections()


def all_fields() -> dict[str, tuple[str, "dataclasses.Field[Any]"]]:
    """Every setting by its name: (section, field), in order."""
    return {f.name: (name, f) for name, kind in section_types().items() for f in dataclasses.fields(kind)}


def find_field(name: str) -> tuple[str, "dataclasses.Field[Any]"]:
    """The (section, field) of a name, which may be `section.name` and may have - instead of _.

    Names and sections of development versions before 0.1.0 are found, too. Raises ConfigError with the nearest right
    name.
    """
    if not isinstance(name, str):
        raise ConfigError(f"the name of a setting is {shown(name)}: give text, such as 'steps'")
    fields = all_fields()
    section, _, bare = name.replace("-", "_").rpartition(".")
    newest = RENAMED.get(bare, bare)
    if newest in fields:
        found = fields[newest]
        if section in ("", found[0]) or bare in FORMER_SECTIONS.get(section, ()):
            return found
    raise ConfigError(f"there is no setting {shown(name)}{was_removed(bare) or suggestion(bare, fields)}")

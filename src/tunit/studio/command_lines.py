"""The commands that the studio starts, as lists of words. They do not pass through a shell.

Only the options in this file are used, each with a checked value. Paths are absolute, so a path cannot be mistaken
for an option.
"""

import os
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tunit
from tunit.config import Config
from tunit.config.presets import preset_names, read_config
from tunit.errors import ConfigError
from tunit.methods.idle_settings import idle_settings
from tunit.methods.registry import method_of
from tunit.printing import shown

PRESETS = ("small", "default", "paper")  # the presets for users' own pictures
# The largest numbers that the studio takes for a new training.
MOST_STEPS, MOST_DOMAINS, HIGHEST_SEED = 10_000_000, 1000, 2**31
SMALLEST_SIZE, LARGEST_SIZE = 32, 1024  # pixels
# The settings that change if a run is continued with labels. E is trained already, so it learns domains, and uses
# neighbours, from the start, and at the paper's rate: a higher one would undo what E has learnt. Every step draws
# from all pictures: steps with only labelled pictures would repeat these few until E knows them by heart
# (EXPERIMENTS.md, "Labels from the studio's page Teach"). Labels decide what the outputs of the domain head mean, so
# candidate heads are useless.
WITH_LABELS = {
    "--labelled-ratio": "0.0",
    "--labelled-only-until": "0",
    "--guide-only-until": "0.5",
    "--guide-rate": "1e-4",
    "--guide-only-rate": "0.0",
    "--average-from": "0.5",
    "--domains-from": "0.0",
    "--neighbours-from": "0.0",
    "--candidate-heads": "0",
}
# Not as in the first run: the columns are those of the table of labels, and E comes from the first run itself.
OF_THE_TABLE = {
    "--labels": "csv",
    "--label-column": "label",
    "--picture-column": "picture",
    "--guide-from": "",
}
_NAME = re.compile(r"\w[\w .-]{0,59}")
# -P: Python must not import from the folder in which the command runs.
TUNIT = (sys.executable, "-P", "-m", "tunit")


@dataclass(frozen=True)
class NewTraining:
    """A new training. Raises ConfigError for a value that is not allowed."""

    source: Path  # a folder of pictures, or the table of labels
    out: Path
    preset: str = "small"  # or the config.toml of a run
    steps: int = 0  # 0: as in the preset
    domains: int = 0  # 0: their number is found
    image_size: int = 0  # 0: as in the preset
    seed: int = 0
    pictures: int = 0  # how many the source holds, usable or not; 0: not known

    def __post_init__(self) -> None:
        if self.preset not in preset_names() and not Path(self.preset).is_absolute():
            raise ConfigError(f"preset is {shown(self.preset)}: take one of {', '.join(PRESETS)}")
        _check_between("steps", self.steps, 0, MOST_STEPS)
        _check_between("domains", self.domains, 0, MOST_DOMAINS)
        _check_between("seed", self.seed, 0, HIGHEST_SEED)
        size = self.image_size
        if size and (size & (size - 1) or not SMALLEST_SIZE <= size <= LARGEST_SIZE):
            raise ConfigError(
                f"image size is {size}: take a power of two from {SMALLEST_SIZE} to {LARGEST_SIZE}"
            )

    def command(self) -> list[str]:
        """The words of the command."""
        words = [*TUNIT, "train", str(self.source.absolute()), "--out", str(self.out.absolute())]
        words += ["--preset", self.preset, "--seed", str(self.seed)]
        words += ["--domains", str(self.domains or "auto")]
        if self.steps:
            words += ["--steps", str(self.steps)]
        if self.image_size:
            words += ["--image-size", str(self.image_size)]
        for name, size in self.smaller_batches.items():
            words += [name, str(size)]
        return words

    @cached_property
    def smaller_batches(self) -> dict[str, int]:
        """The options that lower the preset's batches, if there are fewer pictures than they take."""
        return smaller_batches(self.preset, self.pictures)


@dataclass(frozen=True)
class FewLabels:
    """A training that starts from a run, with labels for some of its pictures (section 4.2 of the paper)."""

    table: Path  # of labels
    start_from: Path  # the run
    out: Path
    steps: int
    domains: int  # at least as many as labels
    seed: int = 0
    pictures: int = 0  # how many the table lists; 0: not known

    def __post_init__(self) -> None:
        _check_between("steps", self.steps, 1, MOST_STEPS)
        _check_between("domains", self.domains, 1, MOST_DOMAINS)

    def command(self) -> list[str]:
        """The words of the command: all settings of the first run, except those that change with labels."""
        words = [*TUNIT, "train", str(self.table.absolute()), "--out", str(self.out.absolute())]
        first = self.start_from.absolute()
        words += ["--from", str(first), "--preset", str(first / "config.toml")]
        words += ["--domains", str(self.domains), "--seed", str(self.seed), "--steps", str(self.steps)]
        smaller = smaller_batches(str(first / "config.toml"), self.pictures)
        config = read_config(str(first / "config.toml"))
        for name, value in (OF_THE_TABLE | _with_labels(config) | smaller).items():
            words += [name, str(value)]
        return words


def _with_labels(config: Config) -> dict[str, str]:
    """The settings `WITH_LABELS`, without those that have no effect on a run with this config."""
    settings = {name.removeprefix("--").replace("-", "_"): value for name, value in WITH_LABELS.items()}
    config = config.with_overrides(settings)
    idle = {flag for flag, name in zip(WITH_LABELS, settings, strict=True) if idle_settings(config, [name])}
    return {flag: value for flag, value in WITH_LABELS.items() if flag not in idle}


def smaller_batches(preset: str, pictures: int) -> dict[str, int]:
    """The options that lower the batches of a preset, or of a run's config, that take more than 9 of 10 pictures.

    pictures: how many there are; 0 if that is not known. A tenth is kept in reserve, because some pictures may turn
    out to be unusable. A lowered batch takes a power of two.
    """
    optimisers, usable = read_config(preset).optimisers, pictures * 9 // 10
    if usable < 2:
        return {}  # the training will say what is wrong
    sizes = {
        "--batch-size": optimisers.batch_size,
        "--guide-only-batch-size": optimisers.guide_only_batch_size,
    }
    return {name: 1 << (usable.bit_length() - 1) for name, size in sizes.items() if size > usable}


def check_method(config: Config, run: str) -> None:
    """Raises ConfigError if the method of a run cannot begin a training with the settings `WITH_LABELS`.

    run: its name.
    """
    method = method_of(config)
    if not method.trains_guide_first:
        raise ConfigError(
            f"{run} was trained by method '{method.name}', in which nothing trains alone, but a training with new "
            "labels begins with E alone: go on with a run of another method"
        )


def resume_command(run: Path, steps: int = 0) -> list[str]:
    """The command that resumes a run. steps: its new length; 0 keeps its length."""
    _check_between("steps", steps, 0, MOST_STEPS)
    words = [*TUNIT, "train", "--resume", str(run.absolute())]
    return [*words, "--steps", str(steps)] if steps else words


def prepare_command(source: Path, out: Path, preset: str) -> list[str]:
    """The command that checks the pictures of a folder."""
    if preset not in preset_names():
        raise ConfigError(f"preset is {shown(preset)}: take one of {', '.join(PRESETS)}")
    return [*TUNIT, "prepare", str(source.absolute()), "--out", str(out.absolute()), "--preset", preset]


def environment() -> dict[str, str]:
    """The environment of a new tunit process: our own, in which Python finds this tunit first."""
    folder = str(Path(tunit.__file__).absolute().parent.parent)
    others = os.environ.get("PYTHONPATH")
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join([folder, others] if others else [folder])}


def suggested_name(run: str) -> str:
    """A name for a new run that is trained by what was taught about the run of this name."""
    plain = " ".join(re.sub(r"[^\w .-]", " ", run).split()).strip(" .-")
    return f"{plain[:50].rstrip(' .-') or 'run'} taught"


def check_name(name: str) -> str:
    """The name of a new run, without spaces around it. Raises ConfigError if it cannot be a name."""
    name = name.strip()
    if not _NAME.fullmatch(name) or not name.isprintable() or name.endswith((".", " ")):
        raise ConfigError(
            f"the name of the run is {shown(name)}: take letters, digits, spaces, dots and hyphens, 60 at most, "
            "and a letter or digit first"
        )
    return name


def _check_between(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}: take a number from {low} to {high:,}")

"""How a table is run, and the config of each of its rows: a base preset, a row's differences, users' settings."""

from dataclasses import dataclass, replace
from pathlib import Path

from tunit.config import Config, DataConfig, preset_differences, read_config
from tunit.errors import ConfigError
from tunit.experiments.experiment import Experiment, Table
from tunit.experiments.split import Split, split_pictures

PAPER = "paper"
OWN_TABLES = {"label_column": "label", "picture_column": ""}  # rows train on tables that `write_table` writes
# Settings of the pictures that a table cannot follow: the value that changes nothing, and what to say of another one.
OF_LAYOUTS = " is for published data sets (--layout), which are not read here: leave it out, or "
NOT_FOR_TABLES = {
    "layout": (
        "none",
        " cannot be read here, because rows train on tables of pictures: leave it out, and give --data a folder with "
        "a sub-folder for each class, or a CSV with a label column",
    ),
    "split": ("train", OF_LAYOUTS + "give the held-back pictures as --held-back"),
    "held_out": ("0", OF_LAYOUTS + "give the held-back pictures as --held-back"),
    "classes": ("", OF_LAYOUTS + "choose classes with --between A,B"),
    "labels": ("none", " cannot be chosen here, because each row has its own labels: leave it out"),
}
SMOKE = {"steps": "8", "image_size": "32", "batch_size": "4", "guide_only_batch_size": "0"} | {
    "guide_width": "4",
    "generator_width": "4",
    "discriminator_width": "4",
    "queue_length": "16",
    "checkpoint_every": "1000",
    "sample_every": "0",
}
SMOKE_SOURCES = 8


@dataclass(frozen=True)
class Plan:
    """How a table is run."""

    data: Path
    out: Path
    held_back: Path | None = None
    base: str = PAPER  # preset to which the differences of every row are applied
    overrides: tuple[tuple[str, str], ...] = ()  # for every row
    seeds: int = 1
    features: str = "random-vgg16"
    cluster_features: str = ""  # the feature network for k-means; "": the same as for the figures
    preprocessing: str = "clean"
    trust_features: bool = False  # allow TorchScript and .pt2 files, which can run any code
    most_sources: int = 0
    classes: tuple[str, ...] = ()  # use only these classes, in this order; empty for all
    smoke: bool = False  # whether this plan is one of `smoke`

    def __post_init__(self) -> None:
        given = dict(self.overrides)
        if "seed" in given:
            raise ConfigError(
                f"--seed {given['seed']} has no effect on a table: use --seeds N, for the seeds 0 to N - 1"
            )
        data = self._data_settings()
        for name, (unset, remedy) in NOT_FOR_TABLES.items():
            value = str(getattr(data, name))
            if value != unset:
                flag = f"--{name.replace('_', '-')} {value}"
                raise ConfigError(flag + ("" if name in given else f" (set in --base {self.base})") + remedy)

    def _data_settings(self) -> DataConfig:
        return read_config(self.base).with_overrides(dict(self.overrides)).data

    def split_of(self, table: Table) -> Split:
        """The training and the held-back pictures of a table, with their classes.

        Raises as `split_pictures` and `Split.of_classes` do; that one also prints which classes are not measured.
        """
        data = self._data_settings()
        split = split_pictures(
            self.data,
            self.held_back,
            label_column=data.label_column,
            picture_column=data.picture_column,
        )
        return split.of_classes(self.classes, table.classes)

    def name_of(self, table: Table) -> str:
        """The name of the table's files and of its folder in `out`: a smoke test has its own."""
        return f"{table.name}-smoke" if self.smoke else table.name

    @property
    def features_for_k_means(self) -> str:
        """The feature network whose features k-means divides: one of its own, or that of the figures."""
        return self.cluster_features or self.features

    @property
    def feature_cache(self) -> Path:
        """The folder of the real pictures' features: they are the same for all rows and seeds."""
        return self.out / "features"

    def folder(self, table: Table, row: Experiment, seed: int) -> Path:
        """The folder of a row's runs."""
        return self.out / self.name_of(table) / row.folder / f"seed-{seed}"


def config_of(row: Experiment, preset: str, plan: Plan, split: Split, seed: int) -> Config:
    """The row's config: the plan's base, the preset's differences from the paper, the plan's and the row's overrides.

    The number of domains is the number of classes, unless the row sets it. With another base than `paper`, or with
    --steps, the schedule and the batch size keep their proportions (see `scaled`).
    """
    base, share = read_config(plan.base).resolved_schedule(), 1.0
    given = dict(plan.overrides)
    if "steps" in given:
        share = base.with_overrides({"steps": given.pop("steps")}).schedule.steps / base.schedule.steps
    config = base.with_overrides({"domains": len(split.classes), "labels": "none"})
    config = config.with_overrides(
        preset_differences(preset) | scaled(read_config(preset).resolved_schedule(), base, share)
    )
    config = config.with_overrides(given).with_overrides(row.overrides if preset == row.preset else {})
    return config.with_overrides({"seed": seed} | OWN_TABLES)


def scaled(row: Config, base: Config, share: float = 1.0) -> dict[str, int]:
    """The schedule and the batch size of a row if the base has fewer steps than the paper, as overrides.

    Each phase is scaled by itself. The paper has 65,000 steps of E alone; they become the base's steps of E alone.
    It has 135,000 joint steps; they become the base's joint steps. So a row with both phases has the schedule of the
    base. Some rows have no phase of E alone, but 200,000 joint steps: these get 200,000 / 135,000 times as many joint
    steps as the base has. Batch sizes keep their ratio to the paper's 32.

    A phase that the row has keeps at least one step, however few steps there are: without a step of E alone, the
    number of domains could not be found.

    row: the config of a preset based on `paper`. Phases of row and base must be in steps. share: a factor on all
    steps of the base.
    """
    paper, ours, own = read_config(PAPER), base.schedule, row.schedule
    theirs = paper.schedule
    # How many of our steps correspond to one step of the paper, in each phase.
    before = share * ours.guide_only_until / theirs.guide_only_until
    joint = share * (ours.steps - ours.guide_only_until) / (theirs.steps - theirs.guide_only_until)
    late = share * (ours.average_from - ours.guide_only_until)
    late /= theirs.average_from - theirs.guide_only_until
    until = own.guide_only_until * before
    alone = max(1, round(until)) if own.guide_only_until else 0
    least = alone + 1 if own.steps > own.guide_only_until else max(1, alone)
    batch = row.optimisers.batch_size * base.optimisers.batch_size / paper.optimisers.batch_size
    return {
        "labelled_only_until": round(own.labelled_only_until * before),
        "guide_only_until": alone,
        "average_from": round(until + (own.average_from - own.guide_only_until) * late),
        "steps": max(least, round(until + (own.steps - own.guide_only_until) * joint)),
        "batch_size": max(2, round(batch)),
    }


def smoke(plan: Plan) -> Plan:
    """The same plan with a few steps of tiny networks and, unless it gives another number, a few sources, to see
    whether everything runs.
    """
    most = plan.most_sources or SMOKE_SOURCES
    return replace(plan, overrides=(*SMOKE.items(), *plan.overrides), most_sources=most, smoke=True)

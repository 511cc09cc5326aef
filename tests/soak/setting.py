"""What all parts share: a folder, the scale, random moments, and the field from which jobs start."""

import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from soak.children import finish
from soak.hostile import TARGETS
from soak.interruptions import Trials, of_all_jobs, small_disk, unmount
from soak.jobs import JOBS, Field, prepare_field


class Setting:
    """scale: a factor for all counts. 1 is the long form; 0 is the short form in `make test`. jobs: names of the jobs
    that are interrupted. inputs: kinds of bad input. kept: a folder for inputs that fail, made if there are any.

    The field is made at its first use, in a child process.
    """

    def __init__(
        self,
        scratch: Path,
        scale: float,
        rng: random.Random,
        *,
        kept: Path,
        jobs: Sequence[str] = tuple(JOBS),
        inputs: Sequence[str] = tuple(TARGETS),
    ) -> None:
        self.scratch, self.scale, self.rng = scratch, scale, rng
        self.short = scale == 0
        self.jobs, self.inputs, self.kept = jobs, inputs, kept

    def times(self, long: int, least: int = 1) -> int:
        """This number times the scale."""
        return max(least, round(long * self.scale))

    def folder(self, name: str) -> Path:
        """A new folder."""
        folder = self.scratch / name
        folder.mkdir(parents=True)
        return folder

    @cached_property
    def field(self) -> Field:
        folder = self.folder("field")
        child = finish(lambda: prepare_field(folder) and 0, self.scratch / "field.log")
        assert child.code == 0, child.said
        return Field(folder)

    @cached_property
    def trials(self) -> dict[str, Trials]:
        return of_all_jobs(self.field, self.folder("trials"))

    @cached_property
    def disk(self) -> Path | None:
        return small_disk(self.scratch / "disk")

    def close(self) -> None:
        if self.__dict__.get("disk"):
            unmount(self.disk)

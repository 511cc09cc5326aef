"""The folder of a run: its files, and what is written before the first step."""

import csv
import io
import json
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from tunit.config import Config
from tunit.config.run_file import read_run_config, write_run_config
from tunit.data.finding.archives import DUPLICATE
from tunit.data.packing.packed import PackedPictures
from tunit.distributed.collectives import broadcast_from_rank_zero, largest_of_ranks
from tunit.distributed.launcher import job
from tunit.errors import RunError
from tunit.files.atomic import write_text
from tunit.files.destination import OF_A_RUN, STUDIO
from tunit.files.paths import absolute, expand_home
from tunit.files.reading import LARGEST_TABLE, Record, UnreadableError, is_file, read_json, read_table
from tunit.files.result_names import REPORT
from tunit.methods.feature_cue import CUE_HASH, hash_of_cue
from tunit.methods.model_file import DOMAIN_NAMES, TENSORS
from tunit.training.resources import machine_and_versions

LARGEST_ABOUT = 1 << 22  # bytes of run.json; the command in it may be long
CHOSEN = "chosen_from_pictures"  # in run.json: the names of the settings that tunit chose from the pictures

# Not part of the run: the lock file, the folder in which a replacement is prepared, and what the studio keeps there.
LOCK, NEW = ".lock", ".new"
HIDDEN = {LOCK, NEW, STUDIO}
# Everything else that is written into a run without being asked for another place: by a training, by `tunit report`,
# and, in a folder of its own, by evaluations (these also write files of features, EVALUATION/*.safetensors).
WRITTEN = (OF_A_RUN - HIDDEN) | {REPORT}
BEST = "best"  # a folder with a model that `tunit translate` and other commands accept like a run
EVALUATION, EVALUATED = "evaluation", {"evaluation.json", "features", "held", "train"}


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """Every setting of the run, with the values that were chosen when it began."""
        return self.path / "config.toml"

    @property
    def about(self) -> Path:
        """Versions, seed, source, machine."""
        return self.path / "run.json"

    @property
    def pictures(self) -> Path:
        """The index of the pictures used."""
        return self.path / "pictures.csv"

    @property
    def data(self) -> Path:
        """The packed pictures."""
        return self.path / "data"

    @property
    def metrics(self) -> Path:
        """Losses, speed, figures and alarms: a line for each step at which they were logged."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Sample grids."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints."""
        return self.path / "checkpoints"

    def exists(self) -> bool:
        """Whether something is there already."""
        if not self.path.is_dir():
            return self.path.exists()
        return any(path.name not in HIDDEN for path in self.path.iterdir())

    def read_about(self) -> dict[str, Any]:
        """The content of run.json. Raises RunError where it cannot be read."""
        try:
            about = Record(read_json(self.about, LARGEST_ABOUT), self.about.name)
            if about.values.get("source") is not None:
                about.text("source")
            if about.values.get(CUE_HASH) is not None:
                about.text(CUE_HASH)
            if about.values.get("pictures") is not None:
                about.whole("pictures")
            if about.values.get("start_from") is not None:
                about.record("start_from").texts("anew")
            if about.values.get(CHOSEN) is not None:
                about.texts(CHOSEN)
        except UnreadableError as error:
            raise RunError(
                f"{self.path} is not the folder of a run (no readable {self.about.name}: {error})"
            ) from None
        return about.values

    def source(self) -> str:
        """The pictures that the run was begun with: a path or a URL. Raises RunError, also if run.json has none."""
        source = self.read_about().get("source")
        if source is None:
            raise RunError(
                f'{self.about} does not say where the pictures of the run are: set "source" in it to their folder'
            )
        return str(source)

    def began_with_domains(self) -> bool:
        """Whether the run began with the domains of another one (--from). Raises RunError."""
        start_from = self.read_about().get("start_from")
        return start_from is not None and "guide.domain_head.weight" not in start_from["anew"]

    def read_config(self) -> Config:
        """The config of the run, with the values that were chosen when it began."""
        if not is_file(self.config):
            raise RunError(f"{self.path} is not the folder of a run (it has no {self.config.name})")
        return read_run_config(self.config)


def given_run(path: str | Path) -> Path:
    """The folder of a run, as a user has given it. Raises RunError if it is a file, such as the run's model."""
    folder = expand_home(path)
    if is_file(folder):
        around = folder.parents[:2]  # a checkpoint lies in a folder of the run's folder
        signs = (TENSORS, RunFolder(folder).config.name)
        holders = [above for above in around if any(is_file(above / name) for name in signs)]
        raise RunError(
            f"{folder} is a file: give the folder of the run, such as {(*holders, folder.parent)[0]}"
        )
    return folder


def begin_run(
    run: RunFolder,
    config: Config,
    source: Path | str,
    pictures: PackedPictures,
    device: torch.device,
    notes: dict[str, object] | None = None,
) -> None:
    """Write what is known before the first step: config, versions and machine, index of the pictures.

    notes: more for run.json: `CHOSEN`; "start_from", from which run the networks come, as `write_beginning` says.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    write_run_config(run.config, config)
    about = machine_and_versions(device) | {
        "seed": config.run.seed,
        "source": absolute(source),
        "pictures": len(pictures.names),
        "left_out": len(pictures.left_out),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
    }
    about |= hash_of_cue(config)
    about |= ({"job": job()} if job() else {}) | (notes or {})
    write_text(run.about, json.dumps(about, indent=2) + "\n")
    write_picture_index(run.pictures, pictures)


def with_resume(about: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The content of run.json after a resume: a new entry `resumed` if machine or versions are not those before."""
    now = machine_and_versions(device)
    before = about.get("resumed", about)
    if isinstance(before, dict) and all(before.get(name) == value for name, value in now.items()):
        return about
    return about | {"resumed": now | {"began": datetime.now(UTC).isoformat(timespec="seconds")}}


def write_picture_index(path: Path, pictures: PackedPictures) -> None:
    """pictures.csv: every picture used, in the order of the pack, with its label and content hash."""
    rows: list[Sequence[str]] = [("picture", "label", "hash")]
    for name, label, pixel_hash in zip(pictures.names, pictures.labels, pictures.hashes, strict=True):
        rows.append((name, pictures.classes[label] if label >= 0 else "", pixel_hash))
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_text(path, text.getvalue())


def read_picture_index(path: Path) -> list[tuple[str, ...]]:
    """(picture, label, hash) of every picture used. Raises UnreadableError."""
    return read_table(path, ("picture", "label", "hash"), LARGEST_TABLE)


def label_names(folder: Path) -> list[str]:
    """The labels that a run was trained with, in the order of their domains; empty if it was trained without.

    A model folder keeps them in domains.json.
    """
    try:
        return sorted({label for _, label, _ in read_picture_index(RunFolder(folder).pictures)} - {""})
    except UnreadableError:
        pass
    try:
        return Record(read_json(folder / DOMAIN_NAMES, LARGEST_ABOUT)).texts("labels")
    except UnreadableError:
        return []


def check_same_folder(run: RunFolder) -> None:
    """Raises RunError, on every rank, if one of them does not find the run that rank 0 has prepared."""
    try:
        own = zlib.crc32(run.about.read_bytes() + run.config.read_bytes())
    except OSError:
        own = 0
    if largest_of_ranks(int(own != broadcast_from_rank_zero(own))):
        raise RunError(
            f"{run.path} is not the same folder for all processes: put it on a file system that all machines share"
        )


def check_same_step(run: RunFolder, step: int) -> None:
    """Raises RunError, on every rank, if one of them has read a checkpoint of another step than rank 0."""
    if largest_of_ranks(int(step != broadcast_from_rank_zero(step))):
        raise RunError(
            f"the processes read different checkpoints in {run.checkpoints} (this one that of step {step}): resume "
            "the run when its folder is the same for all machines, or remove the newest checkpoint if it is damaged"
        )


def check_same_pictures(run: RunFolder, pictures: PackedPictures) -> None:
    """Raises RunError if the pictures or their labels are not those with which the run began."""
    try:
        before = read_picture_index(run.pictures)
    except UnreadableError as error:
        raise RunError(f"{run.pictures} is damaged ({error}): restore it, or train a new run") from None
    labels = [pictures.classes[label] if label >= 0 else "" for label in pictures.labels]
    now = list(zip(pictures.names, labels, pictures.hashes, strict=True))
    if before == now:
        return
    parts, remedies = _differences(before, now, {item.name: item.reason for item in pictures.left_out})
    raise RunError(
        f"the pictures are not those that {run.path} was started with ({'; '.join(parts)}): "
        f"{' and '.join(remedies)}, or train a new run"
    )


def _differences(
    before: Sequence[tuple[str, ...]], now: Sequence[tuple[str, ...]], left_out: dict[str, str]
) -> tuple[list[str], list[str]]:
    """How pictures (name, label, hash) differ from those before: what to say of the first of each kind, and remedies.

    left_out: the reasons for which pictures of the source are not used now, by name.
    """
    old, new = ({name: (label, pixel_hash) for name, label, pixel_hash in rows} for rows in (before, now))
    unusable = {name for name in left_out if name in old and left_out[name] != DUPLICATE}
    both = [name for name in old if name in new]
    pixels = {pixel_hash for _, pixel_hash in new.values()}
    # A picture left out as a duplicate has changed if no picture has its earlier pixels: its file was overwritten.
    gone = {
        n for n, reason in left_out.items() if reason == DUPLICATE and n in old and old[n][1] not in pixels
    }
    changed = [n for n in old if (old[n][1] != new[n][1] if n in new else n in gone)]
    kinds = (
        ([n for n in old if n not in new and n not in left_out], "is missing", "are missing", "put {} back"),
        ([n for n in new if n not in old], "is new", "are new", "take {} out"),
        (changed, "has changed", "have changed", "restore {}"),
        (sorted(unusable), "cannot be used any more", "cannot be used any more", "restore {}"),
        (
            [n for n in both if old[n][0] != new[n][0]],
            "has another label",
            "have other labels",
            "restore the labels",
        ),
    )
    parts, remedies = [], []
    for names, one, several, remedy in kinds:
        if names:
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            parts.append(f"{names[0]}{more} {several if more else one}")
            remedies.append((remedy, "them" if more else "it"))
    if len(remedies) == 1:
        return parts, [remedies[0][0].format(remedies[0][1])]
    return parts or ["other copies of some are used"], ["restore them"]

"""Opens the labels of a run of the library."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunit.data.finding.find import find_pictures
from tunit.data.finding.found import DiskFile
from tunit.data.finding.naming import INDEX
from tunit.errors import ConfigError, TunitError
from tunit.studio.actions import Action
from tunit.studio.first_names import names_of_labels
from tunit.studio.labels import ModelOutput, RunLabels
from tunit.studio.library import Library
from tunit.studio.lru_cache import LRUCache, stamp_of
from tunit.studio.output_thread import Known
from tunit.studio.workspace import Run
from tunit.training.run_folder import label_names

_LABELS: LRUCache[RunLabels] = LRUCache(8)


def labels_of(run: Run, library: Library, known: Known) -> RunLabels:
    """The labels of a run, which need E's output for all of its pictures."""

    def make() -> RunLabels:
        """Open the labels."""
        packed, output = library.pictures(run), known.output
        seen_rows = set(output.rows.tolist())
        by_model = ModelOutput(
            [packed.names[row] for row in output.rows],
            output.domains.tolist(),
            output.confidences.tolist(),
            known.domains,
            known.step,
            [name for row, name in enumerate(packed.names) if row not in seen_rows],
            known.checksum,
            names_of_labels(label_names(run.path)),
        )
        return RunLabels(run.path, by_model, lambda: _files_of(run))

    return _LABELS.get((run.path, known.stamp, stamp_of(run.folder.data / INDEX)), make)


def ready_labels(run: Run, library: Library) -> RunLabels:
    """The labels of a run. Raises ConfigError if E has not looked at all pictures yet."""
    return labels_of(run, library, _known_of(run, library))


def _known_of(run: Run, library: Library) -> Known:
    known = library.output(run).known
    if known is None:
        raise ConfigError("the model is still working on the pictures: wait a little")
    return known


def _files_of(run: Run) -> dict[str, Path]:
    """The files of a run's pictures, for all pictures that are files of their own and still exist."""
    try:
        source = Path(run.folder.source())
        found = find_pictures(source, picture_column=run.folder.read_config().data.picture_column).pictures
    except TunitError:
        return {}
    return {
        picture.name: picture.content.path.absolute()
        for picture in found
        if isinstance(picture.content, DiskFile)
    }


def with_part(action: Action, labels: RunLabels, library: Library, run: Run) -> Action:
    """Add to a split the pictures that become the new domain, found by the current model's style codes."""
    now = labels.state()
    members = (
        now.assignment.members().get(action.get("domain", -1)) if type(action.get("domain")) is int else None
    )
    if members is None:
        return action | {"part": [0]}  # `checked` refuses it because of its domain
    part = split_in_two(_known_of(run, library).output.styles[members].numpy())
    return action | {"part": [members[i] for i in part]}


def split_in_two(styles: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which rows of style codes (n, width) form the smaller one of two groups (k-means).

    Raises ConfigError if there are no two different codes.
    """
    from tunit.clustering.partition import k_means

    if len(styles) < 2 or not np.ptp(styles, axis=0).any():
        raise ConfigError("a domain of one picture, or of equal ones, cannot be split: choose another")
    groups = k_means(styles, 2, seed=0).labels_
    return np.flatnonzero(groups == int(2 * groups.sum() <= len(groups))).astype(np.int64)

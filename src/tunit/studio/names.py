"""The names of a run's domains."""

import logging

from tunit.destination import STUDIO
from tunit.errors import TunitError
from tunit.methods.model_file import ABOUT, TENSORS
from tunit.networks.tensor_file import written_checksum
from tunit.printing import printable
from tunit.reading import Record, read_json
from tunit.studio.action_log import ActionLog
from tunit.studio.actions import assignment_after
from tunit.studio.labels import JOURNAL
from tunit.studio.workspace import Run
from tunit.training.run_folder import label_names

LOG = logging.getLogger("tunit.studio")


def domain_names(run: Run) -> dict[int, str]:
    """Number of a domain -> its name: the names given in Teach or, if there are none, the labels of the training.

    Labels may be names of folders, with any character; those that cannot be shown, or sent to a page, are escaped.
    """
    names = {k: printable(label) for k, label in enumerate(label_names(run.path))}
    return names | {k: name for k, name in _taught(run).items() if name}


def _taught(run: Run) -> dict[int, str]:
    """The names given in Teach, if they belong to the domains of the current model."""
    path = run.path / STUDIO / JOURNAL
    if not path.is_file():
        return {}
    try:
        begin, *actions = ActionLog(path).refresh() or [{}]
        about = Record(begin)
        if not begin or about.whole("step") != Record(read_json(run.path / ABOUT)).whole("step"):
            return {}
        if about.values.get("model") and begin["model"] != written_checksum(run.path / TENSORS):
            return {}  # another model of the same step, as of a training with --overwrite
        domains = about.whole("domains", 1)
        assignment = assignment_after(about.wholes("found", 0, domains - 1), domains, actions)
    except (TunitError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        LOG.warning("the names of %s's domains cannot be read: %s", run.name, error)
        return {}
    return {k: name for k, name in assignment.names.items() if k < domains}

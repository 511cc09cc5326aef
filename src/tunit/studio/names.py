"""The names of a run's domains."""

import logging

from tunit.errors import TunitError
from tunit.files.destination import STUDIO
from tunit.files.reading import Record, read_json
from tunit.methods.model_file import ABOUT, TENSORS
from tunit.networks.tensor_file import written_checksum
from tunit.studio.action_log import ActionLog
from tunit.studio.actions import assignment_after
from tunit.studio.first_names import names_of_labels, noted_names
from tunit.studio.labels import JOURNAL
from tunit.studio.workspace import Run
from tunit.training.run_folder import label_names

LOG = logging.getLogger("tunit.studio")


def domain_names(run: Run) -> dict[int, str]:
    """Number of a domain -> its name: that of Teach or, if Teach has no such domain, the label of the training.

    A domain may be missing in Teach because nobody has taught the run, or because it was merged into another one.
    """
    names = dict(enumerate(names_of_labels(label_names(run.path)))) | _taught(run)
    return {k: name for k, name in names.items() if name}


def _taught(run: Run) -> dict[int, str]:
    """The names in Teach, if they belong to the domains of the current model; "" if a name was removed there.

    If a journal began without the labels of the training, a domain without a name in it keeps its label.
    """
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
        found, first_names = about.wholes("found", 0, domains - 1), noted_names(about, domains)
        assignment = assignment_after(found, domains, actions, first_names)
    except (TunitError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        LOG.warning("the names of %s's domains cannot be read: %s", run.name, error)
        return {}
    return {k: name for k, name in assignment.names.items() if k < domains and (name or first_names)}

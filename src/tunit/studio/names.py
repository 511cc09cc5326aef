"""What people call the domains of a run."""

from tunit.studio.workspace import Run
from tunit.training.run_folder import label_names


def domain_names(run: Run) -> dict[int, str]:
    """Names by the numbers of the domains: the labels that the run was trained with, where it had any."""
    return dict(enumerate(label_names(run.path)))

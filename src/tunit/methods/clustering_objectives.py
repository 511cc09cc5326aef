"""What E may maximise to learn domains, by name: any differentiable clustering can replace equation 1.

tunit's own objectives are listed here. The module of another one calls `register`; tunit finds that module as it
finds those of methods (docs/methods.md, "A clustering of your own").
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tunit.config import Config
from tunit.config.clustering import CLUSTERING_OBJECTIVES, add_clustering_objective
from tunit.config.methods import load_installed_methods
from tunit.methods import losses
from tunit.methods.swapped_assignments import swapped_assignments

# (logits, logits_plus, weight, balance) -> a scalar that E maximises. logits, logits_plus: (B, K), E's logits of the
# two views of every picture of the batch, those of other processes included; K is the number of outputs of a head (of
# the domain head, a candidate head or the overclustering head). weight: (B,), 1 for pictures without a label, 0 for
# the others, which must not count; at least one is 1. balance: the setting `marginal_balance`.
Value = Callable[[Tensor, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class ClusteringObjective:
    """An objective: its name, a pure function, and the settings that it does not read (they are warned about)."""

    name: str
    value: Value
    unused_settings: tuple[str, ...] = ()


def mutual_information(logits: Tensor, logits_plus: Tensor, weight: Tensor, balance: float) -> Tensor:
    """Equation 1 of the paper, in nats. logits, logits_plus: (B, K); weight: (B,), of each picture; balance: as in
    losses.mutual_information.
    """
    return losses.mutual_information(logits.softmax(1), logits_plus.softmax(1), weight, balance)


MUTUAL_INFORMATION = ClusteringObjective("mutual-information", mutual_information)
SWAPPED_ASSIGNMENTS = ClusteringObjective(
    "swapped-assignments", swapped_assignments, CLUSTERING_OBJECTIVES["swapped-assignments"]
)
_objectives = {objective.name: objective for objective in (MUTUAL_INFORMATION, SWAPPED_ASSIGNMENTS)}


def register(objective: ClusteringObjective) -> ClusteringObjective:
    """Register an objective: from now on `--clustering-objective NAME` accepts its name. Returns the objective.

    Raises ConfigError if its name is taken.
    """
    add_clustering_objective(objective.name, objective.unused_settings)
    _objectives[objective.name] = objective
    return objective


def unregister(name: str) -> None:
    """Forget a registered objective, for tests and notebooks that define it again."""
    del CLUSTERING_OBJECTIVES[name], _objectives[name]


def objective_of(config: Config) -> ClusteringObjective:
    """The objective that a config names."""
    return _objectives[config.clustering.clustering_objective]


def clustering_objectives() -> list[ClusteringObjective]:
    """All known objectives."""
    load_installed_methods()
    return list(_objectives.values())

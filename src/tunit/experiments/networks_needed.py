"""The feature networks of a table, loaded once before any training: a mistyped name must not cost the trainings."""

from collections.abc import Sequence

from tunit.errors import ConfigError
from tunit.experiments.experiment import FEATURES, Experiment, Table
from tunit.experiments.plan import Plan
from tunit.features.feature_networks import load_feature_network
from tunit.files.download import UnreachableError


def check_cluster_features(table: Table, plan: Plan, rows: Sequence[Experiment]) -> None:
    """Raises ConfigError if the plan names a network for k-means, but none of the rows of its table needs one."""
    if not plan.cluster_features or any(row.labels == FEATURES for row in rows):
        return
    able = [row.name for row in table.rows if row.labels == FEATURES]
    remedy = f"leave it out, or take row {' or '.join(able)}, too" if able else "leave it out"
    raise ConfigError(
        f"--cluster-features {plan.cluster_features} has no effect, because no chosen row of {table.name} uses "
        f"k-means on features: {remedy}"
    )


def check_networks(plan: Plan, rows: Sequence[Experiment]) -> None:
    """Load the feature networks with which these rows, which are not finished, are labelled and measured.

    Raises ConfigError for a network that cannot be loaded. If only --features cannot be downloaded, rows without
    translations can be measured all the same.
    """
    clustered = {plan.features_for_k_means for row in rows if row.labels == FEATURES}
    needed = clustered | {plan.features for row in rows if row.translates}
    for name in sorted(clustered | ({plan.features} if rows else set())):
        try:
            load_feature_network(name, preprocessing=plan.preprocessing, trust=plan.trust_features)
        except UnreachableError:
            if name in needed:
                raise

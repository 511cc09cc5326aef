"""Settings that a user gives although nothing reads them, so that the run is not the experiment that was meant."""

from collections.abc import Collection

from tunit.config import AUTO, Config, find_field
from tunit.config.fields import word_of
from tunit.config.methods import method_sections
from tunit.methods.clustering_objectives import objective_of
from tunit.methods.findings import groups_pictures, keeps_domains, learns_only_styles
from tunit.methods.registry import method_of
from tunit.printing import shown

# A setting has an effect only if none of these other settings is 0 (or false).
NEEDS = {
    "overclusters": ("overcluster_weight",),
    "overcluster_weight": ("overclusters",),
    "style_size": ("normalise_style",),
    "guide_only_batch_size": ("guide_only_until",),
    "guide_only_rate": ("guide_only_until",),
    "guide_warm_up": ("guide_only_rate", "guide_only_until"),
    "domains_from": ("guide_style_weight", "guide_only_until"),
    "found_domains_weight": ("guide_only_until",),
    "neighbours": ("guide_only_until",),
    "neighbours_from": ("neighbours", "guide_only_until"),
    "neighbours_every": ("neighbours", "guide_only_until"),
    "feature_cue": ("guide_only_until",),
    "lecam_decay": ("lecam_weight",),
    "discriminator_augment_pace": ("discriminator_augment_target",),
    "random_magnitude": ("random_operations",),
    "cuda_graphs": ("compile",),
    "both_views": ("guide_only_until",),  # in joint steps G redraws x, so x is only flipped
}
# They act only where E learns domains by clustering, because its heads are replaced before joint steps.
FOR_LEARNT_DOMAINS = (
    *("clustering_objective", "mutual_information_weight", "marginal_balance", "candidate_heads", "head_std"),
    *("overclusters", "overcluster_weight"),
)
FOR_LABELLED = ("classification_weight", "labelled_guide_factor")  # they act only on pictures with a label
# They act only on pictures without one.
FOR_UNLABELLED = (
    *("clustering_objective", "mutual_information_weight", "marginal_balance", "domains_from"),
    *("candidate_heads", "overclusters", "overcluster_weight", "joint_guide_factor"),
    *("neighbours", "neighbours_from", "neighbours_every", "feature_cue"),
)


def idle_settings(config: Config, given: Collection[str], *, all_labelled: bool = False) -> list[str]:
    """A sentence for each setting among the `given` ones that has no effect on this run.

    given: names of settings that the user gave. Those of a preset do not count, because a preset is made for several
    methods. Settings that have the paper's value are not named: nobody expects anything of them. all_labelled: every
    picture has a label.
    """
    found = []
    for name in given:
        value, why = _shown_value(config, name), why_idle(config, name, all_labelled=all_labelled)
        if why and value != find_field(name)[1].default:
            text = shown(value) if isinstance(value, str) else shown(value).lower()
            flag = f"--{name.replace('_', '-')} {text}"
            found.append(f"{flag} has no effect: {why}: leave it out, or change that")
    return sorted(found)


def why_idle(config: Config, name: str, *, all_labelled: bool = False) -> str:
    """Why a setting has no effect; an empty text if it has one. all_labelled: every picture has a label."""
    method = method_of(config)
    section = find_field(name)[0]
    of_others = section in method_sections() and section not in method.settings
    if of_others or name in method.unused_settings:
        return f"method is {method.name}, which does not use it"
    objective = objective_of(config)
    if name in objective.unused_settings:
        return f"clustering_objective is {objective.name}, which does not use it"
    if all_labelled and name in (*FOR_UNLABELLED, *method.settings_for_unlabelled):
        return "every picture has a label, and it acts only on pictures without one"
    if name == "clustering_objective" and not _learns_by_clustering(config):
        return "mutual_information_weight is 0, and no overclustering head has a weight"
    if name == "most_domains" and config.networks.domains != AUTO:
        return f"domains is {config.networks.domains}, and only with auto is their number found"
    if name == "most_domains" and all_labelled:
        return "every picture has a label, and the labels give the number of domains"
    if name == "feature_cue" and not groups_pictures(config):
        return f"neighbours is 0 and domains is {config.networks.domains}, and it only helps to find these"
    if name in FOR_LEARNT_DOMAINS and learns_only_styles(config) and keeps_domains(config):
        share, weight = (_shown_value(config, each) for each in ("domains_from", "found_domains_weight"))
        return (
            f"without labels E learns only styles while it trains alone (domains_from is {share}), and then keeps "
            f"the domains that are found (found_domains_weight is {weight})"
        )
    if name == "found_domains_weight" and config.data.labels != "none":
        return f"labels is {config.data.labels}, and E only keeps domains that it found without labels"
    if name in FOR_LABELLED and config.data.labels == "none":
        return "labels is none, and it acts only on labelled pictures"
    off = next((each for each in NEEDS.get(name, ()) if not _shown_value(config, each)), None)
    return "" if off is None else f"{off} is {str(_shown_value(config, off)).lower()}"


def _learns_by_clustering(config: Config) -> bool:
    """Whether a clustering objective of the domain heads or of the overclustering head has a weight in E's loss."""
    weights = config.losses
    return bool(
        weights.mutual_information_weight or (weights.overcluster_weight and config.networks.overclusters)
    )


def _shown_value(config: Config, name: str) -> object:
    """The value of a setting, or the word that stands for it."""
    return word_of(find_field(name)[1], config.value(name))

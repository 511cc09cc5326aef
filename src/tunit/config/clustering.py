"""Settings of how E learns domains, and the clustering objectives that a config may name: tunit's own, and installed
ones.
"""

from dataclasses import dataclass

from tunit.config.fields import FROM_PICTURES_WORDS, setting
from tunit.config.methods import check_known
from tunit.errors import ConfigError

# Every clustering objective by name, with the settings that it does not read. The objectives themselves are in
# tunit.methods.clustering_objectives; their names are here, because `tunit train --help` must not wait for the import
# of torch.
CLUSTERING_OBJECTIVES: dict[str, tuple[str, ...]] = {
    "mutual-information": (),
    "swapped-assignments": ("marginal_balance",),
}


@dataclass(frozen=True)
class ClusteringConfig:
    """What E maximises to learn domains, and settings beyond the paper that help it, while it trains alone, to find
    domains of photographs (docs/domains.md).
    """

    clustering_objective: str = setting(
        "mutual-information",
        "what E maximises on pictures without a label, to learn domains: the mutual information of equation 1, or "
        "SwAV's swapped prediction of balanced assignments; other packages can add more (docs/methods.md)",
        choices=CLUSTERING_OBJECTIVES,
    )
    domains_from: float = setting(
        0.0,
        "share (0 to 1) of the steps of E alone in which it learns only styles; after that it also learns domains; "
        "auto: 1 without labels, because domains are then found by clustering E's codes; 0.5 if some pictures have "
        "labels",
        low=0,
        high=1,
        words=FROM_PICTURES_WORDS,
    )
    neighbours: int = setting(
        0,
        "while E trains alone, x+ is a view of one of this many nearest neighbours of x, if x has no label; 0: x+ is "
        "always a view of x itself",
        low=0,
        high=1000,
    )
    neighbours_from: float = setting(
        0.1,
        "when E's neighbours are first looked for, as a share (0 to 1) of the steps of E alone; 1: before the "
        "last step of E alone; auto: chosen from the pictures, 0 if other cues than colours clearly tell kinds "
        "apart, 0.5 otherwise (docs/domains.md)",
        low=0,
        high=1,
        words=FROM_PICTURES_WORDS,
    )
    neighbours_every: int = setting(
        0, "steps between searches for neighbours; 0: a single search", low=0, high=10**12
    )
    feature_cue: str = setting(
        "",
        "a feature network that helps E to find neighbours and domains, as colours, shapes, outlines and textures "
        "do: random-vgg16, inception, dinov2, or the path of MoCo v2's checkpoint; with a network that was trained "
        "with labels the training is no longer truly unsupervised",
    )


def check_clustering_objective(name: object, file: str) -> None:
    """Raises ConfigError if `name`, the clustering objective that a file names, is that of no package here."""
    check_known(name, CLUSTERING_OBJECTIVES, file, setting="clustering_objective", kind="objective")


def add_clustering_objective(name: str, unused_settings: tuple[str, ...]) -> None:
    """Let configs name a clustering objective, which does not read some settings. Raises ConfigError if its name is
    taken.
    """
    if name in CLUSTERING_OBJECTIVES:
        raise ConfigError(f"the name {name!r} is taken already: give the clustering objective another")
    CLUSTERING_OBJECTIVES[name] = unused_settings

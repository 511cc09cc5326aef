"""The cue "features": what a feature network sees in each picture, if the user names one (`feature_cue`).

The other cues need no training. Most feature networks were trained on other pictures, so the setting is off unless
the user asks for it. The network only has a say in which pictures are neighbours and in the division into domains: it
never trains, no gradient comes from it, and a trained model does not need it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tunit.clustering.cues import Integers, Pictures, Vectors
from tunit.config import Config
from tunit.config.fields import suggestion
from tunit.data.packing.packed import PackedPictures
from tunit.errors import ConfigError
from tunit.features.feature_networks import (
    HASH_SHOWN,
    NAMES,
    FeatureNetwork,
    UntrustedNetworkError,
    load_feature_network,
)
from tunit.features.of_pictures import BATCH, features_of
from tunit.files.download import sha256_of
from tunit.files.paths import absolute, expand_home
from tunit.files.pickles import ZIP
from tunit.methods.findings import findings_of, groups_pictures
from tunit.methods.inference import pictures_at_a_time
from tunit.methods.state import TrainingState
from tunit.printing import shown

FEATURES = "features"  # the name of the cue, as "colours" is that of another one
FLAG = "--feature-cue"
CUE_HASH = "feature_cue_sha256"  # in run.json: the SHA-256 of the network's file, if it is one
_KNOWN = f"take {', '.join(NAMES)}, or the path of MoCo v2's checkpoint (.pth.tar)"


def uses_features(config: Config) -> bool:
    """Whether a network is named, and cues are used at all: to find E's neighbours, or its domains."""
    named = bool(config.clustering.feature_cue)
    return named and groups_pictures(config) and config.schedule.guide_only_until > 0


def checked_feature_cue(
    config: Config,
    begun: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Config:
    """The config, after its feature network has been loaded once. If it is a file, its path is made absolute, so that
    the run can be resumed in another working folder.

    begun: for a run that resumes, what it noted when it began (`hash_of_cue`). say: is told before the network is
    loaded, perhaps from the internet.
    Raises ConfigError if the network is not known, or its file is missing, damaged, or a program; also if a run that
    resumes began with another file.
    """
    if not uses_features(config):
        return config
    name = config.clustering.feature_cue
    if begun is not None and name not in NAMES:
        _check_same_file(name, begun.get(CUE_HASH))
    say(f"loading the feature network {shown(name)}")
    load_network(name, torch.device("cpu"))
    return config if name in NAMES else config.with_overrides({"feature_cue": absolute(expand_home(name))})


def hash_of_cue(config: Config) -> dict[str, str]:
    """What a new run notes of its feature network in run.json: the SHA-256 of its file; nothing without a file."""
    name = config.clustering.feature_cue
    if not uses_features(config) or name in NAMES or not expand_home(name).is_file():
        return {}
    return {CUE_HASH: sha256_of(expand_home(name))}


def _check_same_file(name: str, recorded: str | None) -> None:
    """Raises ConfigError if the file of a run's network is missing, or not as when the run began.

    recorded: its SHA-256; None for a run of a version that did not note it.
    """
    if not expand_home(name).is_file():
        raise ConfigError(
            f"feature_cue is {shown(name)}, the file of the feature network with which this run began, but there is "
            "no such file now: put the file back at this path, or train a new run"
        )
    if recorded is not None and sha256_of(expand_home(name)) != recorded:
        raise ConfigError(
            f"feature_cue is {shown(name)}, but this file has changed since the run began, when its SHA-256 began "
            f"with {recorded[:HASH_SHOWN]}: put that file back at this path, or train a new run"
        )


def load_network(name: str, device: torch.device) -> FeatureNetwork:
    """The network of the setting `feature_cue`; raises ConfigError as `checked_feature_cue` does.

    TorchScript and .pt2 files, which can do anything on this machine, are refused, because a run would load them
    again whenever it is resumed, also by somebody else.
    """
    if name not in (*NAMES, "moco-v2") and not expand_home(name).is_file():
        raise ConfigError(
            f"feature_cue is {shown(name)}, which is neither a known feature network nor a file: {_KNOWN}"
            + suggestion(name, NAMES)
        )
    try:
        # The weights that a file's replace must not advance the global random numbers.
        with torch.random.fork_rng(devices=[]):
            return load_feature_network(name, device=device, flag=FLAG)
    except UntrustedNetworkError:
        why = "which is not a feature network"
        if _is_archive(expand_home(name)):
            why = "a program that can do anything on this machine whenever the run is resumed"
        raise ConfigError(f"feature_cue is {shown(name)}, {why}: {_KNOWN}") from None


def _is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, as TorchScript and .pt2 files are."""
    with path.open("rb") as file:
        return file.read(len(ZIP)) == ZIP


def features_cue(images: Pictures, name: str, device: torch.device, rows: Integers | None = None) -> Tensor:
    """The cue "features" of pictures (N, S, S, 3): the network's features, scaled to length 1, then `reduced`.

    As in the search for nearest neighbours by self-supervised features, the angle between two features counts, not
    their length, which depends on contrast. rows: indices of the pictures to use; None for all. Returns (N, at most
    64) float32 on the CPU. Only a batch of pictures is on the device at a time. Of a large set the full features are
    held only for the pictures to which the principal components are fitted; the network sees these twice.
    Raises DataError for features that are not finite, ConfigError as `checked_feature_cue` does.
    """
    from tunit.clustering.measures import each_reduced  # imports scikit-learn, which takes long

    return each_reduced({FEATURES: _vectors_by(load_network(name, device))}, images, rows)[FEATURES]


def _vectors_by(network: FeatureNetwork) -> Callable[[Pictures], Vectors]:
    def vectors(images: Pictures) -> Vectors:
        """(N, width), each of length 1, of pictures (N, S, S, 3)."""
        most = pictures_at_a_time(BATCH, images.shape[1])
        parts = [features_of(images[i : i + most], network) for i in range(0, len(images), most)]
        found: Vectors = F.normalize(torch.cat(parts), dim=1).numpy()
        return found

    return vectors


def all_cues(
    state: TrainingState, pictures: PackedPictures, config: Config, rows: Integers | None = None
) -> dict[str, Tensor]:
    """Every cue by name, `reduced`: (N, at most 64) float32, on the CPU; with "features" if the user named a network.

    rows: indices of the pictures to use; None for all. If neighbours are searched, the features of `rows` are those
    of the search, because a deep network takes much longer than the other cues. A resumed run may have to compute
    them again, with the same result.
    """
    from tunit.clustering.measures import reduced_cues

    cues = reduced_cues(pictures.images, rows)
    if not uses_features(config):
        return cues
    findings, name, device = findings_of(state), config.clustering.feature_cue, state.queue.device
    if findings is None or findings.table is None:
        return cues | {FEATURES: features_cue(pictures.images, name, device, rows)}
    of_all = findings.cues.get(FEATURES)
    if of_all is None:
        of_all = features_cue(pictures.images, name, device)
    return cues | {FEATURES: of_all if rows is None else of_all[torch.from_numpy(np.asarray(rows))]}


def announced_features(state: TrainingState, config: Config, *, searches: bool, divides: bool) -> str:
    """A sentence for the user, if features must still be computed; else an empty one.

    searches: neighbours are searched before the next step; divides: the domains are decided after it.
    """
    findings = findings_of(state)
    known = findings is not None and FEATURES in findings.cues
    if known or not uses_features(config) or not (searches or divides):
        return ""
    when = "now" if searches else "after this step"
    name = shown(config.clustering.feature_cue)
    return f"{when} the network {name} looks at the pictures ({FLAG}), which takes a while on a CPU"

"""Features of many pictures, computed in batches, and cached by the content of the pictures."""

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from tunit.clustering.cues import Pictures
from tunit.errors import DataError, RunError
from tunit.features.feature_networks import FeatureNetwork
from tunit.networks.tensor_file import read_tensors, write_tensors

BATCH = 64
PROBED = 2  # pictures whose features are computed again, before kept features are used


def features_of(
    pictures: Pictures,
    network: FeatureNetwork,
    *,
    cache: Path | None = None,
) -> Tensor:
    """(N, width) float32 on the CPU, of pictures (N, S, S, 3).

    cache: a folder that keeps features under a hash of the pixels and the network's name; several processes may share
    it. They are used again only if the network gives the first two pictures exactly the same features as then: it may
    have other weights now, or be on another device, which rounds otherwise.
    Raises DataError for features that are not finite.
    """
    if cache is None or not len(pictures):
        return _computed(pictures, network)
    key = content_key(pictures, network.name)
    path, probe = cache / f"{key}.safetensors", _batch(pictures, 0, PROBED, network)
    kept = _kept(path, key, probe)
    if kept is not None:
        return kept
    features = _computed(pictures, network)
    # If they cannot be kept, they are computed again next time.
    with suppress(RunError, OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {"features": features, "probe": probe}, {"network": network.name, "key": key})
    return features


def _computed(pictures: Pictures, network: FeatureNetwork) -> Tensor:
    """As `features_of`, without a cache."""
    parts = [_batch(pictures, i, BATCH, network) for i in range(0, len(pictures), BATCH)]
    features = torch.cat(parts) if parts else torch.zeros(0, 0)
    check_finite(features, network.name)
    return features


def _batch(pictures: Pictures, first: int, number: int, network: FeatureNetwork) -> Tensor:
    """Features (number, width) of the pictures from `first` on, or fewer at the end, on the CPU."""
    batch = torch.from_numpy(np.array(pictures[first : first + number]))
    return network(batch.permute(0, 3, 1, 2).float() / 255).cpu()


def _kept(path: Path, key: str, probe: Tensor) -> Tensor | None:
    """The features that a file keeps; None if there are none, or if they are damaged, of other pictures (`key`) or of
    another network (`probe`: its features of the first pictures now).
    """
    try:
        tensors, about = read_tensors(path)
        same = about.get("key") == key and torch.equal(tensors["probe"], probe)
        return tensors["features"] if same else None
    except (RunError, KeyError):
        return None


def check_finite(features: Tensor, name: str) -> None:
    """Raises DataError if a feature is not a finite number."""
    wrong = int((~features.isfinite()).any(1).sum()) if features.numel() else 0
    if wrong:
        raise DataError(
            f"{name} gives features that are not finite for {wrong} of {len(features)} pictures: "
            "take another feature network"
        )


def content_key(pictures: Pictures, name: str) -> str:
    """A hash of the pixels, in order, and of the feature network's name."""
    digest = hashlib.blake2b(f"{name} {pictures.shape}".encode(), digest_size=20)
    for i in range(0, len(pictures), 1024):
        digest.update(np.ascontiguousarray(pictures[i : i + 1024]).data)
    return digest.hexdigest()

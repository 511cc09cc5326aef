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


def features_of(
    pictures: Pictures,
    network: FeatureNetwork,
    *,
    cache: Path | None = None,
) -> Tensor:
    """(N, width) float32 on the CPU, of pictures (N, S, S, 3).

    cache: a folder that keeps features under a hash of the pixels and the network's name.
    Raises DataError for features that are not finite.
    """
    path = cache / f"{content_key(pictures, network.name)}.safetensors" if cache else None
    if path and path.is_file():
        try:
            kept = read_tensors(path)[0]["features"]
        except (RunError, KeyError):
            kept = torch.zeros(0)  # damaged: computed again
        if len(kept) == len(pictures):
            return kept
    parts = []
    for i in range(0, len(pictures), BATCH):
        batch = torch.from_numpy(np.array(pictures[i : i + BATCH]))
        parts.append(network(batch.permute(0, 3, 1, 2).float() / 255).cpu())
    features = torch.cat(parts) if parts else torch.zeros(0, 0)
    check_finite(features, network.name)
    if path:
        # Without a cache, they are computed again next time.
        with suppress(RunError, OSError, SafetensorError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {"features": features}, {"network": network.name})
    return features


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

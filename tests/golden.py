"""Weights and inputs for the golden values, computed by formula, and the published names of the tensors."""

import functools
import json
import os
import zlib
from pathlib import Path

import numpy as np
import torch

DATA = Path(os.environ.get("TUNIT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
GOLDEN = Path(os.environ.get("TUNIT_TEST_GOLDEN", DATA.parent / "golden"))


def rng_of(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


@functools.cache
def golden_weights(letter):
    """The weights of network `letter` for the golden values."""
    return weights(letter, shapes()[letter])


def weights(letter, shapes):
    """The tensors of network `letter` (C, D or G), with the published names and shapes, in float64."""
    last = [k for k in shapes if k.endswith("weight")][-1]
    return {k: torch.from_numpy(np.asarray(value(letter, k, s, k == last))) for k, s in shapes.items()}


def value(letter, key, shape, is_last):
    z = rng_of(f"{letter}.{key}").standard_normal(shape)
    leaf = key.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_mean":
        return 0.1 * z
    if leaf == "running_var":
        return 1 + 0.2 * np.tanh(z)
    if leaf == "weight" and len(shape) == 2 and letter == "C":
        return 0.01 * z
    if letter == "D" and is_last:
        return 0.02 * z
    if leaf == "weight" and len(shape) >= 2:
        return z * np.sqrt(2 / np.prod(shape[1:]))
    return 1 + 0.1 * z if leaf in ("weight", "gamma") else 0.1 * z


def images(name, number, size):
    rng = rng_of(name)
    z = rng.standard_normal((number, 3, size // 8, size // 8)).repeat(8, 2).repeat(8, 3)
    return torch.from_numpy(np.tanh(z + 0.3 * rng.standard_normal((number, 3, size, size))))


def shapes():
    return json.loads((GOLDEN / "state_dict_64_k10.json").read_text())

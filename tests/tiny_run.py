"""A run that is small enough for tests: tiny networks, few pictures, all phases of the schedule in a few steps."""

import numpy as np
import torch
from PIL import Image

from tunit.config import read_config
from tunit.networks.tensor_file import read_tensors
from tunit.training.checkpoint import checkpoints
from tunit.training.launch import resume_run, start_run

STEPS = 12
TINY = {
    "image_size": 32,
    "domains": 3,
    "guide_width": 4,
    "generator_width": 4,
    "discriminator_width": 4,
    "style_width": 8,
    "batch_size": 4,
    "guide_only_batch_size": 6,
    "queue_length": 16,
    "steps": STEPS,
    "guide_only_until": 4,
    "average_from": 7,
    "log_every": 3,
    "sample_every": 5,
    "checkpoint_every": 5,
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
    "workers": 1,
}


def tiny_config(preset="paper", **overrides):
    return read_config(preset).with_overrides(TINY | overrides)


def train_whole_and_in_parts(source, folder, config, stop):
    """Train in one go, and again with a stop at step `stop` and a resume: both must end alike. Returns the final
    tensors.
    """
    whole, parts = folder / "whole", folder / "parts"
    start_run(source, whole, config, quiet=True)
    start_run(source, parts, config.with_overrides({"steps": stop}), quiet=True)
    resume_run(parts, overrides={"steps": str(config.schedule.steps)}, quiet=True)
    (ours, about), (theirs, about2) = (
        read_tensors(checkpoints(run / "checkpoints")[-1]) for run in (whole, parts)
    )
    assert about == about2
    assert ours.keys() == theirs.keys()
    assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []
    return ours


def write_pictures(folder, number=20, side=40, seed=0):
    """Random smooth pictures, all different."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i:03d}.png")
    return folder


def write_two_classes(root, each):
    """Pictures of two classes, `each` of them: one file is empty, and one picture is a copy of another."""
    write_pictures(root / "b", each, seed=1)
    write_pictures(root / "a", each, seed=2)
    (root / "a" / "005.png").write_bytes(b"")
    (root / "b" / "003.png").write_bytes((root / "a" / "002.png").read_bytes())
    return root


def flags(**overrides):
    """TINY as command-line flags."""
    words = []
    for name, value in (TINY | overrides).items():
        words += ["--" + name.replace("_", "-"), str(value)]
    return words

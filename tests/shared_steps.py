"""Steps on tiny networks in float64, of one process or of several that share each batch; run by spawned processes."""

import dataclasses
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from tiny_step import config_of, random_batch, random_state
from tunit.data.batches import Batches
from tunit.methods import candidates
from tunit.methods.method import Phase
from tunit.methods.tunit import tunit_step
from tunit.training.checkpoint import state_tensors
from tunit.training.initial_state import new_state
from tunit.training.memory import try_step
from tunit.training.processes import process_group

BATCH = 6
# Settings, labels, and how many pictures G and D take at a time.
CASES = {
    "no labels": ({}, (-1,) * BATCH, 0),
    "few labels, lazy R1": ({"r1_every": 2}, (-1, 2, -1, 0, -1, -1), 0),
    "all heads": (
        {"overclusters": 5, "overcluster_weight": 2.0, "candidate_heads": 2, "marginal_balance": 1.3},
        (-1,) * BATCH,
        0,
    ),
    "beyond the paper": (
        {
            "adversarial_loss": "relativistic",
            "r2_weight": 0.5,
            "lecam_weight": 0.3,
            "perceptual_weight": 1.0,
            "discriminator_augment": 0.7,
            "discriminator_augment_target": 0.5,
            "discriminator_augment_pace": 100,
        },
        (-1,) * BATCH,
        0,
    ),
    "in parts": ({"adversarial_trains": "generator"}, (-1, -1, 1, -1, 2, 0), 2),
}


def three_steps(name):
    """The state's tensors, and the losses of every step, after three steps of a case."""
    overrides, y, micro_batch = CASES[name]
    config = config_of(**overrides, micro_batch=micro_batch)
    state, losses = random_state(config), {}
    for i in range(3):
        batch, permutation = random_batch(i, list(y))
        phase = Phase(joint=i > 0, average_generator=True, penalise=i % config.losses.r1_every == 0)
        terms = tunit_step(state, batch, permutation, phase, config)
        losses |= {f"losses.{i}.{term}": value for term, value in terms.items()}
    return state_tensors(state) | losses


def chosen_head():
    """Which of E's domain heads is chosen, by pictures that the processes share."""
    config = config_of(candidate_heads=2)
    state = new_state(config, torch.device("cpu"))
    for guide in (state.networks.guide, state.networks.guide_average):
        guide.double()
        guide.domain_head.weight.data.mul_(0.1)
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    batches = Batches(images, np.full(12, -1), config.augment, seed=0, device=torch.device("cpu"))
    draw = batches.draw

    def doubled(*arguments):
        batch = draw(*arguments)
        return dataclasses.replace(batch, x=batch.x.double(), x_plus=batch.x_plus.double())

    batches.draw = doubled
    with patch.object(candidates, "JUDGED", 2 * BATCH):
        information = candidates.choose_domain_head(state, batches, BATCH)
    return {"information": information, "head": state.networks.guide.domain_head.weight.detach()}


def share_the_steps(rank, number, folder):
    """One of `number` processes: writes what it has at the end of each case."""
    torch.set_num_threads(1)
    with process_group(rank, number, Path(folder) / "rendezvous", torch.device("cpu")):
        found = {name: three_steps(name) for name in CASES} | {"chosen head": chosen_head()}
        if rank == 0:  # what one of them tries does not wait for the others
            try_step(config_of(), torch.device("cpu"), 2)
        torch.save(found, Path(folder) / f"{rank}.pt")

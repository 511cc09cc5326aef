"""Steps on tiny networks in float64, computed by one process or by several that share each batch.

A test starts processes with `share_the_steps`. torchrun runs this file directly; every rank then writes its state
after three steps of each phase: `torchrun ... shared_steps.py FOLDER`.
"""

import dataclasses
import os
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from packed_pictures import unlabelled
from spoilt import PLACES, in_a_picture
from tiny_run import tiny_config
from tiny_step import (
    SMALL_BASELINE,
    config_of,
    perturb,
    random_batch,
    random_second_views,
    random_state,
)
from tunit.config import read_config
from tunit.data.batching.batches import Batches
from tunit.distributed.collectives import rank
from tunit.distributed.process_group import process_group
from tunit.errors import StoreError, TrainingError
from tunit.features.feature_networks import FeatureNetwork
from tunit.methods import candidates, feature_cue, final_domains
from tunit.methods.findings import Findings, note_domains
from tunit.methods.method import Phase
from tunit.methods.neighbourhood import look_for_neighbours, measures_just_chosen
from tunit.methods.registry import method_of
from tunit.methods.semit import soft_labels_of
from tunit.training import trainer
from tunit.training.checkpoint import state_tensors
from tunit.training.initial_state import new_state
from tunit.training.launch import start_run
from tunit.training.memory.fitting import try_step
from tunit.training.resources import compile_parts

BATCH = 6
# Settings, labels, and the micro-batch size of G and D.
CASES = {
    "no labels": ({}, (-1,) * BATCH, 0),
    "few labels, lazy R1": ({"r1_every": 2}, (-1, 2, -1, 0, -1, -1), 0),
    "all heads": (
        {"overclusters": 5, "overcluster_weight": 2.0, "candidate_heads": 2, "marginal_balance": 1.3},
        (-1,) * BATCH,
        0,
    ),
    "another clustering": (
        {
            "clustering_objective": "swapped-assignments",
            "overclusters": 5,
            "overcluster_weight": 2.0,
            "candidate_heads": 2,
        },
        (-1, 2, -1, 0, -1, -1),
        0,
    ),
    "beyond the paper": (
        {
            "back_translation_weight": 2.0,
            "lecam_weight": 0.3,
            "discriminator_augment": 0.7,
            "discriminator_augment_target": 0.5,
            "discriminator_augment_pace": 100,
        },
        (-1,) * BATCH,
        0,
    ),
    "found domains": ({"found_domains_weight": 0.5, "guide_only_until": 1}, (-1,) * BATCH, 0),
    "in parts": (
        {"adversarial_trains": "generator", "back_translation_weight": 2.0},
        (-1, -1, 1, -1, 2, 0),
        2,
    ),
}
# The baselines' presets, the labels, and the picture numbers, one of which appears twice.
BASELINES = {
    "funit": ("table1-a", (1, 2, 0, 2, 1, 0), (0, 1, 2, 3, 4, 5)),
    "semit": ("semit", (1, -1, -1, 2, -1, 0), (0, 3, 5, 1, 3, 2)),
}
ALONE, JOINT, AVERAGING = Phase(False, False, True), Phase(True, False, True), Phase(True, True, True)


def three_steps(name, *, compiled=False):
    """The state's tensors after three steps of a case, and the losses of each step."""
    if name in BASELINES:
        return steps_of_baseline(name)
    overrides, y, micro_batch = CASES[name]
    config = config_of(**overrides, micro_batch=micro_batch)
    phases = [Phase(i > 0, True, penalise=i % config.losses.r1_every == 0) for i in range(3)]
    return steps(config, y, phases, compiled=compiled)


def three_steps_of_each_phase():
    """The same for eight pictures and nine steps: E alone; then G and D, while G's average is a copy of G; then
    everything.
    """
    return steps(config_of(), (-1, 2, -1, 0, -1, -1, 1, -1), [*[ALONE] * 3, *[JOINT] * 3, *[AVERAGING] * 3])


def steps(config, y, phases, *, compiled=False):
    state, losses = random_state(config), {}
    if compiled:
        parts = method_of(config).compiled_parts(state.networks)
        compile_parts(parts, torch.device("cpu"), backend="aot_eager")
    if config.losses.found_domains_weight:
        state.own = Findings(domains=torch.arange(len(y)) % 3)
    for i, phase in enumerate(phases):
        batch, permutation = random_batch(i, list(y))
        batch = dataclasses.replace(batch, index=(torch.arange(len(y)) * 5 + i) % len(y))
        terms = method_of(config).step(state, batch, permutation, phase, config)
        losses |= {f"losses.{i}.{term}": value for term, value in terms.items()}
    return state_tensors(state) | losses


def steps_of_baseline(name):
    """One step of each phase of a baseline; SEMIT's class encoder learns alone first."""
    preset, y, index = BASELINES[name]
    config = read_config(preset).with_overrides(SMALL_BASELINE)
    state, losses = new_state(config, torch.device("cpu"), BATCH), {}
    perturb(state, torch.float64, ("classifier.2.weight", "content_head.weight"))
    if name == "semit":
        labels = soft_labels_of(state)
        labels.logits, labels.first = labels.logits.double(), labels.first.double()
        labels.begin([torch.randn(BATCH, 3, dtype=torch.float64).softmax(1)])
    for i, phase in enumerate((ALONE, JOINT, AVERAGING)):
        batch, permutation = random_second_views(i, list(y), list(index))
        terms = method_of(config).step(state, batch, permutation, phase, config)
        losses |= {f"losses.{i}.{term}": value for term, value in terms.items()}
    return state_tensors(state) | losses


def chosen_head():
    """The domain head that is chosen with pictures that the processes share."""
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
    with patch.object(candidates, "PICTURES_COMPARED", 2 * BATCH):
        information = candidates.install_best_head(state, batches, BATCH)
    return {"information": information, "head": state.networks.guide.domain_head.weight.detach()}


def found_neighbours(number=12, **more):
    """The neighbours of pictures, and the measures of which the user is told, if every rank's E differs a little,
    as it may by rounding.
    """
    settings = {"neighbours": 3, "neighbours_from": 0.2, "guide_only_until": 10, "steps": 20}
    config = config_of(**settings | more)
    state = new_state(config, torch.device("cpu"), number)
    with torch.no_grad():
        state.networks.guide_average.style_head.weight.mul_(1 + rank() * torch.randn(16, 32))
    images = np.random.default_rng(0).integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)
    state.step = 2
    look_for_neighbours(state, unlabelled(images), config)
    return state.own.table, measures_just_chosen(state)


def neighbours_by_features():
    """The neighbours of 45 pictures, and the measures, if a feature network of rank 0 sees their kinds."""

    def kinds(x):
        return torch.nn.functional.one_hot((255 * x[:, 0, 0, 0]).round().long() % 3, 3) + 0.01 * x[:, :, 1, 1]

    def load(name, **named):
        if rank():
            raise AssertionError("only rank 0 needs the network")
        return FeatureNetwork(name, kinds, torch.device("cpu"))

    with patch.object(feature_cue, "load_feature_network", load):
        return found_neighbours(45, feature_cue="dinov2")  # of fewer, most are neighbours of most


def kept_domains():
    """The domains that E's EMA gives to 12 pictures, if every rank's E is another one."""
    config = config_of(found_domains_weight=0.5, guide_only_until=10, steps=20)
    state = new_state(config, torch.device("cpu"), 12)
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    pictures, guide = unlabelled(images), state.networks.guide_average
    features = final_domains.features_of(guide, state, pictures, np.arange(12))
    with torch.no_grad():
        weight = torch.randn(3, features.shape[1], generator=torch.Generator().manual_seed(rank()))
        guide.domain_head.weight.copy_(weight)
        guide.domain_head.bias.copy_(-weight @ features.mean(0))
    note_domains(state, pictures)
    return state.own.domains


def first_weights():
    """The networks' tensors before the first step, and after a number of domains was found, if every rank draws
    slightly different weights.
    """
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    pictures = unlabelled(images)
    config = tiny_config(domains="auto", guide_only_until=8).resolved_schedule()
    real = torch.nn.init.kaiming_normal_

    def rounded(weight, **named):
        real(weight, **named).data.mul_(1 + 1e-6 * rank())

    with patch.object(torch.nn.init, "kaiming_normal_", rounded):
        state = trainer.make_ready(config, pictures, None).state
        found = {name: value.clone() for name, value in state_tensors(state).items()}
        final_domains.find_number(state, pictures, config)
    return found | {f"found.{name}": value for name, value in state_tensors(state).items()}


SPOILT = (("picture", "stop"), ("loss", "stop"), ("picture", "rollback"), ("gradient", "rollback"))


def spoilt_runs(pictures, folder):
    """Trainings in `folder` in which the last rank gets one NaN: in each place, for each --on-nan.

    Returns for each of them what this rank has: the error message, or the state's tensors and counters.
    """
    found = {}
    for place, on_nan in SPOILT:
        run, spoil = folder / f"{place}, {on_nan}", PLACES[place][0]
        with pytest.MonkeyPatch.context() as patched:
            if rank():
                # The third picture of the batch is the first of this rank's two.
                spoil(patched, picture=0) if spoil is in_a_picture else spoil(patched)
            try:
                state = start_run(pictures, run, tiny_config(on_nan=on_nan, sample_every=0), quiet=True)
            except TrainingError as error:
                found[run.name] = str(error)
            else:
                counters = {"step": state.step, "rollbacks": state.rollbacks, "drawn": state.cursors["all"]}
                found[run.name] = {"counters": counters, "tensors": state_tensors(state)}
    return found


def unreadable_run(pictures, run):
    """A training in which only the last rank cannot read its pictures at step 8. Returns the error of this rank."""
    real = Batches.draw

    def failing(self, step, *arguments, **how):
        if rank() and step == 7:
            raise StoreError("the shard cannot be used", "check the disk")
        return real(self, step, *arguments, **how)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Batches, "draw", failing)
        try:
            start_run(pictures, run, tiny_config(sample_every=0), quiet=True)
        except TrainingError as error:
            return str(error)


def environment_of(rank, number, port):
    """The environment variables that a launcher sets for each of `number` processes on one machine."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return dict(zip(names, (*map(str, (rank, rank, number, number)), "127.0.0.1", str(port)), strict=True))


def share_the_steps(rank, number, port, folder):
    """Runs as one of `number` processes; writes its results of all cases."""
    torch.set_num_threads(1)
    os.environ.update(environment_of(rank, number, port))
    with process_group(torch.device("cpu")):
        found = {name: three_steps(name) for name in (*CASES, *BASELINES)} | {"chosen head": chosen_head()}
        found["neighbours"], found["kept domains"] = found_neighbours(), kept_domains()
        found["neighbours by features"] = neighbours_by_features()
        if number == 2:  # three processes would test nothing more
            found["compiled"] = three_steps("no labels", compiled=True)
            found["first weights"] = first_weights()
            found["spoilt"] = spoilt_runs(Path(folder) / "pictures", Path(folder) / "spoilt")
        if rank == 0:  # the other ranks must not have to take part
            try_step(config_of(), torch.device("cpu"), 2)
        if number == 2:  # last, because ranks that did not end together would be out of step from here on
            found["unreadable"] = unreadable_run(Path(folder) / "pictures", Path(folder) / "unreadable")
        torch.save(found, Path(folder) / f"{rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with process_group(torch.device("cpu")):
        torch.save(three_steps_of_each_phase(), Path(sys.argv[1]) / f"{rank()}.pt")

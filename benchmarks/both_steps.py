"""Our training step and the literal one (literal.py), ready to be timed on the same batch."""

import time
from collections.abc import Callable

import torch

from literal import LiteralStep
from tunit.config import Config
from tunit.data.batching.augment import to_float, two_views
from tunit.data.batching.batches import Batch, make_batch
from tunit.methods.method import Phase
from tunit.methods.state import TrainingState
from tunit.methods.tunit import TUNIT
from tunit.training.initial_state import new_state
from tunit.training.logs.speed import CountFlops
from tunit.training.resources import begin_step, compile_parts, prepare_machine

LAZY = 16
ALONE, JOINT, WITHOUT_R1 = Phase(False, True, False), Phase(True, True, True), Phase(True, True, False)
NARROW = {"guide_width": 8, "generator_width": 8, "discriminator_width": 8}


class Bench:
    """Both steps on one random batch, which stays the same, because only time is measured."""

    def __init__(self, config: Config) -> None:
        size, number = config.data.image_size, config.optimisers.batch_size
        self.config, self.device = config, prepare_machine(config)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (number, size, size, 3), dtype=torch.uint8, generator=generator)
        self.images = images.to(self.device)
        self.permutation = torch.randperm(number, generator=generator).to(self.device)
        self.state: TrainingState | None = None
        self.literal: LiteralStep | None = None

    def draw(self) -> Batch:
        x, x_plus = two_views(to_float(self.images), self.config.augment, torch.Generator().manual_seed(1))
        return make_batch(x, x_plus, torch.full((len(x),), -1))

    def ours(self, phase: Phase) -> None:
        if self.state is None:
            self.state = new_state(self.config, self.device)
            if self.config.run.compile and TUNIT.compiled_parts:
                parts, graphs = TUNIT.compiled_parts(self.state.networks), self.config.run.cuda_graphs
                compile_parts(parts, self.device, graphs=graphs)
        begin_step(self.config)
        TUNIT.step(self.state, self.draw(), self.permutation, phase, self.config)
        self.wait()

    def theirs(self, phase: Phase) -> None:
        self.literal = self.literal or LiteralStep(self.config, self.device)
        batch = self.draw()
        self.literal(
            batch.x.contiguous(),
            batch.x_plus.contiguous(),
            self.permutation,
            joint=phase.joint,
            penalise=phase.penalise,
        )
        self.wait()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, function: Callable[[Phase], None], phase: Phase) -> float:
        began = time.perf_counter()
        function(phase)
        return time.perf_counter() - began


def flops_of(function: Callable[[Phase], None], phase: Phase, pictures: int) -> float:
    with CountFlops() as count:
        function(phase)
    return float(round(count.total / pictures / 1e9, 2))

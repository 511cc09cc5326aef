"""gpu.py correct: a GPU gives the same as the CPU, row by row; a row that fails does not stop the others.

Networks are narrow in every row except `forward` and `golden`, so that the CPU's part takes seconds.
"""

import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_memory import batch_auto, out_of_memory
from gpu_report import Report, Setting, attempt
from gpu_runs import training, two_processes
from gpu_state import CPU, WEIGHTS, batch_on, outcome, state_on, steps, weight_errors, without_kinks
from tunit.config import Config
from tunit.methods.method import Phase
from tunit.methods.tunit import TUNIT
from tunit.training.checkpoint import load_newest, save_checkpoint, state_tensors
from tunit.training.initial_state import new_state
from tunit.training.resources import begin_step, compile_parts, prepare_machine

# Everything is compared with the CPU in float64, so only the device rounds. The bounds in float64 are from runs on a
# CPU in which the output of every layer was changed by noise of 1e-14, more than a GPU's order of summation changes
# it: outputs, losses and gradients then differed by at most 5e-13. The bounds in float32 are from the CPU's own
# float32: outputs differed by at most 3e-5, and losses, over 14 batches, by 1e-5.
FORWARD = LOSSES = {torch.float64: 1e-11, torch.float32: 1e-4}
# Rounding can flip a ReLU, or the winner of a max-pool, and that changes gradients by far more than rounding does. So
# in float32 there is a strict bound without these (`gpu_state.without_kinks`; the CPU's float32 differed by at most
# 3e-6), and for the networks as they are a bound on the median over BATCHES batches. A tenth of single batches
# exceeded it on the CPU; one differed by 8e-2.
GRADIENTS = {torch.float64: 1e-11, torch.float32: 1e-4}
WITH_KINKS = {"guide": 1e-2, "generator": 1e-2, "discriminator": 1e-3}
BATCHES = 5
# Mutual information is a difference of entropies; an adversarial loss may be a mean of logits of both signs.
DIFFERENCES = "mutual_information", "adversarial", "adversarial_reconstruction"
BF16_RELATIVE, BF16_ABSOLUTE = 0.1, 0.05  # relative, for a loss; the tests require the same on a CPU


def largest(found: Tensor, expected: Tensor) -> float:
    return float((found.double().cpu() - expected.double()).abs().max() / expected.double().abs().max())


def forward(setting: Setting, report: Report, dtype: torch.dtype) -> None:
    """Every network's output, compared with the CPU's in float64 relative to the largest value."""
    config = setting.config(64, 4, precision="float32")
    both: list[dict[str, Tensor]] = []
    for device, kind in ((CPU, torch.float64), (setting.device, dtype)):
        networks = state_on(config, device, kind).networks
        x = batch_on(config, device, kind, 0)[0].x
        with torch.no_grad():
            guidance = networks.guide(x)
            parts = {"E domains": guidance.logits, "E styles": guidance.style}
            parts |= {"G content": networks.generator.encode(x), "D": networks.discriminator(x)}
            parts["G"] = networks.generator(x, guidance.style)
        both.append({name: value.cpu() for name, value in parts.items()})
    for name, expected in both[0].items():
        error = largest(both[1][name], expected)
        report.row(f"forward of {name}, {dtype}", error <= FORWARD[dtype], error, FORWARD[dtype])


def step(setting: Setting, report: Report, dtype: torch.dtype) -> None:
    """Losses and gradients of a step of E alone and of a joint step with R1, at the same weights on both devices."""
    config = setting.narrow(64, 4, precision="float32")
    exactly = dtype == torch.float64  # then no kink is near enough to an activation to matter
    for name, phase in (("E alone", Phase(False, True, False)), ("joint", Phase(True, True, True))):
        losses, gradients = differences(setting, config, dtype, phase, 1 if exactly else BATCHES)
        worst(report, f"{name}, the loss that differs most, {dtype}", largest_of(losses), LOSSES[dtype])
        of = f"the gradient that differs most, {dtype}"
        if exactly:
            worst(report, f"{name}, {of}", largest_of(gradients), GRADIENTS[dtype])
            continue
        medians = {k: float(np.median(values)) for k, values in gradients.items()}
        worst(report, f"{name}, {of}, median of {BATCHES} batches", medians, WITH_KINKS)
        with without_kinks():
            gradients = differences(setting, config, dtype, phase, BATCHES)[1]
        worst(report, f"{name} without kinks, {of}", largest_of(gradients), GRADIENTS[dtype])


Differences = dict[str, list[float]]  # of each loss, or of each network's gradient: one for each batch


def differences(
    setting: Setting, config: Config, dtype: torch.dtype, phase: Phase, batches: int
) -> tuple[Differences, Differences]:
    """How much losses and gradients on the device differ from the CPU's in float64."""
    off: dict[str, Differences] = {"loss": {}, "gradient": {}}
    for seed in range(batches):
        expected, found = (
            outcome(state_on(config, device, kind), config, phase, seed)
            for device, kind in ((CPU, torch.float64), (setting.device, dtype))
        )
        for part, values in off.items():
            for k, v in expected[part].items():
                values.setdefault(k, []).append(distance(found[part][k], v, k))
    return off["loss"], off["gradient"]


def largest_of(off: Differences) -> dict[str, float]:
    return {k: float(np.max(values)) for k, values in off.items()}  # NaN if any is NaN


def worst(report: Report, row: str, off: dict[str, float], bounds: dict[str, float] | float) -> None:
    """A row for the value that is the nearest to its bound, or the farthest beyond it."""
    bound = {k: bounds[k] if isinstance(bounds, dict) else bounds for k in off}
    name = max(off, key=lambda k: math.inf if math.isnan(off[k]) else off[k] / bound[k])
    report.row(row, off[name] <= bound[name], {name: off[name]}, bound[name])


def distance(found: Tensor, expected: Tensor, name: str = "") -> float:
    """The difference of two vectors or numbers, relative to `expected`, which may be near 0.

    Some losses are differences of numbers of about 1, and are rounded as these are, however small they are: they
    are compared with 1.
    """
    scale = 1.0 if name.endswith(DIFFERENCES) else 1e-3
    return float((found - expected).norm() / (expected.norm() + scale))


def weights(setting: Setting, report: Report) -> None:
    """All weights after two steps in float64, by the norm of their difference.

    Not in float32: RMSprop and Adam divide each gradient by its own size, so a gradient near 0, which is mostly
    rounding, moves its weight as far as any other. Float32 and float64 on one CPU then differ by up to a hundredth.
    """
    config, dtype = setting.narrow(64, 4, precision="float32"), torch.float64
    ends = []
    for device in (CPU, setting.device):
        state = state_on(config, device, dtype)
        steps(state, config, dtype, range(2))
        ends.append(state_tensors(state))
    for name, error in weight_errors(ends[1], ends[0]).items():
        report.row(f"weights of {name} after two steps, {dtype}", error <= WEIGHTS, error, WEIGHTS)


def bfloat16(setting: Setting, report: Report) -> None:
    """The losses of the first step on the device, in bfloat16 and in float32."""
    found = []
    for precision in ("float32", "bfloat16"):
        config = setting.narrow(64, 4, precision=precision)
        found.append(steps(state_on(config, setting.device, torch.float32), config, torch.float32, range(1)))
    off = {k: abs(found[1][k] - v) / (BF16_RELATIVE * abs(v) + BF16_ABSOLUTE) for k, v in found[0].items()}
    name = max(off, key=lambda k: off[k])
    bound = f"{BF16_RELATIVE:.0%} + {BF16_ABSOLUTE}"
    report.row("losses in bfloat16", off[name] <= 1, {name: [found[1][name], found[0][name]]}, bound)


def golden(setting: Setting, report: Report) -> None:
    """Networks whose weights come from the golden values' formula, compared with stored outputs."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    from golden import GOLDEN, golden_weights, images, rng_of
    from tunit.networks.discriminator import Discriminator
    from tunit.networks.generator import Generator
    from tunit.networks.guide import Guide
    from tunit.released.tensor_names import published_names

    if setting.tiny or not (GOLDEN / "forward_64_k10.npz").is_file():
        report.row("golden values", None, f"not there: {GOLDEN}", 1e-9)
        return
    stored = np.load(GOLDEN / "forward_64_k10.npz")

    def ready(network: Any, letter: str) -> Any:
        values, own = golden_weights(letter), network.double().state_dict()
        names = published_names(network).items()
        network.load_state_dict({n: values[p].view_as(own[n]).to(own[n].dtype) for n, p in names})
        return network.to(setting.device)

    x = images("x64", 4, 64).to(setting.device)
    s = torch.from_numpy(0.3 * rng_of("s64").standard_normal((4, 128))).to(setting.device)
    with torch.no_grad():
        guidance = ready(Guide(10), "C").eval()(x)
        found = {"guide_eval_logits": guidance.logits, "guide_eval_style": guidance.style}
        found["translated"] = ready(Generator(64), "G")(x, s)
        found["discriminator_logits"] = ready(Discriminator(64, 10), "D")(x)
    for name, value in found.items():
        expected = stored[name]
        rounding = np.spacing(np.abs(expected)).astype(np.float64) / 2 if expected.dtype == np.float32 else 0
        error = np.maximum(np.abs(value.double().cpu().numpy() - expected) - rounding, 0).max()
        error = float(error / np.abs(expected).max())
        report.row(f"golden {name}", error <= 1e-9, error, 1e-9)


def compiled(setting: Setting, report: Report) -> None:
    """Joint steps with --compile and --cuda-graphs: the first compiles, the second records the graphs, all others,
    which are compared, replay them.
    """
    if setting.tiny:
        report.row("compiled step", None, "not compiled where all is tiny", None)
        return
    config = setting.narrow(64, 4, precision="float32")
    graphs = setting.device.type == "cuda"
    fast = config.with_overrides({"compile": True, "cuda_graphs": graphs})
    ends = []
    for one in (config, fast):
        state = state_on(one, setting.device, torch.float32)
        if one is fast and TUNIT.compiled_parts:
            compile_parts(TUNIT.compiled_parts(state.networks), setting.device, graphs=graphs)
        found = []
        for seed in (0, 0, *range(BATCHES)):
            begin_step(one)
            found.append(outcome(state, one, Phase(True, True, True), seed))
        ends.append(found[2:])
    off: dict[str, Differences] = {"loss": {}, "gradient": {}}
    for eager, quick in zip(*ends, strict=True):
        for part, values in off.items():
            for k, v in eager[part].items():
                values.setdefault(k, []).append(distance(quick[part][k], v, k))
    name = f"compiled step{', CUDA graphs' * graphs}, the"
    # Both sides are rounded to float32 here, so the bounds are twice those of one side.
    worst(report, f"{name} loss that differs most", largest_of(off["loss"]), 2 * LOSSES[torch.float32])
    medians = {k: float(np.median(values)) for k, values in off["gradient"].items()}
    twice = {k: 2 * bound for k, bound in WITH_KINKS.items()}
    worst(report, f"{name} gradient that differs most, median of {BATCHES} batches", medians, twice)


@contextmanager
def deterministic() -> Iterator[list[warnings.WarningMessage]]:
    """Inside, PyTorch repeats results bit for bit; yields the warnings of operators that cannot."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield said
        finally:
            torch.use_deterministic_algorithms(False)


def exact_resume(setting: Setting, report: Report) -> None:
    """Four steps equal two steps, a checkpoint and two more steps, bit for bit; and the cost of determinism."""
    config, dtype = setting.narrow(64, 16), torch.float32

    def seconds(number: int) -> float:
        prepare_machine(config)
        state = state_on(config, setting.device, dtype)
        steps(state, config, dtype, range(2))
        setting.wait()
        began = time.perf_counter()
        steps(state, config, dtype, range(number))
        setting.wait()
        return (time.perf_counter() - began) / number

    with tempfile.TemporaryDirectory() as folder, deterministic() as said:
        prepare_machine(config)
        whole, first = (state_on(config, setting.device, dtype) for _ in range(2))
        steps(whole, config, dtype, range(4))
        steps(first, config, dtype, range(2))
        save_checkpoint(Path(folder), first, 1)
        second = new_state(config, setting.device)
        load_newest(Path(folder), second)
        steps(second, config, dtype, range(2, 4))
        ours, theirs = state_tensors(second), state_tensors(whole)
        unequal = [k for k, v in theirs.items() if not torch.equal(ours[k].cpu(), v.cpu())]
        slow = seconds(2 if setting.tiny else 8)
    report.row("exact resume with deterministic algorithms: unequal tensors", not unequal, len(unequal), 0)
    plain = seconds(2 if setting.tiny else 8)
    report.put("seconds of a step, deterministic and not", [slow, plain, slow / plain])
    said_of = sorted({str(w.message)[:120] for w in said if "determinis" in str(w.message)})
    report.put("operators that do not repeat", said_of)


def run(setting: Setting) -> None:
    """All rows, the quickest first."""
    report = Report(setting.out, "correct")
    prepare_machine(setting.config(64, 4, precision="float32"))
    works: list[tuple[str, float, Callable[[], None]]] = []
    for dtype in (torch.float64, torch.float32):
        works.append((f"forward, {dtype}", 5, lambda dtype=dtype: forward(setting, report, dtype)))  # type: ignore[misc]
        works.append((f"step, {dtype}", 15, lambda dtype=dtype: step(setting, report, dtype)))  # type: ignore[misc]
    for function, seconds in (
        (weights, 10.0),
        (bfloat16, 5.0),
        (training, 15.0),
        (golden, 15.0),
        (exact_resume, 15.0),
        (batch_auto, 10.0),
        (out_of_memory, 15.0),
        (two_processes, 30.0),
        (compiled, 60.0),
    ):
        works.append((function.__name__, seconds, lambda function=function: function(setting, report)))  # type: ignore[misc]
    for name, seconds, work in works:
        attempt(setting, report, name, seconds, work)
    rows = report.found.get("rows", [])
    failed = [row["name"] for row in rows if row["ok"] is False]
    report.put("failed", failed)

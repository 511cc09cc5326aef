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
from gpu_state import CPU, WEIGHTS, batch_on, outcome, state_on, steps, weight_errors
from tunit.methods.method import Phase
from tunit.methods.tunit import TUNIT
from tunit.training.checkpoint import load_newest, save_checkpoint, state_tensors
from tunit.training.initial_state import new_state
from tunit.training.resources import begin_step, compile_parts, prepare_machine

FORWARD = {torch.float64: 1e-9, torch.float32: 1e-4}
# In float32, mutual information is a small difference of large numbers, and rounding can flip a ReLU, which changes
# gradients by more than rounding does. On a CPU, float32 differs from float64 by up to 2e-4 in a loss and 5e-3 in a
# gradient.
LOSSES = {torch.float64: 1e-9, torch.float32: 2e-3}
GRADIENTS = {torch.float64: 1e-9, torch.float32: 2e-2}
BF16_RELATIVE, BF16_ABSOLUTE = 0.1, 0.05  # relative, for a loss; the tests require the same on a CPU


def largest(found: Tensor, expected: Tensor) -> float:
    return float((found.double().cpu() - expected.double()).abs().max() / expected.double().abs().max())


def forward(setting: Setting, report: Report, dtype: torch.dtype) -> None:
    """Every network's output, compared with the CPU's relative to the largest value."""
    config = setting.config(64, 4, precision="float32")
    found: dict[torch.device, dict[str, Tensor]] = {}
    for device in (CPU, setting.device):
        networks = state_on(config, device, dtype).networks
        x = batch_on(config, device, dtype, 0)[0].x
        with torch.no_grad():
            guidance = networks.guide(x)
            parts = {"E domains": guidance.logits, "E styles": guidance.style}
            parts |= {"G content": networks.generator.encode(x), "D": networks.discriminator(x)}
            parts["G"] = networks.generator(x, guidance.style)
        found[device] = {name: value.cpu() for name, value in parts.items()}
    for name, expected in found[CPU].items():
        error = largest(found[setting.device][name], expected)
        report.row(f"forward of {name}, {dtype}", error <= FORWARD[dtype], error, FORWARD[dtype])


def step(setting: Setting, report: Report, dtype: torch.dtype) -> None:
    """Losses and gradients of a step of E alone and of a joint step with R1, at the same weights on both devices."""
    config = setting.narrow(64, 4, precision="float32")
    for name, phase in (("E alone", Phase(False, True, False)), ("joint", Phase(True, True, True))):
        expected, found = (outcome(state_on(config, d, dtype), config, phase) for d in (CPU, setting.device))
        for kind, bound in (("loss", LOSSES[dtype]), ("gradient", GRADIENTS[dtype])):
            off = {k: distance(found[kind][k], v) for k, v in expected[kind].items()}
            worst = max(off, key=lambda k: off[k] if off[k] == off[k] else math.inf)
            row = f"{name}, the {kind} that differs most, {dtype}"
            report.row(row, off[worst] <= bound, {worst: off[worst]}, bound)


def distance(found: Tensor, expected: Tensor) -> float:
    """The difference of two vectors or numbers, relative to `expected`, which may be near 0."""
    return float((found - expected).norm() / (expected.norm() + 1e-3))


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
    """The third of three joint steps with --compile and --cuda-graphs: the first compiles, the second records the
    graphs, the third replays them.
    """
    if setting.tiny:
        report.row("compiled step", None, "not compiled where all is tiny", LOSSES[torch.float32])
        return
    config = setting.narrow(64, 4, precision="float32")
    graphs = setting.device.type == "cuda"
    fast = config.with_overrides({"compile": True, "cuda_graphs": graphs})
    ends = []
    for one in (config, fast):
        state = state_on(one, setting.device, torch.float32)
        if one is fast:
            compile_parts(TUNIT.compiled_parts(state.networks), setting.device, graphs=graphs)
        for _ in range(3):
            begin_step(one)
            end = outcome(state, one, Phase(True, True, True))
        ends.append(end)
    for kind, bound in (("loss", LOSSES[torch.float32]), ("gradient", GRADIENTS[torch.float32])):
        off = {k: distance(ends[1][kind][k], v) for k, v in ends[0][kind].items()}
        worst = max(off, key=lambda k: off[k] if off[k] == off[k] else math.inf)
        name = f"compiled step{', CUDA graphs' * graphs}, the {kind} that differs most"
        report.row(name, off[worst] <= bound, {worst: off[worst]}, bound)


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
        works.append((f"step, {dtype}", 10, lambda dtype=dtype: step(setting, report, dtype)))  # type: ignore[misc]
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

"""gpu.py correct: a GPU gives the same as the CPU, row by row; a row that fails does not stop the others."""

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
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from gpu_memory import batch_auto, out_of_memory
from gpu_report import Report, Setting, attempt
from tunit.config import Config
from tunit.data.batching.batches import Batch, make_batch
from tunit.methods.method import Phase
from tunit.methods.state import TrainingState
from tunit.methods.tunit import TUNIT
from tunit.training.checkpoint import load_newest, save_checkpoint, state_tensors
from tunit.training.initial_state import new_state
from tunit.training.resources import prepare_machine

CPU = torch.device("cpu")
BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-4}
BF16_RELATIVE, BF16_ABSOLUTE = 0.1, 0.05  # relative, for a loss; the tests require the same on a CPU


def state_on(config: Config, device: torch.device, dtype: torch.dtype) -> TrainingState:
    """The same new state on every device; biases differ from 0, averages from their networks."""
    state = new_state(config, CPU)
    generator = torch.Generator().manual_seed(7)
    for name, network in state.networks.named().items():
        for parameter in network.parameters():
            if parameter.dim() == 1:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
            elif name.endswith("average"):
                parameter.data *= 1 + 0.1 * torch.randn(parameter.shape, generator=generator)
        network.to(device, dtype)
    state.queue = (0.3 * torch.randn(state.queue.shape, generator=generator)).to(device, dtype)
    return state


def batch_on(config: Config, device: torch.device, dtype: torch.dtype, seed: int) -> tuple[Batch, Tensor]:
    side, number = config.data.image_size, config.optimisers.batch_size
    generator = torch.Generator().manual_seed(seed)
    x = F.interpolate(torch.randn(number, 3, 8, 8, generator=generator), scale_factor=side // 8).tanh()
    x_plus = 0.7 * x.flip(3) + 0.3 * torch.randn(x.shape, generator=generator).tanh()
    batch = make_batch(x.to(device, dtype), x_plus.to(device, dtype), torch.full((number,), -1))
    return batch, torch.randperm(number, generator=generator).to(device)


def steps(state: TrainingState, config: Config, dtype: torch.dtype, seeds: range) -> dict[str, float]:
    """Run joint steps, every second one with R1 (also the first). Returns the losses of all steps.

    Lengths of gradients are left out: rounding changes them more, and the weights after the steps show them.
    """
    found = {}
    for i in seeds:
        batch, permutation = batch_on(config, state.queue.device, dtype, i)
        terms = TUNIT.step(state, batch, permutation, Phase(True, True, penalise=i % 2 == 0), config)
        of_losses = {name: value for name, value in terms.items() if "gradient" not in name}
        found |= {f"{name}, step {i}": value.item() for name, value in of_losses.items()}
    return found


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
        report.row(f"forward of {name}, {dtype}", error <= BOUNDS[dtype], error, BOUNDS[dtype])


def step(setting: Setting, report: Report, dtype: torch.dtype) -> None:
    """Losses of two joint steps, and the norm of the difference of all weights after them."""
    config = setting.config(64, 4, precision="float32")
    losses, ends = [], []
    for device in (CPU, setting.device):
        state = state_on(config, device, dtype)
        losses.append(steps(state, config, dtype, range(2)))
        ends.append({k: v.detach().cpu().double() for k, v in state_tensors(state).items()})
    error = max(abs(losses[1][k] - v) / (abs(v) + 1e-3) for k, v in losses[0].items())
    report.row(f"losses of two steps, {dtype}", error <= BOUNDS[dtype], error, BOUNDS[dtype])
    for name in ("guide", "generator", "discriminator", "guide_average", "generator_average"):
        own = [torch.cat([v.flatten() for k, v in end.items() if k.startswith(f"{name}.")]) for end in ends]
        error = float((own[1] - own[0]).norm() / own[0].norm())
        report.row(
            f"weights of {name} after two steps, {dtype}", error <= BOUNDS[dtype], error, BOUNDS[dtype]
        )


def bfloat16(setting: Setting, report: Report) -> None:
    """The losses of the first step on the device, in bfloat16 and in float32."""
    found = []
    for precision in ("float32", "bfloat16"):
        config = setting.config(64, 4, precision=precision)
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
    config, dtype = setting.config(64, 16), torch.float32

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


def share(rank: int, folder: str, backend: str, config: Config, device: str) -> None:
    """Runs as one of two processes on one device; the first writes the result of both."""
    method = (Path(folder) / f"meet-{backend.replace(':', '-')}").as_uri()
    dist.init_process_group(backend, init_method=method, rank=rank, world_size=2)
    state = state_on(config, torch.device(device), torch.float64)
    steps(state, config, torch.float64, range(2))
    if rank == 0:
        torch.save({k: v.detach().cpu() for k, v in state_tensors(state).items()}, Path(folder) / "two.pt")
    dist.destroy_process_group()


def two_processes(setting: Setting, report: Report) -> None:
    """Two processes that share a batch on one GPU, compared with one process, in float64."""
    name = "two processes against one"
    if setting.tiny:  # other tests start processes
        report.row(name, None, "tiny", 1e-9)
        return
    config = setting.config(64, 4, precision="float32")
    single = state_on(config, setting.device, torch.float64)
    steps(single, config, torch.float64, range(2))
    expected = {k: v.detach().cpu() for k, v in state_tensors(single).items()}
    for backend in ("cpu:gloo,cuda:nccl", "gloo"):
        with tempfile.TemporaryDirectory() as folder:
            arguments = folder, backend, config, str(setting.device)
            context = torch.multiprocessing.spawn(share, arguments, 2, join=False)
            try:
                ended = context.join(timeout=min(40, setting.clock.left() - 10))
                reason = "" if ended else "no answer in time"
                made = torch.load(Path(folder) / "two.pt", weights_only=True) if ended else {}
            except Exception as error:  # NCCL may refuse two processes on one GPU
                reason, made = str(error).strip().splitlines()[-1][:200], {}
            finally:
                for process in context.processes:
                    process.kill()
        if made:
            error = max(float((made[k] - v).norm() / (v.norm() + 1e-12)) for k, v in expected.items())
            report.row(f"{name}, {backend}", error <= 1e-9, error, 1e-9)
            return
        report.put(f"{name}, {backend}", reason)
    report.row(name, False, "neither NCCL nor gloo", 1e-9)


def run(setting: Setting) -> None:
    """All rows, the quickest first."""
    report = Report(setting.out, "correct")
    prepare_machine(setting.config(64, 4, precision="float32"))
    works: list[tuple[str, float, Callable[[], None]]] = []
    for dtype in (torch.float64, torch.float32):
        works.append((f"forward, {dtype}", 5, lambda dtype=dtype: forward(setting, report, dtype)))  # type: ignore[misc]
        works.append((f"step, {dtype}", 10, lambda dtype=dtype: step(setting, report, dtype)))  # type: ignore[misc]
    for function, seconds in (
        (bfloat16, 5.0),
        (golden, 15.0),
        (exact_resume, 15.0),
        (batch_auto, 10.0),
        (out_of_memory, 15.0),
        (two_processes, 30.0),
    ):
        works.append((function.__name__, seconds, lambda function=function: function(setting, report)))  # type: ignore[misc]
    for name, seconds, work in works:
        attempt(setting, report, name, seconds, work)
    rows = report.found.get("rows", [])
    failed = [row["name"] for row in rows if row["ok"] is False]
    report.put("failed", failed)

"""gpu.py speed: our steps compared with the literal one in the same run, their parts, and translation."""

import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from both_steps import ALONE, JOINT, LAZY, WITHOUT_R1, Bench, flops_of
from gpu_report import Report, Setting, attempt
from tunit.config import Config
from tunit.methods.inference import redraw
from tunit.methods.method import Phase
from tunit.networks.penalised import second_gradients_by_pytorch
from tunit.training.initial_state import new_state
from tunit.training.resources import prepare_machine

SIDE = 8192  # side of the matrices whose products give the rate
TOP = 40  # kernels shown in the profile
PHASES = {"E alone": ALONE, "joint without R1": WITHOUT_R1, "joint, R1 every step": JOINT}


class Steady(Bench):
    """Steps as in a training: the host does not wait for the GPU after each."""

    def wait(self) -> None:
        pass


def seconds_each(setting: Setting, work: Callable[[], object], number: int) -> float:
    """Seconds per call: the median of three rounds of `number` calls, each with one wait for the GPU."""
    turns = []
    for _ in range(1 if setting.tiny else 3):
        setting.wait()
        began = time.perf_counter()
        for _ in range(number):
            work()
        setting.wait()
        turns.append((time.perf_counter() - began) / number)
    return statistics.median(turns)


def rate_of(setting: Setting, dtype: torch.dtype) -> float:
    """Operations per second in products of large random matrices."""
    side = 128 if setting.tiny else SIDE
    a = torch.randn(side, side, device=setting.device).to(dtype)
    for _ in range(3):
        a @ a
    return 2 * side**3 / seconds_each(setting, lambda: a @ a, 2 if setting.tiny else 10)


def timed(setting: Setting, report: Report, title: str, config: Config, rate: float) -> None:
    """One size: seconds, operations, share of the rate and peak memory of every phase.

    Each phase is reported as soon as it is measured, because the process may be ended at any time.
    """
    bench, found = Steady(config), dict[str, Any]()
    repeats = 1 if setting.tiny else 5
    for name, phase in PHASES.items():
        found[name] = of_phase(setting, bench, phase, rate, repeats)
        report.put(title, found)
    joint, without = (found[name]["seconds"] for name in ("joint, R1 every step", "joint without R1"))
    draw = seconds_each(setting, bench.draw, repeats)
    found["data and augmentation, share of a joint step"] = draw / joint
    found["joint, lazy R1, seconds"] = (joint + (LAZY - 1) * without) / LAZY
    report.put(title, found)


def of_phase(setting: Setting, bench: Steady, phase: Phase, rate: float, repeats: int) -> dict[str, Any]:
    config = bench.config
    number = config.optimisers.batch_size
    setting.empty()
    flops = flops_of(bench.ours, phase, number) if not config.run.compile else 0.0
    for _ in range(1 if setting.tiny else 3):
        bench.ours(phase)
    setting.wait()
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)
    seconds = seconds_each(setting, lambda: bench.ours(phase), repeats)
    return {
        "seconds": seconds,
        "pictures per second": number / seconds,
        "GFLOP per picture": flops,
        "share of the matrix rate": flops * 1e9 * number / seconds / rate,
        "peak MiB": setting.peak_mib(),
    }


def literal(setting: Setting, report: Report, title: str, config: Config, size: str) -> None:
    """The literal float32 eager step, with PyTorch's defaults (TF32 in convolutions, no search for the fastest
    algorithm) and without TF32.

    size: the entry with our own times. R1 in the literal step has convolutions with huge kernels, which may be very
    slow; so it is repeated three times only.
    """
    bench, found = Steady(config), dict[str, Any]()  # this sets TF32 and the search, so both are set below
    cudnn = torch.backends.cudnn
    ours, before = report.found.get(size, {}), (cudnn.allow_tf32, cudnn.benchmark)
    try:
        cudnn.benchmark = False
        for way, tf32 in (("with TF32 convolutions, as by default", True), ("without TF32", False)):
            cudnn.allow_tf32 = tf32
            for name, phase, number in (("E alone", ALONE, 3), ("joint, R1 every step", JOINT, 1)):
                setting.empty()
                bench.theirs(phase)
                seconds = seconds_each(setting, lambda phase=phase: bench.theirs(phase), number)  # type: ignore[misc]
                found[f"{name}, {way}"] = {
                    "seconds": seconds,
                    "ours, times as fast": seconds / ours[name]["seconds"] if name in ours else None,
                    "TF32 in convolutions": cudnn.allow_tf32,
                    "peak MiB": setting.peak_mib(),
                }
                report.put(title, found)
    finally:
        cudnn.allow_tf32, cudnn.benchmark = before


def second_gradients(setting: Setting, report: Report, title: str) -> None:
    """The joint step with R1, with our second gradients of D's convolutions and with PyTorch's."""
    bench, found = Steady(setting.config(128, 32)), dict[str, Any]()
    ways = (("ours", nullcontext), ("PyTorch's", second_gradients_by_pytorch))
    for name, way in ways:
        setting.empty()
        with way():
            setting.wait()
            began = time.perf_counter()
            bench.ours(JOINT)  # cuDNN tries its algorithms
            setting.wait()
            first = time.perf_counter() - began
            seconds = seconds_each(setting, lambda: bench.ours(JOINT), 1)
        found[name] = {"first step, seconds": first, "seconds": seconds, "peak MiB": setting.peak_mib()}
        report.put(title, found)


def compiled(setting: Setting, *, graphs: bool) -> dict[str, Any] | str:
    """Steps with --compile (E's trunk and G), and the seconds until the first is finished.

    graphs: with --cuda-graphs, too.
    """
    if setting.tiny:
        return "not compiled where all is tiny"
    setting.empty()
    began = time.perf_counter()
    bench = Steady(setting.config(128, 32, compile=1, cuda_graphs=int(graphs)))
    bench.ours(JOINT)
    setting.wait()
    found: dict[str, Any] = {"first step, seconds": time.perf_counter() - began}
    for name, phase in PHASES.items():
        for _ in range(3):  # CUDA graphs are recorded in the second step of a phase
            bench.ours(phase)
        found[f"{name}, seconds"] = seconds_each(setting, lambda phase=phase: bench.ours(phase), 5)  # type: ignore[misc]
    return found | {"peak MiB": setting.peak_mib()}


def kernels(events: Iterable[Any], *, cuda: bool) -> list[dict[str, Any]]:
    """Name, calls and milliseconds of each kernel (on a CPU: operator), by the time they take.

    Named regions, such as "G", are left out: they contain kernels that are counted by themselves.
    """
    devices = torch.autograd.DeviceType  # type: ignore[attr-defined]
    kind = devices.CUDA if cuda else devices.CPU
    rows = [
        {
            "name": event.key[:120],
            "calls": event.count,
            "ms": (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e3,
        }
        for event in events
        if event.device_type == kind and not event.is_user_annotation
    ]
    return sorted(rows, key=lambda row: -float(row["ms"]))


def profiled(setting: Setting) -> dict[str, Any]:
    """Kernels of one joint step by the time they take, launches, and the GPU's busy share."""
    bench = Steady(setting.config(128, 32))
    for _ in range(1 if setting.tiny else 3):
        bench.ours(JOINT)
    setting.wait()
    cuda = setting.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if cuda else []
    with torch.profiler.profile(activities=activities, acc_events=True):
        bench.permutation + 1  # the first profile of a process takes long to start
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        began = time.perf_counter()
        bench.ours(JOINT)
        setting.wait()
        wall = time.perf_counter() - began
    rows = kernels(profile.key_averages(), cuda=cuda)
    busy = sum(float(row["ms"]) for row in rows) / 1e3
    return {
        "seconds under the profiler": wall,
        "busy, seconds": busy,
        "launches": sum(int(row["calls"]) for row in rows),
        "top": rows[:TOP],
    }


@torch.inference_mode()
def translating(setting: Setting) -> dict[str, Any]:
    """Pictures per second through E (of the reference) and G, at 1 and 64 at a time."""
    found = {}
    config = setting.config(128, 64)
    networks = new_state(config, setting.device).networks
    guide, generator = networks.guide_average.eval(), networks.generator_average.eval()
    for number in (1, 4 if setting.tiny else 64):
        side = config.data.image_size
        x = torch.rand(number, 3, side, side, device=setting.device) * 2 - 1
        low = config.run.precision == "bfloat16"

        def work(x: torch.Tensor = x, low: bool = low) -> None:
            with torch.autocast(setting.device.type, torch.bfloat16, enabled=low):
                redraw(generator, x, [guide(x).style])

        work()
        seconds = seconds_each(setting, work, 2 if setting.tiny else 20)
        found[f"batch {number}, pictures per second"] = number / seconds
    return found


def run(setting: Setting) -> None:
    """All measurements, the most important first."""
    report = Report(setting.out, "speed")
    config = setting.config(128, 32)
    prepare_machine(config)
    report.put("precision", config.run.precision)
    rate = rate_of(setting, torch.bfloat16)
    report.put("bfloat16 matrix rate, TFLOP per second", rate / 1e12)
    main = "128 px, batch 32"
    of_r1 = "second gradients of D's convolutions, joint step with R1, 128 px, batch 32"
    works: list[tuple[str, float, Callable[[], Any]]] = [
        (main, 30, lambda: timed(setting, report, main, config, rate)),
        ("profile of a joint step, 128 px, batch 32", 15, lambda: profiled(setting)),
        ("translating, 128 px", 10, lambda: translating(setting)),
        (f"literal, {main}", 40, lambda: literal(setting, report, f"literal, {main}", config, main)),
    ]
    for side, number in () if setting.tiny else ((256, 16), (128, 8), (128, 64), (64, 32)):
        sized, title = setting.config(side, number), f"{side} px, batch {number}"

        works.append((title, 30, partial(timed, setting, report, title, sized, rate)))
    if not setting.tiny:
        large, size = setting.config(256, 16), "256 px, batch 16"
        works.append(
            (f"literal, {size}", 40, lambda: literal(setting, report, f"literal, {size}", large, size))
        )
    works.append(("compiled, 128 px, batch 32", 100, lambda: compiled(setting, graphs=False)))
    works.append(("compiled, CUDA graphs, 128 px, batch 32", 100, lambda: compiled(setting, graphs=True)))
    # Last, because searching for the fastest algorithm with kernels as large as a picture may take minutes.
    works.append((of_r1, 40, lambda: second_gradients(setting, report, of_r1)))
    for name, seconds, work in works:
        attempt(setting, report, name, seconds, work)

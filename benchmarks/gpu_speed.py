"""gpu.py speed: our steps compared with the literal one in the same run, their parts, and translation."""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from both_steps import ALONE, JOINT, LAZY, WITHOUT_R1, Bench, flops_of
from gpu_report import Report, Setting, attempt
from tunit.config import Config
from tunit.methods.inference import redraw
from tunit.training.initial_state import new_state
from tunit.training.resources import prepare_machine

SIDE = 8192  # side of the matrices whose products give the rate
TOP = 40  # kernels shown in the profile
PHASES = {"joint, R1 every step": JOINT, "joint without R1": WITHOUT_R1, "E alone": ALONE}


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


def timed(setting: Setting, config: Config, rate: float, *, literal: bool) -> dict[str, Any]:
    """One size: seconds, operations, share of the rate and peak memory of every phase."""
    found: dict[str, Any] = {}
    number, repeats = config.optimisers.batch_size, 1 if setting.tiny else 5
    for name, phase in PHASES.items():
        setting.empty()
        bench = Steady(config)
        flops = flops_of(bench.ours, phase, number) if not config.run.compile else 0.0
        for _ in range(1 if setting.tiny else 3):
            bench.ours(phase)
        setting.wait()
        if setting.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(setting.device)
        seconds = seconds_each(setting, lambda bench=bench, phase=phase: bench.ours(phase), repeats)  # type: ignore[misc]
        found[name] = {
            "seconds": seconds,
            "pictures per second": number / seconds,
            "GFLOP per picture": flops,
            "share of the matrix rate": flops * 1e9 * number / seconds / rate,
            "peak MiB": setting.peak_mib(),
        }
        if phase is JOINT:
            draw = seconds_each(setting, bench.draw, repeats)
            found["data and augmentation, share of a joint step"] = draw / seconds
        del bench
        gc.collect()
    joint, without = (found[name]["seconds"] for name in ("joint, R1 every step", "joint without R1"))
    found["joint, lazy R1, seconds"] = (joint + (LAZY - 1) * without) / LAZY
    if literal:
        found |= beside_literal(setting, config, joint, found["E alone"]["seconds"])
    return found


def beside_literal(setting: Setting, config: Config, joint: float, alone: float) -> dict[str, Any]:
    """The literal float32 eager step, with PyTorch's defaults (TF32 in convolutions) and without TF32."""
    found: dict[str, Any] = {}
    before = torch.backends.cudnn.allow_tf32
    for name, tf32 in (("with TF32 convolutions, as by default", True), ("without TF32", False)):
        torch.backends.cudnn.allow_tf32 = tf32
        setting.empty()
        bench = Steady(config)
        for phase, ours in ((JOINT, joint), (ALONE, alone)):
            for _ in range(1 if setting.tiny else 2):
                bench.theirs(phase)
            repeats = 1 if setting.tiny else 3
            seconds = seconds_each(setting, lambda bench=bench, phase=phase: bench.theirs(phase), repeats)  # type: ignore[misc]
            which = "joint, R1 every step" if phase is JOINT else "E alone"
            found[f"literal {which}, {name}"] = {"seconds": seconds, "ours, times as fast": seconds / ours}
            if phase is JOINT:
                found[f"literal {which}, {name}"]["peak MiB"] = setting.peak_mib()
        del bench
        gc.collect()
    torch.backends.cudnn.allow_tf32 = before
    return found


def compiled(setting: Setting, rate: float) -> dict[str, Any] | str:
    """The same with --compile (E's trunk and G), and the seconds until the first step is finished."""
    if setting.tiny:
        return "not compiled where all is tiny"
    began = time.perf_counter()
    config = setting.config(128, 32, compile=1)
    bench = Steady(config)
    bench.ours(JOINT)
    setting.wait()
    first = time.perf_counter() - began
    bench.ours(JOINT)
    seconds = seconds_each(setting, lambda: bench.ours(JOINT), 5)
    return {"first step, seconds": first, "joint, R1 every step, seconds": seconds}


def profiled(setting: Setting) -> dict[str, Any]:
    """Kernels of one joint step by the time they take, launches, and the GPU's busy share."""
    bench = Steady(setting.config(128, 32))
    for _ in range(1 if setting.tiny else 3):
        bench.ours(JOINT)
    setting.wait()
    cuda = setting.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if cuda else []
    began = time.perf_counter()
    with torch.profiler.profile(activities=activities) as profile:
        bench.ours(JOINT)
        setting.wait()
    wall = time.perf_counter() - began
    kind = torch.autograd.DeviceType.CUDA if cuda else torch.autograd.DeviceType.CPU
    rows = [
        {
            "name": event.key[:120],
            "calls": event.count,
            "ms": (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e3,
        }
        for event in profile.key_averages()
        if event.device_type == kind
    ]
    rows.sort(key=lambda row: -float(row["ms"]))
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
    works: list[tuple[str, float, Callable[[], Any]]] = [
        ("128 px, batch 32", 40, lambda: timed(setting, config, rate, literal=True)),
        ("profile of a joint step, 128 px, batch 32", 15, lambda: profiled(setting)),
        ("translating, 128 px", 10, lambda: translating(setting)),
    ]
    if not setting.tiny:
        for side, number in ((256, 16), (128, 8), (128, 64), (64, 32)):
            sized = setting.config(side, number)
            works.append(
                (
                    f"{side} px, batch {number}",
                    30,
                    lambda sized=sized: timed(setting, sized, rate, literal=sized.data.image_size == 256),  # type: ignore[misc]
                )
            )
    works.append(("compiled, 128 px, batch 32", 100, lambda: compiled(setting, rate)))
    for name, seconds, work in works:
        attempt(setting, report, name, seconds, work)

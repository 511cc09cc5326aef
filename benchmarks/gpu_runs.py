"""gpu.py correct, whole trainings: a tiny run and its resume, and two processes that share a GPU."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from gpu_report import NARROW, Report, Setting
from gpu_state import WEIGHTS, state_on, steps, weight_errors
from tunit.config import Config, read_config
from tunit.data.creatures.picture_set import write_creatures
from tunit.training.checkpoint import checkpoints, state_tensors
from tunit.training.launch import resume_run, start_run

PICTURES, SIDE, HALF = 24, 32, 3  # of the tiny training: pictures, their side, steps before the resume


def training(setting: Setting, report: Report) -> None:
    """A tiny training that writes a checkpoint and samples after every step, stopped half-way and resumed."""
    small = {"image_size": SIDE, "batch_size": 4, "guide_only_batch_size": 4, "guide_only_until": 2}
    often = {"checkpoint_every": 1, "sample_every": 1, "log_every": 1, "keep_checkpoints": 2 * HALF}
    here = {"device": str(setting.device), "threads": 1, "workers": 1, "processes": 1, "domains": 3}
    config = read_config("default").with_overrides(NARROW | small | often | here | {"steps": HALF})
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        write_creatures(Path(folder) / "set", PICTURES, SIDE, 0)
        start_run(Path(folder) / "set" / "pictures", run, config, quiet=True)
        state = resume_run(run, overrides={"steps": str(2 * HALF)}, quiet=True)
        found = {
            "step": state.step,
            "checkpoints": len(checkpoints(run / "checkpoints")),
            "samples": len(list((run / "samples").glob("step_*.png"))),
            "device": str(state.queue.device),
        }
    expected = dict.fromkeys(("step", "checkpoints", "samples"), 2 * HALF) | {"device": str(setting.device)}
    report.row("a training with a checkpoint and samples at every step", found == expected, found, expected)


def share(rank: int, folder: str, backend: str, config: Config, device: str) -> None:
    """Runs as one of two processes on one device; the first writes the result of both."""
    method = (Path(folder) / f"meet-{backend.replace(':', '-')}").as_uri()
    dist.init_process_group(backend, init_method=method, rank=rank, world_size=2)
    state = state_on(config, torch.device(device), torch.float64)
    steps(state, config, torch.float64, range(2))
    if rank == 0:
        torch.save({k: v.detach().cpu() for k, v in state_tensors(state).items()}, Path(folder) / "two.pt")
    dist.destroy_process_group()


def all_end(context: Any, seconds: float) -> bool:
    """Wait until all processes of a ProcessContext have ended; False if `seconds` do not suffice.

    Its `join` returns False as soon as the first of them has ended, so it is called again.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if context.join(timeout=max(0.0, end - time.monotonic())):
            return True
    return False


def two_processes(setting: Setting, report: Report) -> None:
    """Two processes that share a batch on one GPU, compared with one process, in float64."""
    name = "two processes against one"
    config = setting.narrow(64, 4, precision="float32")
    single = state_on(config, setting.device, torch.float64)
    steps(single, config, torch.float64, range(2))
    expected = {k: v.detach().cpu() for k, v in state_tensors(single).items()}
    # NCCL may refuse two processes on one GPU.
    for backend in ("gloo",) if setting.device.type == "cpu" else ("cpu:gloo,cuda:nccl", "gloo"):
        with tempfile.TemporaryDirectory() as folder:
            arguments = folder, backend, config, str(setting.device)
            context = spawn(share, arguments, 2, join=False)
            try:
                ended = all_end(context, min(90 if setting.tiny else 40, setting.clock.left() - 10))
                reason = "" if ended else "no answer in time"
                made = torch.load(Path(folder) / "two.pt", weights_only=True) if ended else {}
            except Exception as error:
                reason, made = str(error).strip().splitlines()[-1][:200], {}
            finally:
                for process in context.processes:
                    process.kill()
        if made:
            off = weight_errors(made, expected)
            report.row(f"{name}, {backend}", max(off.values()) <= WEIGHTS, off, WEIGHTS)
            return
        report.put(f"{name}, {backend}", reason)
    report.row(name, False, "neither NCCL nor gloo", WEIGHTS)

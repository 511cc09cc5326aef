"""gpu.py correct, if a GPU runs out of memory: the batch is halved, or the training ends with one sentence."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gpu_report import NARROW, Report, Setting
from tunit.machine import is_out_of_memory
from tunit.training.memory.fitting import fitting_batch, try_step

# Bytes of GPU memory that the process may use; 256 pictures of 128 px need several times as much.
LITTLE = 1 << 30


@contextmanager
def little_memory(setting: Setting) -> Iterator[None]:
    """Inside, this process may use only a part of the GPU's memory."""
    setting.empty()
    if setting.device.type == "cuda":
        whole = torch.cuda.get_device_properties(setting.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, LITTLE / whole), setting.device)
    try:
        yield
    finally:
        if setting.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0, setting.device)
        setting.empty()


def batch_auto(setting: Setting, report: Report) -> None:
    """The batch that `--batch auto` finds fits; twice as many pictures do not."""
    wanted = 4 if setting.tiny else 256
    config = setting.narrow(128, wanted)
    with little_memory(setting):
        found, larger = fitting_batch(config, setting.device), None
        if found < wanted and setting.device.type == "cuda":
            try_step(config, setting.device, found)
            try:
                try_step(config, setting.device, 2 * found)
                larger = "fits too"
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                larger = "does not fit"
    ok = found >= 2 and larger != "fits too"
    report.row("--batch auto", ok, {"found": found, "twice": larger}, f"of {wanted}")


def out_of_memory(setting: Setting, report: Report) -> None:
    """A training that runs out of memory ends with code 2 and one sentence."""
    from tunit.cli import main
    from tunit.data.creatures.picture_set import write_creatures

    name = "out of memory is one sentence"
    if setting.device.type != "cuda":
        report.row(name, None, "only where a GPU's memory can be held back", 1)
        return
    with tempfile.TemporaryDirectory() as folder, little_memory(setting):
        write_creatures(Path(folder) / "set", 256, 128, 0)
        words = ["train", f"{folder}/set/pictures", "--out", f"{folder}/run", "--preset", "paper", "--quiet"]
        words += ["--steps", "10", "--guide-only-until", "0", "--average-from", "0"]
        words += ["--image-size", "128", "--batch-size", "256", "--device", str(setting.device)]
        words += [
            word for key, value in NARROW.items() for word in (f"--{key.replace('_', '-')}", str(value))
        ]
        with contextlib.redirect_stderr(io.StringIO()) as said:
            code = main(words)
    lines = said.getvalue().strip().splitlines()
    ok = code == 2 and len(lines) == 1 and "does not fit the memory" in lines[0]
    report.row(name, ok, {"code": code, "said": lines[:5]}, "code 2, one line about memory")

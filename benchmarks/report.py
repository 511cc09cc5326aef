"""How long `tunit report` takes for a run of 10,000 pictures, and how large its page is.

    python benchmarks/report.py [--pictures 10000] [--size 64] [--width 64]

The networks are untrained (this does not change their speed) and have the paper's width by default.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from machine import write
from tunit.config import read_config
from tunit.data.creatures.picture_set import write_creatures
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import pack_settings
from tunit.methods.model_file import save_model
from tunit.reporting.write import write_report
from tunit.training.initial_state import new_state
from tunit.training.resources import resolve_machine
from tunit.training.run_folder import RunFolder, begin_run
from tunit.training.samples import model_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        widths = {f"{name}_width": args.width for name in ("guide", "generator", "discriminator")}
        config = read_config("paper").with_overrides({"image_size": args.size, "head_std": 0.3, **widths})
        config = resolve_machine(config).resolved_schedule()
        torch.set_num_threads(config.run.threads)
        write_creatures(folder / "creatures", args.pictures, args.size, 0)
        run = RunFolder(folder / "run")
        pictures = pack_pictures(folder / "creatures" / "pictures", run.data, pack_settings(config))
        device = torch.device("cpu")
        begin_run(run, config, folder / "creatures" / "pictures", pictures, device)
        save_model(run.path, model_of(new_state(config, device), pictures, config))
        began = time.perf_counter()
        path = write_report(run.path)
        seconds = time.perf_counter() - began
        result = {
            **vars(args),
            "seconds": round(seconds, 1),
            "megabytes": round(path.stat().st_size / 1e6, 2),
        }
    print(write(f"report-{args.size}", result).read_text())


if __name__ == "__main__":
    main()

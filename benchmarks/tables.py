"""How long the rows of the paper's tables take with a base preset, estimated from a few measured steps of each.

  python benchmarks/tables.py --base tables-32 --classes 6 --threads 1

Pictures are random; evaluation and k-means are not included. Times are CPU times, summed over cores, so that other
work on the machine matters little.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from machine import write
from tunit.config import Config
from tunit.data.batching.batches import Batches, batch_permutation
from tunit.errors import ConfigError
from tunit.experiments.experiment import NONE
from tunit.experiments.paper_tables import TABLES
from tunit.experiments.plan import Plan, config_of
from tunit.experiments.split import Split
from tunit.methods.method import Labels
from tunit.methods.registry import method_of
from tunit.training.from_pictures import suited_to_pictures
from tunit.training.initial_state import new_state
from tunit.training.resources import resolve_machine
from tunit.training.schedule import batch_size_at, phase_at

PICTURES = 256


def seconds_per_step(config: Config, at: int, labelled: bool, repeats: int) -> float:
    """Mean CPU time of a step at position `at` of the schedule, measured over whole periods of R1."""
    torch.set_num_threads(config.run.threads)
    rng = np.random.default_rng(0)
    size = config.data.image_size
    images = rng.integers(0, 256, (PICTURES, size, size, 3), np.uint8)
    labels = rng.integers(0, config.networks.domains, PICTURES) if labelled else np.full(PICTURES, -1)
    device = torch.device("cpu")
    state = new_state(config, device, PICTURES)
    side = state.networks.guide.image_size
    batches = Batches(images, labels, config.augment, seed=0, device=device, view_side=side)
    number = batch_size_at(at, config)
    began = 0.0
    for i in range(repeats + 1):
        if i == 1:
            began = time.process_time()
        batch = batches.draw(at + i, number, {})
        method_of(config).step(
            state, batch, batch_permutation(0, i, number), phase_at(at + i, config), config
        )
    return (time.process_time() - began) / repeats


def training_seconds(config: Config, labelled: bool, repeats: int) -> dict[str, float]:
    """Seconds in one training for a step of E alone, for a joint step, and for all steps."""
    alone, steps = int(config.schedule.guide_only_until), config.schedule.steps
    found = {"steps": float(steps), "steps alone": float(alone)}
    first = seconds_per_step(config, 0, labelled, max(2, repeats // 4)) if alone else 0.0
    joint = seconds_per_step(config, alone, labelled, repeats) if steps > alone else 0.0
    total = first * alone + joint * (steps - alone)
    return found | {"seconds alone": first, "seconds joint": joint, "seconds in all": total}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="tables-32")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--repeats", type=int, default=16, help="joint steps to measure: a multiple of r1_every"
    )
    args = parser.parse_args()
    split = Split([(str(k), f"class-{k:02d}") for k in range(args.classes)], [])
    plan = Plan(Path("data"), Path("out"), base=args.base, overrides=(("threads", str(args.threads)),))
    measured: dict[str, dict[str, float]] = {}
    hours: dict[str, float] = {}
    for table in TABLES.values():
        total = 0.0
        for row in table.rows:
            for preset in filter(None, (row.first, row.preset)):
                try:
                    config = resolve_machine(config_of(row, preset, plan, split, 0).resolved_schedule())
                except ConfigError:
                    print(f"{table.name}, {row.name}: no preset {preset} here")
                    continue
                config = suited_to_pictures(config, None)
                labelled = (
                    row.labels != NONE
                    and preset == row.preset
                    and (not row.few_labels or method_of(config).labels is Labels.ALL)
                )
                # Rows of one preset take about the same time: measure each preset once, for its first row.
                # Rows that change settings of their preset, such as the number of domains, may differ a little.
                if preset not in measured:
                    measured[preset] = training_seconds(config, labelled, args.repeats)
                    print(f"{preset}: {measured[preset]}")
                total += measured[preset]["seconds in all"]
        hours[table.name] = round(total / 3600, 2)
    result = {**vars(args), "trainings": measured, "core hours of training": hours}
    print(write(args.base, result).read_text())


if __name__ == "__main__":
    main()

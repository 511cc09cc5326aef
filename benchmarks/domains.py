"""How well E finds the kinds of pictures, by preset, in equal time: accuracy, NMI and purity against classes.

  python benchmarks/domains.py grocery10/ gtsrb10/ --presets small paper --seconds 600 --seeds 5

Each folder holds one folder of pictures for each class; training does not see the classes. E trains without G and D
for the given seconds of CPU time in one thread, so that other work on the machine matters little. As many trainings
run at a time as there are cores (--jobs). The number of domains is that of the classes; with
`--presets small,domains=auto` tunit finds it. Trivial baselines (k-means on pixels, colours, shapes, random features)
are measured too. `--presets small,guide_width=32,hue=0.1` changes settings of a preset. The final domains are
measured, and (as "divisions") each clustering of E's outputs from which they are chosen, and the groups on which
these clusterings agree. The result is one JSON in benchmarks/results/, written after every training.
"""

import argparse
import dataclasses
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from machine import write
from tunit.clustering.partition import agreed_groups, k_means_in_pieces, repeated_k_means
from tunit.config import Config, read_config
from tunit.data.decoding.workers import usable_cores
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.evaluation import trivial
from tunit.evaluation.clusters import clustering_accuracy, normalised_mutual_information, purity
from tunit.methods.final_domains import GuideOutput, outputs_of
from tunit.methods.findings import first_step_with_domains
from tunit.methods.inference import for_whole_pictures, guidance_over, in_batches, some_whole_pictures
from tunit.training.alarms.watch import Watch
from tunit.training.from_pictures import suited_to_pictures
from tunit.training.in_progress import Training
from tunit.training.logs.log import ProgressDisplay
from tunit.training.logs.speed import StepFlops
from tunit.training.logs.window import LossWindow
from tunit.training.resources import resolve_machine
from tunit.training.run_folder import RunFolder
from tunit.training.trainer import make_ready, one_step

SETS = ("grocery10", "gtsrb10")  # used if no folders are given
MEASUREMENTS = 5  # how often the domains are measured, at equal intervals
PROBED = 6  # steps of each kind from which the time of a step is estimated, after one to warm up


def figures(domains: np.ndarray, classes: np.ndarray) -> dict[str, Any]:
    return {
        "accuracy": clustering_accuracy(domains, classes),
        "NMI": normalised_mutual_information(domains, classes),
        "purity": purity(domains, classes),
        "F1 of kinds": best_f1(domains, classes),
    }


def best_f1(domains: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """For each kind, by "class (pictures)", the F1 of the domain that holds it best: 1 if they are the same.

    Unlike the other figures it shows whether small kinds have a domain of their own.
    """
    counts = np.zeros((classes.max() + 1, domains.max() + 1))
    np.add.at(counts, (classes, domains), 1)
    sizes = counts.sum(1)
    scores = (2 * counts / (sizes[:, None] + counts.sum(0))).max(1)
    return {
        f"{k} ({size:.0f})": round(float(f1), 3)
        for k, (size, f1) in enumerate(zip(sizes, scores, strict=True))
    }


def config_of(preset: str, domains: int, seed: int) -> Config:
    """The config of PRESET,NAME=VALUE,..., for E alone on one thread of the CPU.

    domains: their number, unless the text sets it.
    """
    name, *changes = preset.split(",")
    overrides: dict[str, Any] = dict(change.split("=", 1) for change in changes)
    config = read_config(name).with_overrides(overrides)
    size = config.data.image_size or 32
    fixed = {"seed": seed, "device": "cpu", "threads": 1, "image_size": size}
    fixed |= {} if "domains" in overrides else {"domains": domains}
    return resolve_machine(config.with_overrides(fixed))


def training_of(config: Config, pictures: Any, folder: str | Path) -> Training:
    """A training that has not started; the benchmark runs its steps."""
    config = suited_to_pictures(config, pictures)
    ready = make_ready(config, pictures, None)
    display = ProgressDisplay(config.schedule.steps, 0, quiet=True)
    return Training(
        config,
        RunFolder(Path(folder)),
        pictures,
        ready.batches,
        ready.state,
        None,
        display,
        LossWindow(0),
        StepFlops(countable=False),
        Watch(pictures, ()),
    )


def with_steps(config: Config, steps: int) -> Config:
    return config.with_overrides(
        {"steps": steps + 1, "guide_only_until": steps, "average_from": steps}
    ).resolved_schedule()


def steps_within(seconds: float, probe: Training) -> int:
    """How many steps of E alone take this many seconds of CPU time. probe: a training of many steps, not used later.

    Steps in which E learns only styles, the first ones, are shorter than the others.
    """
    alone = int(probe.config.schedule.guide_only_until)
    styles = first_step_with_domains(probe.config) / alone
    expected = 0.0  # seconds per step, averaged over both kinds
    for first, share in ((0, styles), (alone - 2 * PROBED, 1 - styles)):
        probe.state.step = first
        one_step(probe)
        began = time.process_time()
        for _ in range(PROBED):
            one_step(probe)
        expected += share * (time.process_time() - began) / PROBED
    return max(MEASUREMENTS, round(seconds / expected))


def domains_of(training: Training) -> np.ndarray:
    """The domain of every picture, as E's EMA predicts it."""
    guide, images, cpu = training.state.networks.guide_average, training.pictures.images, torch.device("cpu")
    with for_whole_pictures(guide, some_whole_pictures(images, cpu)):
        found = guidance_over(guide, in_batches(images, cpu))
    return found.logits.argmax(1).numpy()


def divisions(outputs: GuideOutput, classes: np.ndarray, seed: int) -> dict[str, Any]:
    """The accuracy of each clustering into the number of classes, of the groups on which all of them agree, and of
    those that are joined from pieces. Heads with another number of domains (auto) are measured as they are.
    """
    number = int(classes.max()) + 1
    heads = [probabilities.argmax(1).numpy() for probabilities in outputs.heads]
    codes = repeated_k_means(outputs.styles.numpy(), number, seed)
    features = repeated_k_means(outputs.features.numpy(), number, seed)
    single = {"heads": heads, "k-means on codes": codes, "k-means on features": features}
    for name, cue in outputs.cues.items():
        single[f"k-means on {name}"] = repeated_k_means(cue.numpy(), number, seed)
    groups = {f"agreed {name}": agreed_groups(some, number) for name, some in single.items()}
    groups["agreed"] = agreed_groups([*heads, *codes, *features], number)
    pieces = [k_means_in_pieces(some.numpy(), number, seed) for some in (outputs.styles, outputs.features)]
    groups["joined"] = agreed_groups([*pieces[0], *pieces[1]], number)
    return {
        name: [round(clustering_accuracy(one, classes), 4) for one in some] for name, some in single.items()
    } | {name: round(clustering_accuracy(some, classes), 4) for name, some in groups.items()}


def one_training(preset: str, source: str, seed: int, seconds: float) -> dict[str, Any]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        size = config_of(preset, 2, seed).data.image_size
        packed = pack_pictures(
            Path(source), Path(folder) / "data", PackSettings(size=size, labels="folders"), workers=1
        )
        classes = np.array(packed.labels)
        pictures = dataclasses.replace(packed, labels=np.full(len(classes), -1))
        config = config_of(preset, int(classes.max()) + 1, seed)
        steps = steps_within(seconds, training_of(with_steps(config, 10**6), pictures, folder))
        training = training_of(with_steps(config, steps), pictures, folder)
        looks = []
        began, looking = time.process_time(), 0.0
        for step in range(1, steps + 1):
            if step == steps:
                looked = time.process_time()
                clusterings = divisions(outputs_of(training.state, pictures, training.config), classes, seed)
                looking += time.process_time() - looked
            one_step(training)
            if step % (steps // MEASUREMENTS) == 0 or step == steps:
                spent = time.process_time() - began - looking
                found = domains_of(training)
                row = {"step": step, "seconds": round(spent, 1), "domains": len(np.unique(found))}
                row |= figures(found, classes)
                looks.append(row)
                looking = time.process_time() - began - spent
                print(Path(source).name, preset, f"seed {seed}", row, flush=True)
    return {
        "preset": preset,
        "set": Path(source).name,
        "seed": seed,
        "looks": looks,
        "divisions": clusterings,
        "neighbours by": training.watch.neighbours_by,
    }


def trivial_baselines(source: str) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        packed = pack_pictures(Path(source), Path(folder) / "data", PackSettings(size=32, labels="folders"))
        images, classes = np.array(packed.images), np.array(packed.labels)
    number = int(classes.max()) + 1
    return {
        name: figures(baseline(images, number, 0), classes) for name, baseline in trivial.BASELINES.items()
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation and minimum of the last measurements, by data set and preset."""
    found = {}
    for key in sorted({(row["set"], row["preset"]) for row in rows}):
        last = [row["looks"][-1] for row in rows if (row["set"], row["preset"]) == key]
        one: dict[str, float] = {"seeds": len(last)}
        for name in ("accuracy", "NMI", "purity"):
            values = [look[name] for look in last]
            one |= {name: float(np.mean(values)), f"{name}, std": float(np.std(values))}
            one[f"{name}, lowest"] = min(values)
        found[" ".join(key)] = one
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", help="none: grocery10 and gtsrb10 in $TUNIT_TEST_DATA")
    parser.add_argument("--presets", nargs="+", default=["small", "paper"])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="trainings at a time")
    parser.add_argument("--name", default="domains", help="of the result file")
    parser.add_argument("--quick", action="store_true", help="a few seconds each, to try whether it runs")
    args = parser.parse_args()
    if not args.folders and "TUNIT_TEST_DATA" not in os.environ:
        parser.error(
            "give folders of pictures, or set TUNIT_TEST_DATA to a folder with grocery10 and gtsrb10"
        )
    data = Path(os.environ.get("TUNIT_TEST_DATA", ""))
    args.folders = args.folders or [str(data / name) for name in SETS if (data / name).is_dir()]
    if args.quick:
        args.seconds, args.seeds, args.name = 5, 1, f"{args.name}-quick"
    baselines = {Path(folder).name: trivial_baselines(folder) for folder in args.folders}
    for name, figures in baselines.items():
        print(name, {baseline: round(row["accuracy"], 3) for baseline, row in figures.items()}, flush=True)
    todo = [
        (preset, folder, seed, args.seconds)
        for seed in range(args.first_seed, args.first_seed + args.seeds)
        for folder in args.folders
        for preset in args.presets
    ]
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for future in [pool.submit(one_training, *task) for task in todo]:
            rows.append(future.result())
            result = {"seconds": args.seconds, "trivial": baselines, "summary": summary(rows), "runs": rows}
            path = write(args.name, result)  # after every training, so that an interruption loses only one
    for key, row in summary(rows).items():
        print(key, {name: round(value, 3) for name, value in row.items()})
    print(path)


if __name__ == "__main__":
    main()

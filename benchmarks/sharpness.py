"""How good translations are after equal time, by preset: the error against exact translations, or mFID and coverage.

  python benchmarks/sharpness.py creatures --presets demo demo,r1_weight=0.01 --seconds 240 --seeds 3
  python benchmarks/sharpness.py creatures --pictures 300 --presets demo demo,discriminator_augment=0.5
  python benchmarks/sharpness.py grocery10/ --presets small small,image_size=64 --seconds 300

`creatures` are drawn, and translations of unseen ones are compared with the exact translation, as in the demo. In a
folder with one folder of pictures per class, every fifth picture is held back and translated by the paper's protocol.
E trains alone once for each base preset, set and seed; every training of G and D starts from this E and takes the
given seconds of CPU time in one thread. `NAME,setting=value` changes settings of a preset while G and D train. The
result is one JSON in benchmarks/results/, written after every training; sample pictures lie in --work.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from domains import domains_of, training_of
from machine import write
from tunit.config import Config, read_config
from tunit.data.creatures.picture_set import draw_all, sample_creatures
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.data.packing.packed import PackedPictures
from tunit.demo import PICTURES, TEST_PAIRS, TEST_SEED
from tunit.demo_schedule import average_decay
from tunit.evaluation.clusters import clustering_accuracy
from tunit.evaluation.evaluate import evaluate_model
from tunit.evaluation.intervals import Figure
from tunit.evaluation.result import Labelled
from tunit.evaluation.truth import make_truth_test, translation_error
from tunit.features.feature_networks import load_feature_network
from tunit.methods.findings import note_domains
from tunit.training.in_progress import Training
from tunit.training.resources import resolve_machine
from tunit.training.samples import model_of, write_samples
from tunit.training.trainer import one_step

MEASUREMENTS = 3  # how often translations are measured, at equal intervals
PROBED = 16  # steps from which the time of a step is estimated; in the presets for a CPU, one of them has R1
SHOWN_TERMS = (
    "discriminator/real_sign",
    "discriminator/real",
    "discriminator/fake",
    "discriminator/r1",
    "generator/reconstruction",
)
Measure = Callable[[Training], dict[str, float]]


def config_of(preset: str, seed: int, fixed: dict[str, Any]) -> Config:
    """The config of PRESET,NAME=VALUE,..., on one thread of the CPU."""
    name, *changes = preset.split(",")
    config = read_config(name).with_overrides(fixed | dict(change.split("=", 1) for change in changes))
    size = config.data.image_size or 32
    return resolve_machine(
        config.with_overrides({"seed": seed, "device": "cpu", "threads": 1, "image_size": size})
    )


def with_steps(config: Config, alone: int, joint: int, as_in_demo: bool) -> Config:
    """E alone for this many steps, then `joint` joint steps; the averages have the demo's decay."""
    steps: dict[str, float] = {"steps": alone + joint, "guide_only_until": alone, "average_from": alone + 10}
    if as_in_demo:
        steps |= {"average_decay": average_decay(joint)}
    return config.with_overrides(steps).resolved_schedule()


def creatures_set(number: int, seed: int, size: int, folder: Path) -> tuple[PackedPictures, np.ndarray]:
    """The first `number` of the demo's creatures, and their species."""
    creatures = sample_creatures(number, seed)
    images, _ = draw_all(creatures, size)
    (folder / "png").mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / "png" / f"{i:05d}.png")
    packed = pack_pictures(folder / "png", folder / "data", PackSettings(size=size), workers=1)
    return packed, np.array([c.style.species for c in creatures])


def split_set(source: str, size: int, folder: Path) -> tuple[PackedPictures, Labelled, Labelled]:
    """A folder of classes as three sets: training pictures without labels, the same with labels, held-back ones."""
    packed = pack_pictures(
        Path(source), folder / "data", PackSettings(size=size, labels="folders", fit="crop"), workers=1
    )
    classes = np.array(packed.labels)
    held = np.arange(len(classes)) % 5 == 0
    images, names = np.array(packed.images), [str(k) for k in range(int(classes.max()) + 1)]
    known, held_back = (Labelled(images[rows], classes[rows], names) for rows in (~held, held))
    pictures = dataclasses.replace(
        packed,
        images=images[~held],
        labels=np.full(int((~held).sum()), -1),
        names=[name for name, away in zip(packed.names, held, strict=True) if not away],
    )
    return pictures, known, held_back


def guide_of(
    args: argparse.Namespace, config: Config, pictures: Callable[[], PackedPictures], key: str
) -> dict[str, Any]:
    """The state after E has trained alone; E is trained now unless the state is in --work already."""
    path = Path(args.work) / f"{key}.pt"
    if not path.exists():
        training = training_of(config, pictures(), Path(args.work))
        began = time.process_time()
        while training.state.step < args.alone:
            one_step(training)
        state = training.state
        torch.save(
            {
                "guide": state.networks.guide.state_dict(),
                "guide_average": state.networks.guide_average.state_dict(),
                "optimiser": state.optimisers.guide.state_dict(),
                "queue": state.queue,
                "cursors": state.cursors,
                "seconds": time.process_time() - began,
            },
            path,
        )
    trained: dict[str, Any] = torch.load(path, weights_only=True)
    return trained


def adopt(training: Training, guide: dict[str, Any], step: int) -> None:
    """Continue from the E of `guide` at its step."""
    state = training.state
    state.networks.guide.load_state_dict(guide["guide"])
    state.networks.guide_average.load_state_dict(guide["guide_average"])
    state.optimisers.guide.load_state_dict(guide["optimiser"])
    state.queue, state.cursors, state.step = guide["queue"].clone(), dict(guide["cursors"]), step
    note_domains(state, training.pictures)  # only if the preset has found_domains_weight


def joint_training(
    args: argparse.Namespace,
    preset: str,
    config: Config,
    pictures: PackedPictures,
    guide: dict[str, Any],
    measure: Measure,
    row: dict[str, Any],
) -> dict[str, Any]:
    """Train G and D for the given seconds, and measure at equal intervals."""
    folder = Path(args.work)
    as_in_demo = preset.startswith("demo")
    joint = args.joint
    if not joint:
        probe = training_of(with_steps(config, args.alone, 10**6, as_in_demo), pictures, folder)
        adopt(probe, guide, args.alone)
        one_step(probe)
        began = time.process_time()
        for _ in range(PROBED):
            one_step(probe)
        joint = max(MEASUREMENTS, round(args.seconds * PROBED / (time.process_time() - began)))
    training = training_of(with_steps(config, args.alone, joint, as_in_demo), pictures, folder)
    adopt(training, guide, args.alone)
    looks: list[dict[str, Any]] = []
    began, looking = time.process_time(), 0.0
    for i in range(1, joint + 1):
        one_step(training)
        if i % -(-joint // MEASUREMENTS) == 0 or i == joint:
            spent = time.process_time() - began - looking
            means = training.window.flush(training.state.step, None)
            terms = {name: round(means[name], 4) for name in SHOWN_TERMS if name in means}
            looks.append({"step": i, "seconds": round(spent, 1), **measure(training), **terms})
            print(row["set"], preset, f"seed {row['seed']}", looks[-1], flush=True)
            looking = time.process_time() - began - spent
    samples = write_samples(folder, training.state, pictures, training.config)
    name = preset.replace("/", "-").replace(",", " ")
    samples.rename(folder / f"{row['set']} {row['seed']} {name}.png")
    return row | {"preset": preset, "joint_steps": joint, "looks": looks}


def of_creatures(args: argparse.Namespace, seed: int, rows: list[dict[str, Any]]) -> None:
    base = args.presets[0].split(",")[0]
    with tempfile.TemporaryDirectory() as folder:
        size = config_of(base, seed, {}).data.image_size
        origin = seed if args.guide_seed is None else args.guide_seed
        pictures, species = creatures_set(args.pictures, origin, size, Path(folder) / "own")
        wide = args.guide_pictures or args.pictures

        def pictures_of_guide() -> PackedPictures:
            return (
                pictures
                if wide == args.pictures
                else creatures_set(wide, origin, size, Path(folder) / "wide")[0]
            )

        fixed = {"domains": int(species.max()) + 1}
        alone = with_steps(config_of(base, origin, fixed), args.alone, 1000, base == "demo")
        guide = guide_of(
            args, alone, pictures_of_guide, f"creatures-{wide}-{Path(base).name}-{args.alone}-{origin}"
        )
        test = make_truth_test(TEST_PAIRS, size, origin + TEST_SEED)

        def measure(training: Training) -> dict[str, float]:
            result = translation_error(model_of(training.state, training.pictures, training.config), test)
            accuracy = clustering_accuracy(domains_of(training), species)
            return {"ratio": round(result.ratio, 4), "accuracy": round(accuracy, 4)}

        row = {"set": f"creatures-{args.pictures}", "seed": seed, "guide_seconds": guide["seconds"]}
        for preset in args.presets:
            config = config_of(preset, seed, fixed)
            rows.append(joint_training(args, preset, config, pictures, guide, measure, row))
            save(args, rows)


def of_folder(args: argparse.Namespace, seed: int, rows: list[dict[str, Any]]) -> None:
    base = args.presets[0].split(",")[0]
    network = load_feature_network("random-vgg16")
    with tempfile.TemporaryDirectory() as folder:
        size = config_of(args.presets[0], seed, {}).data.image_size
        pictures, real, held = split_set(args.set, size, Path(folder))
        fixed = {"domains": len(real.names), "image_size": size}
        origin = seed if args.guide_seed is None else args.guide_seed
        alone = with_steps(config_of(base, origin, fixed), args.alone, 1000, base == "demo")
        key = f"{Path(args.set).name}-{size}-{Path(base).name}-{args.alone}-{origin}"
        guide = guide_of(args, alone, lambda: pictures, key)

        def measure(training: Training) -> dict[str, float]:
            if training.state.step < training.config.schedule.steps:
                return {}  # mFID takes too long to be measured often
            model = model_of(training.state, training.pictures, training.config)
            found = evaluate_model(
                model,
                held,
                real,
                network,
                most_sources=args.sources,
                beside_trivial=False,
                cache=Path(args.work) / "features",
            )
            names = ("mFID", "mean density", "mean coverage", "reference's domain reached", "accuracy")
            values = {name: found.figures[name] for name in names if name in found.figures}
            plain = {name: v.value if isinstance(v, Figure) else v for name, v in values.items()}
            return {name: round(v, 4) for name, v in plain.items()}

        row = {"set": f"{Path(args.set).name}-{size}", "seed": seed, "guide_seconds": guide["seconds"]}
        for preset in args.presets:
            config = config_of(preset, seed, fixed)
            rows.append(joint_training(args, preset, config, pictures, guide, measure, row))
            save(args, rows)


def save(args: argparse.Namespace, rows: list[dict[str, Any]]) -> Path:
    return write(args.name, {"seconds": args.seconds, "alone": args.alone, "runs": rows})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", help="creatures, or a folder with a folder of pictures for each class")
    parser.add_argument("--presets", nargs="+", default=["demo"])
    parser.add_argument("--pictures", type=int, default=PICTURES, help="how many creatures")
    parser.add_argument(
        "--guide-pictures", type=int, default=0, help="creatures that E learnt from, if others"
    )
    parser.add_argument("--alone", type=int, default=460, help="steps of E alone")
    parser.add_argument("--seconds", type=float, default=240, help="of G and D")
    parser.add_argument(
        "--joint", type=int, default=0, help="number of steps of G and D, whatever time they take"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--guide-seed", type=int, help="of the pictures and E; those of G and D unless given")
    parser.add_argument("--sources", type=int, default=60, help="pictures translated into each class")
    parser.add_argument(
        "--work", default="/tmp/sharpness", help="folder of trained guides and sample pictures"
    )
    parser.add_argument("--name", default="sharpness", help="of the result file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    Path(args.work).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        (of_creatures if args.set == "creatures" else of_folder)(args, seed, rows)


if __name__ == "__main__":
    main()

"""The gain from labels given in the studio's page Teach: accuracy before and after training continues with them.

  python benchmarks/teach.py RUN grocery10/ --given 5 --steps 200 --seeds 2

RUN was trained on the folder, which has one folder of pictures per class; the training did not use the classes. The
benchmark simulates a person who names each domain after its most frequent class, merges domains of the same class,
adds domains for classes without one, and labels `--given` random pictures of each class. All of this uses the
studio's own labels and its own command for training. Accuracy is measured on the pictures without a person's label:
before by the best matching of domains and classes, after by the names of domains, without any matching. The result is
one JSON in benchmarks/results/.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from machine import write
from tunit.data.packing.packed import open_packed
from tunit.evaluation.clusters import clustering_accuracy
from tunit.methods.inference import guidance_over, in_batches
from tunit.methods.model_file import load_model
from tunit.studio.command_lines import FewLabels
from tunit.studio.labels import PERSON, ModelOutput, RunLabels, rows_of
from tunit.training.run_folder import RunFolder, label_names


def answers(run: Path) -> tuple[ModelOutput, Any]:
    """The model's domain for each of the run's pictures, and its confidence."""
    import torch

    model = load_model(run, torch.device("cpu"))
    packed = open_packed(RunFolder(run).data, verify=False)
    guidance = guidance_over(model.guide, in_batches(packed.images, torch.device("cpu")))
    sure, domains = guidance.logits.softmax(1).max(1)
    return ModelOutput(
        packed.names, domains.tolist(), sure.tolist(), guidance.logits.shape[1], model.step
    ), domains


def teach(labels: RunLabels, classes: list[str], given: int, seed: int) -> dict[str, int]:
    """Simulate the person. Returns the number of actions of each kind."""
    used: dict[str, int] = {}

    def do(what: str, **values: Any) -> Any:
        used[what] = used.get(what, 0) + 1
        return labels.act({"do": what, **values}, labels.state().number).assignment

    assignment = labels.state().assignment
    domain_of: dict[str, int] = {}
    for domain, members in assignment.members().items():
        if not members:
            continue
        kinds, counts = np.unique([classes[i] for i in members], return_counts=True)
        kind = str(kinds[counts.argmax()])
        if kind in domain_of:
            do("merge", domains=[domain], into=domain_of[kind])
        else:
            do("name", domain=domain, name=kind)
            domain_of[kind] = domain
    rng = np.random.default_rng(seed)
    for kind in sorted(set(classes)):
        if kind not in domain_of:
            assignment = do("add", name=kind)
            domain_of[kind] = max(assignment.names)
        members = [i for i, other in enumerate(classes) if other == kind]
        do("give", pictures=[int(i) for i in rng.permutation(members)[:given]], domain=domain_of[kind])
    return used


def trial(
    run: Path, folder: Path, out: Path, given: int, steps: int, seed: int, extra: list[str]
) -> dict[str, Any]:
    output, domains = answers(run)
    classes = [name.split("/")[0] for name in output.names]
    labels = RunLabels(
        out / "teacher", output, lambda: {name: folder.resolve() / name for name in output.names}
    )
    used = teach(labels, classes, given, seed)
    now = labels.write_table()
    rows = rows_of(now, output.names)
    said = {name for name, _, by in rows if by == PERSON}
    by_model = [(name, label) for name, label, by in rows if by not in (PERSON, "")]
    live = [k for k, members in now.assignment.members().items() if members]
    order = FewLabels(labels.table, run, out / "run", steps, len(live), seed)
    command = [*order.command(), "--threads", "1", "--workers", "1", "--sample-every", "0", *extra]
    subprocess.run(command, check=True)
    after, _ = answers(out / "run")
    names = label_names(out / "run")
    found = {name.removeprefix("/"): names[k] for name, k in zip(after.names, after.found, strict=True)}
    prefix = f"{folder.resolve()}/".removeprefix("/")
    truth = dict(zip(output.names, classes, strict=True))
    unsaid = [i for i, name in enumerate(output.names) if name not in said]
    number = {kind: i for i, kind in enumerate(sorted(set(classes)))}
    true_numbers = np.array([number[classes[i]] for i in unsaid])
    was = now.assignment
    return {
        "seed": seed,
        "actions": used,
        "pictures": len(classes),
        "by a person": len(said),
        "by the model": len(by_model),
        "of these right": sum(truth[name] == label for name, label in by_model),
        "before": clustering_accuracy(domains.numpy()[unsaid], true_numbers),
        "named and merged, before training": sum(was.label(was.domain_of(i)) == classes[i] for i in unsaid)
        / len(unsaid),
        "after": sum(_of(found, prefix, output.names[i]) == classes[i] for i in unsaid) / len(unsaid),
        "command": [word.replace(str(out), "OUT") for word in command[4:]],
    }


def _of(found: dict[str, str], prefix: str, name: str) -> str | None:
    return next((found[key] for key in (name, prefix + name) if key in found), None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--given", type=int, default=5, help="pictures of each class")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--name", default="teach")
    args, extra = parser.parse_known_args()  # all other options are for tunit train
    results: list[dict[str, Any]] = []
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as out:
            results.append(trial(args.run, args.folder, Path(out), args.given, args.steps, seed, extra))
        write(args.name, {"run": args.run.name, "given": args.given, "steps": args.steps, "trials": results})
        print(results[-1], flush=True)


if __name__ == "__main__":
    main()

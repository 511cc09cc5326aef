"""How well outlier scores tell off-topic pictures: pictures of one folder are put among those of another.

  python benchmarks/off_topic.py grocery10=FOLDER gtsrb10=FOLDER imagewoof10=FOLDER

Each folder holds pictures in any subfolders. For each two folders, NUMBER random pictures of the second are put among
all of the first. AUROC is the chance that an off-topic picture has a higher score than another one; "flagged" is how
many of both have a score of 0.5 or more. No model is trained: the scores come from simple cues of the pictures.
"""

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from machine import write
from tunit.clustering.outliers import OFF_TOPIC, appearance, outlier_scores
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings


def appearances_of(folder: Path, size: int, packed: Path) -> np.ndarray:
    """The appearance of each picture in a folder at this size: (N, width)."""
    return appearance(pack_pictures(folder, packed, PackSettings(size)).images)


def figures(topic: np.ndarray, others: np.ndarray, number: int, seeds: int) -> dict[str, Any]:
    """Scores of all of `topic` with `number` of the others, for several random choices of these."""
    certainty, flagged = [], []
    for seed in range(seeds):
        some = np.random.default_rng(seed).permutation(len(others))[:number]
        scores = outlier_scores(np.concatenate([topic, others[some]]))
        off = np.arange(len(scores)) >= len(topic)
        certainty.append(round(float(roc_auc_score(off, scores)), 3))
        flagged.append([int((scores[rows] >= OFF_TOPIC).sum()) for rows in (off, ~off)])
    return {
        "pictures": len(topic),
        "off-topic": number,
        "AUROC": certainty,
        "flagged, of the off-topic and of the others": flagged,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--number", type=int, default=40, help="of off-topic pictures")
    parser.add_argument("--size", type=int, default=32, help="in px, of the pictures")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        known = {}
        for word in args.folders:
            name, _, folder = word.partition("=")
            known[name] = appearances_of(Path(folder), args.size, Path(work, name))
        result: dict[str, Any] = {"size": args.size}
        for one, other in itertools.permutations(known, 2):
            result[f"{one}, {other} among them"] = figures(known[one], known[other], args.number, args.seeds)
            print(f"{one}, {other} among them: {result[f'{one}, {other} among them']}", flush=True)
    print(write("off-topic", result))


if __name__ == "__main__":
    main()

"""Which simple cues separate the kinds of pictures, and does tunit know without labels?

  python benchmarks/cues.py grocery10/ gtsrb10/ --size 32

Each folder holds one folder of pictures for each class. For every cue, and every two cues together: the share of a
picture's five nearest pictures that have its class (which needs the classes), and what needs none: the distance of
the graph of neighbours from separate groups, and its ratio to the one by chance (with --auto, for several numbers of
groups), where chance is points with as many dimensions, or these and points with the same covariance. The chosen cues
have the smallest ratio. The result is one JSON in benchmarks/results/.
"""

import argparse
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from machine import write
from tunit.clustering.colours import settings_by_colours
from tunit.clustering.graph import GRAPH_NEIGHBOURS, distances_from_separate_groups
from tunit.clustering.measures import MeasureComparison, reduced_cues
from tunit.clustering.neighbours import NUMBERS, find_neighbours
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import PackSettings
from tunit.methods.neighbourhood import MOST_GROUPS

NEAREST = 5  # neighbours whose classes are compared with that of the picture


def measured(folder: Path, size: int, known: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as packed:
        pictures = pack_pictures(folder, Path(packed) / "data", PackSettings(size=size, labels="folders"))
        images, classes = np.array(pictures.images), np.array(pictures.labels)
    groups = [min(int(classes.max()) + 1, MOST_GROUPS)] if known else NUMBERS
    cues = reduced_cues(images)
    compared, rows = MeasureComparison(cues, groups), {}
    for names in [*([name] for name in cues), *map(list, combinations(cues, 2))]:
        neighbours = find_neighbours([cues[name] for name in names], GRAPH_NEIGHBOURS)
        same = classes[neighbours[:, :NEAREST].numpy()] == classes[:, None]
        rows[" and ".join(names)] = {
            "same class": round(float(same.mean()), 3),
            "distances": [round(one, 3) for one in distances_from_separate_groups(neighbours, groups)],
            "ratio by dimension": round(compared.least_ratio(names), 3),
            "ratio": round(compared.ratio(names), 3),
        }
    settings = settings_by_colours(images, groups)
    return {"groups": groups, "best": compared.best(cues), "settings": settings, "cues": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=32, help="of the pictures, px")
    parser.add_argument(
        "--auto", action="store_true", help="the number of classes is not known, as with --domains auto"
    )
    parser.add_argument("--name", default="cues", help="of the result file")
    args = parser.parse_args()
    found = {}
    for folder in args.folders:
        found[folder.name] = measured(folder, args.size, not args.auto)
        print(folder.name, found[folder.name], flush=True)
    print(write(args.name, found))


if __name__ == "__main__":
    main()

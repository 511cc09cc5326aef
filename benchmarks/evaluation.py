"""Density and coverage against the prdc package, and FID's distance step against scipy's matrix root, in one run.

python benchmarks/evaluation.py [--pictures 10000] [--width 2048]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from prdc import compute_prdc
from scipy import linalg

from machine import write
from tunit.evaluation.density_coverage import neighbourhoods
from tunit.evaluation.distances import FeatureMoments, frechet_distance


def timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def scipy_distance(a: FeatureMoments, b: FeatureMoments) -> float:
    """The usual formula, with the general root of a product that is not symmetric."""
    first, second = a.covariance.numpy(), b.covariance.numpy()
    root = linalg.sqrtm(first @ second)
    means = float((a.mean - b.mean).square().sum())
    return means + float(np.trace(first) + np.trace(second) - 2 * np.trace(root).real)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=2_048)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    # Like features of pictures, these have a low intrinsic dimension; so most figures are neither 0 nor 1.
    mixing = rng.normal(size=(24, args.width))
    real, fake = (
        (
            rng.normal(size=(args.pictures, 24)) @ mixing + 0.3 * rng.normal(size=(args.pictures, args.width))
        ).astype(np.float32)
        for _ in range(2)
    )
    a, b = torch.from_numpy(real), torch.from_numpy(fake)
    ours_dc, theirs_dc, ours_fid, theirs_fid = [], [], [], []
    figures: dict[str, float] = {}
    expected: dict[str, float] = {}

    def ours() -> None:
        near = neighbourhoods(a, b, recall=False)
        figures.update(density=float(near.density.mean()), coverage=float(near.coverage.mean()))

    def theirs() -> None:
        expected.update(compute_prdc(real, fake, nearest_k=5))

    moments = FeatureMoments().add(a), FeatureMoments().add(b)
    distances: dict[str, float] = {}
    for i in range(args.repeats):
        ours_dc.append(timed(ours))
        if i == 0:
            theirs_dc.append(timed(theirs))
        ours_fid.append(timed(lambda: distances.update(ours=frechet_distance(*moments))))
        if i == 0:
            theirs_fid.append(timed(lambda: distances.update(scipy=scipy_distance(*moments))))
    result = {
        "pictures": args.pictures,
        "width": args.width,
        "density and coverage": {
            "tunit, seconds": ours_dc,
            "prdc, seconds": theirs_dc,
            "times as fast": theirs_dc[0] / statistics.median(ours_dc),
            "tunit": figures,
            "prdc": {name: float(expected[name]) for name in ("density", "coverage")},
        },
        "FID's distance step": {
            "tunit, seconds": ours_fid,
            "scipy.linalg.sqrtm, seconds": theirs_fid,
            "times as fast": theirs_fid[0] / statistics.median(ours_fid),
            **distances,
        },
    }
    path = write("evaluation", result)
    print(path.read_text())


if __name__ == "__main__":
    main()

"""Bad input by the thousand: random damage with seeds, hypothesis, and atheris if it is installed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from soak.children import finish
from soak.hostile import Hostile
from soak.ledger import FailedInputs

TESTS = Path(__file__).parents[1]


def damaged(name: str, folder: Path, kept: Path, first: int, seconds: float) -> dict[str, object]:
    """Examples of one kind of file, damaged at random with the seeds `first`, `first` + 1, ...

    Raises FailedInputs; an input that fails is copied into `kept`.
    """
    record = folder.with_suffix(".tried")

    def work() -> int:
        hostile = Hostile(name, folder, kept)
        hostile.whole()
        record.write_text(str(hostile.run(first, seconds)))
        return 0

    child = finish(work, folder.with_suffix(".log"))  # in a separate process, because a decoder may crash it
    if child.code != 0:
        crashed = [path for path in folder.rglob("*") if path.is_file() and not path.stem.isdecimal()]
        for path in crashed:  # the decoder ended the process, so nobody has removed its input
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, kept / f"{name.replace(' ', '-')}-crashed-{first}{path.suffix}")
        raise FailedInputs(
            f"seeds from {first}: exit code {child.code}: {child.said[-3000:]}", sorted(kept.glob("*"))
        )
    return {"inputs": int(record.read_text()), "first seed": first}


def by_coverage(name: str, folder: Path, kept: Path, seed: int, seconds: float) -> dict[str, object]:
    """Inputs that atheris finds by code coverage. Raises FailedInputs; an input that fails is copied into `kept`."""
    words = [sys.executable, str(TESTS / "soak" / "coverage_guided.py"), name, str(folder), str(kept)]
    words += [f"-max_total_time={seconds:.0f}", f"-seed={seed}"]
    job = subprocess.run(words, capture_output=True, text=True, env=_environment())
    if job.returncode != 0:
        said = job.stderr.partition("=== Uncaught Python exception: ===")[2] or job.stderr
        raise FailedInputs(f"seed {seed}: {said[:1500]} ... {said[-500:]}", sorted(kept.glob("*")))
    done = re.search(r"Done (\d+) runs", job.stderr)
    cover = re.findall(r"cov: (\d+)", job.stderr)
    return {
        "inputs": int(done[1]) if done else 0,
        "seed": seed,
        "places of the code reached": int(cover[-1]) if cover else 0,
    }


def has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def by_hypothesis(file: str, inputs: int) -> dict[str, object]:
    """Runs the hypothesis tests of a file with more inputs than usual."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        str(TESTS / file),
        "-k",
        "any",
    ]
    environment = _environment() | {"TUNIT_HOSTILE_INPUTS": str(inputs)}
    job = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=TESTS.parent)
    assert job.returncode == 0, job.stdout[-3000:]
    return {"inputs": inputs}


def _environment() -> dict[str, str]:
    paths = [str(TESTS), str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

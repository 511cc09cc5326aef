"""The C code, compiled by other compilers, for every vector width, and with sanitizers."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tunit import native

ROOT = Path(__file__).parents[2]
CHECKS = Path(__file__).with_name("checked_operators.py")
FLAGS = ["-shared", "-fPIC", "-O1", "-fopenmp", "-fno-math-errno", "-Wno-psabi"]
SANITIZERS = ["-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


# The system's headers are for this CPU; to compile for another one, these declarations suffice.
HEADERS = {
    "stdlib.h": "#define NULL ((void *)0)\nvoid *calloc(__SIZE_TYPE__, __SIZE_TYPE__); void free(void *);",
    "math.h": "float sqrtf(float);",
    "omp.h": "int omp_get_thread_num(void); int omp_get_num_threads(void);",
}


def sources() -> list[str]:
    """The C files that are compiled at installation."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (extension,) = settings["tool"]["setuptools"]["ext-modules"]
    found: list[str] = extension["sources"]
    return found


def build(folder: Path, compiler: str, *flags: str) -> Path:
    """The library, compiled by `compiler` from the same sources as at installation."""
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler} here")
    library = folder / "library.so"
    command = [compiler, *FLAGS, *flags, "-o", str(library), *sources(), "-lm"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library


def check(library: Path, **environment: str) -> None:
    """Runs every operator of `library` in a separate process."""
    done = subprocess.run(
        [sys.executable, str(CHECKS), str(library), "2"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize(
    ("compiler", "vectors"), [("gcc", 4), ("gcc", 8), ("gcc", 16), ("clang", None)], ids=str
)
def test_every_compiler_and_vector_width_computes_the_same(tmp_path, compiler, vectors):
    library = build(tmp_path, compiler, *([] if vectors is None else [f"-DTUNIT_VECTORS={vectors}"]))
    loaded = native.load(str(library))
    if loaded is None and vectors in (8, 16):
        pytest.skip(f"this CPU has no vectors of {vectors} floats")
    assert loaded is not None
    assert vectors in (None, loaded.tunit_vectors())
    check(library)


def test_sanitizers_find_no_memory_errors_and_no_undefined_behaviour(tmp_path):
    library = build(tmp_path, "gcc", *SANITIZERS)
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("gcc has no address sanitizer here")
    check(library, LD_PRELOAD=runtime, ASAN_OPTIONS="detect_leaks=0")


@pytest.mark.parametrize("target", ["aarch64-linux-gnu", "arm64-apple-macos"])
def test_it_compiles_for_arm(tmp_path, target):
    """To assembler, with vectors; it is not run, because this CPU cannot."""
    if not shutil.which("clang"):
        pytest.skip("there is no clang here")
    for name, text in HEADERS.items():
        (tmp_path / name).write_text(text + "\n")
    vectors = 0
    for source in sources():
        code = tmp_path / "code.s"
        command = ["clang", f"--target={target}", "-O1", "-fopenmp", "-nostdlibinc", "-Wno-psabi"]
        command += ["-isystem", str(tmp_path), "-S", "-o", str(code), source]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        vectors += code.read_text().count("fmla")
    assert vectors > 0

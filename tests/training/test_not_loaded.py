"""What a training does not load: it trains without rich and tensorboardX, and leaves PyTorch's compiler alone."""

import subprocess
import sys

import pytest

from tiny_run import flags, write_pictures

WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rich", "tensorboardX"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from tunit.cli import main
code = main(sys.argv[1:])
print("loaded", *{"torch._dynamo", "sympy", "sklearn"} & set(sys.modules))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with steps of both phases, and the finished process."""
    folder = tmp_path_factory.mktemp("without")
    words = ["train", str(write_pictures(folder / "pictures")), "--out", str(folder / "run")]
    words += ["--preset", "paper", *flags(steps=3, guide_only_until=1, average_from=1), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words], capture_output=True, text=True, timeout=300
    )
    return folder / "run", done


def test_training_needs_neither_rich_nor_tensorboardX(trained):
    run, done = trained
    assert done.returncode == 0, done.stderr
    assert (run / "metrics.jsonl").read_text().count("\n") == 1


def test_a_training_that_is_not_compiled_does_not_import_the_compiler(trained):
    """It would double the time until the first step."""
    assert trained[1].stdout.split() == ["loaded"]

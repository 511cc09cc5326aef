"""Training with --quiet if rich and tensorboardX are not installed."""

import subprocess
import sys

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
sys.exit(main(sys.argv[1:]))
"""


def test_training_needs_neither_rich_nor_tensorboardX(tmp_path):
    source = write_pictures(tmp_path / "pictures")
    words = ["train", str(source), "--out", str(tmp_path / "run"), "--preset", "paper", *flags(steps=2)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words, "--quiet"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 1

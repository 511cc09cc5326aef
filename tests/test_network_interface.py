"""The network interface of processes that train together."""

import subprocess
import sys

# Python puts None into sys.modules for a module that must not be found.
WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None
import tunit.demo, tunit.reporting.write, tunit.training.launch, tunit.translation.translator
"""


def test_windows_which_has_no_fcntl_can_import_everything():
    done = subprocess.run([sys.executable, "-c", WITHOUT_FCNTL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

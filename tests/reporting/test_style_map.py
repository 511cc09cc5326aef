"""The map of pictures by their style codes."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from tunit.reporting.style_map import laid_out, spread

# In a process of its own: where t-SNE meets NaN, the whole process is ended by the system.
EQUAL_CODES = """
import torch
from tunit.reporting.style_map import laid_out
points, rows = laid_out(torch.{codes}, 0)
assert points.tolist() == [[number / 9, 0] for number in range(10)], points
assert rows.tolist() == list(range(10)), rows
"""


@pytest.mark.parametrize("codes", ["zeros(10, 8)", "ones(10, 8)", "ones(10, 1)"])
def test_pictures_of_one_style_are_in_a_row(codes):
    """E of a collapsed training gives every picture the same code."""
    done = subprocess.run(
        [sys.executable, "-c", EQUAL_CODES.format(codes=codes)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_styles_of_one_number_are_laid_out():
    """After normalisation such a code is 1 or -1, so the two kinds must be apart on the map."""
    styles = torch.tensor([1.0, -2.0] * 10)[:, None]
    points, rows = laid_out(styles, 0)
    assert points.shape == (20, 2)
    assert np.isfinite(points).all()
    assert points.min() == 0
    assert points.max() == 1
    assert np.isfinite(spread(styles, points, rows)).all()
    ones, others = points[::2], points[1::2]
    middles = np.linalg.norm(ones.mean(0) - others.mean(0))
    assert middles > np.linalg.norm(ones - ones.mean(0), axis=1).max()
    assert middles > np.linalg.norm(others - others.mean(0), axis=1).max()

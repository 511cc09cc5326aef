"""The dtype of what bfloat16 would round too much."""

import pytest
import torch

from tunit.networks.precision import at_least_float32


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_only_float64_stays_wider_than_float32(own, wanted):
    assert at_least_float32(torch.zeros(1, dtype=own)) == wanted

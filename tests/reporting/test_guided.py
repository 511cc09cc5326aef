"""How many pictures of a run a report uses."""

import pytest

from tunit.reporting.guided import number_looked_at


@pytest.mark.parametrize(
    ("there", "side", "expected"),
    [(40, 256, 40), (10_000, 32, 5_000), (10_000, 64, 5_000), (10_000, 128, 1_250), (10_000, 512, 500)],
)
def test_of_large_pictures_fewer_are_used(there: int, side: int, expected: int) -> None:
    assert number_looked_at(there, side) == expected

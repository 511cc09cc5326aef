"""Fixtures for the tests of several commands."""

import pytest

from tiny_model import save_tiny, write


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a tiny model."""
    folder = tmp_path_factory.mktemp("run")
    save_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """28 pictures in two class folders."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(28):
        write(folder / ("even" if seed % 2 == 0 else "odd") / f"{seed}.png", seed)
    return folder

"""The tiny model and its translator, shared by the tests of a file."""

import pytest

from tiny_model import tiny_model
from tunit.translation.translator import Translator


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def translator(model):
    return Translator(model)

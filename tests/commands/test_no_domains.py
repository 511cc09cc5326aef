"""A model of a method that learns no domains (FUNIT) tells the domain of no picture."""

import pytest

from tiny_model import noise, save_tiny_funit
from tunit.cli import main
from tunit.errors import ConfigError
from tunit.translation.translator import Translator

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_model_that_tells_no_domains_is_refused(pictures, tmp_path, capsys):
    save_tiny_funit(tmp_path / "run")
    assert main(["domains", str(tmp_path / "run"), str(pictures)]) == 2
    assert "a model of method 'funit' does not tell the domain of a picture" in capsys.readouterr().err
    assert not (tmp_path / "run" / "domains").exists()
    translator = Translator.load(tmp_path / "run", device="cpu")
    for ask in (translator.domains, translator.classify):
        with pytest.raises(ConfigError, match="method 'funit' does not tell the domain"):
            ask(noise(1))

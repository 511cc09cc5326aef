"""The examples of the documentation run, from top to bottom, as they stand there."""

import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tunit
from tiny_model import save_tiny, write
from tiny_run import TINY, write_pictures
from tunit.cli import main
from tunit.config import Config

DOCS = Path(__file__).parent.parent / "docs"
pytestmark = pytest.mark.usefixtures("one_thread")


def examples_of(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The present folder, with what the examples name."""
    save_tiny(tmp_path / "runs" / "cats")
    for seed, name in enumerate(("me.jpg", "tiger.jpg", "a.jpg", "b.jpg")):
        write(tmp_path / name, seed, 40, 50)
    write_pictures(tmp_path / "photos", 14)
    write_pictures(tmp_path / "held_back", 8, seed=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_api(folder, monkeypatch, capsys):
    changed = Config.with_overrides
    monkeypatch.setattr(Config, "with_overrides", lambda self, given: changed(self, given | TINY))
    examples = examples_of("api.md")
    for example in examples:
        exec(compile(example, "docs/api.md", "exec"), {})
    assert (folder / "runs" / "mine" / "report.html").is_file()
    assert "says: nowhere" in capsys.readouterr().out
    text = "\n".join(examples)
    assert [name for name in tunit.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_no_public_name_is_that_of_a_module_which_would_hide_it():
    assert {module.name for module in pkgutil.iter_modules(tunit.__path__)} & set(tunit.__all__) == set()


def test_the_examples_of_exported_models(folder):
    """They need no tunit, and their translations are the translator's."""
    run = folder / "runs" / "cats"
    assert main(["export", str(run), "--out", "cats-onnx"]) == 0
    known: dict[str, object] = {}
    for example in examples_of("export.md"):
        imported = re.findall(r"^(?:import|from) (\w+)", example, re.MULTILINE)
        assert set(imported) <= {"json", "pathlib", "numpy", "onnxruntime", "PIL"}
        exec(compile(example, "docs/export.md", "exec"), known)
    translator = tunit.Translator.load(run)
    for name, style in (
        ("as-tiger.png", {"reference": "tiger.jpg"}),
        ("as-domain-2.png", {"domain": 2, "strength": 0.7}),
    ):
        with Image.open(folder / name) as image:
            shown = np.asarray(image).astype(int)
        assert np.abs(shown - np.asarray(translator.translate("me.jpg", **style)).astype(int)).max() <= 1
    assert known["domain"] == translator.classify("me.jpg").domains.item()

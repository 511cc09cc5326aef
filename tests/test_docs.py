"""The examples of the documentation run, from top to bottom, as they stand there."""

import re
from pathlib import Path

import pytest

import tunit
from tiny_model import save_tiny, write
from tiny_run import TINY, write_pictures
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


def test_report_stays_a_function_when_its_package_is_imported():
    import tunit.report.write
    from tunit import report

    with pytest.raises(tunit.RunError, match="nowhere"):
        report("nowhere")

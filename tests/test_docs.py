"""The examples in the documentation run, from top to bottom, exactly as printed; its commands are valid."""

import json
import pkgutil
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import github_markdown
import tunit
from tiny_model import save_tiny, write
from tiny_run import TINY, write_pictures
from tunit.cli import COMMANDS, build_parser, main
from tunit.config import Config
from tunit.errors import TunitError

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "EXPERIMENTS.md"])
RUN_ELSEWHERE = {"methods.md"}  # tested in tests/methods/test_registry.py
pytestmark = pytest.mark.usefixtures("one_thread")


def examples_of(page: str) -> list[str]:
    (path,) = (path for path in PAGES if path.name == page)
    return re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the files that the examples name."""
    save_tiny(tmp_path / "runs" / "cats")
    for seed, name in enumerate(("me.jpg", "tiger.jpg", "a.jpg", "b.jpg", "c.jpg")):
        write(tmp_path / name, seed, 40, 50)
    write_pictures(tmp_path / "photos", 14)
    write_pictures(tmp_path / "new_pictures", 12, seed=2)
    write_pictures(tmp_path / "held_back", 8, seed=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples(folder, monkeypatch, capsys):
    """The API's examples run first, because they train runs/mine; then those of all other pages."""
    changed = Config.with_overrides
    monkeypatch.setattr(Config, "with_overrides", lambda self, given: changed(self, given | TINY))
    pages = [page for page in PAGES if page.name not in {"api.md", "export.md", *RUN_ELSEWHERE}]
    for page in (DOCS / "api.md", *pages):
        for example in examples_of(page.name):
            exec(compile(example, page.name, "exec"), {})
    assert (folder / "runs" / "mine" / "report.html").is_file()
    assert (folder / "walk.gif").is_file()
    assert (folder / "runs" / "tuned" / "model.safetensors").is_file()
    assert "says: nowhere" in capsys.readouterr().out


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "architecture.md"])
def test_modules_named_in_the_tables_of_modules_exist(page):
    found = re.findall(
        r"`([a-z_]+/[a-z_/0-9]*(?:\.py)?)`", page.read_text("utf-8").partition("| look at |")[2]
    )
    assert len(found) > 15
    assert [path for path in found if not (ROOT / "src" / "tunit" / path).exists()] == []


def test_every_public_name_has_an_example():
    text = "\n".join(examples_of("api.md"))
    assert [name for name in tunit.__all__ if not re.search(rf"\b{name}\b", text)] == []
    methods = [name for name in vars(tunit.Translator) if not name.startswith("_")]
    assert [name for name in methods if not re.search(rf"\.{name}\b", text)] == []


def test_the_notebook(tmp_path, monkeypatch):
    """Its cells run from top to bottom; the file contains no output of cells."""
    cells = json.loads((DOCS / "first-steps.ipynb").read_text("utf-8"))["cells"]
    programs = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in programs)
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    text = "\n".join("".join(cell["source"]) for cell in programs)
    shorter, times = re.subn(r"^STEPS = \d+", "STEPS = 9", text, flags=re.MULTILINE)
    assert times == 1
    known: dict[str, object] = {}
    exec(compile(shorter, "first-steps.ipynb", "exec"), known)
    assert (tmp_path / "walk.gif").is_file()
    assert len(known["rows"]) == 150
    assert 0 < known["accuracy"] <= 1


def commands_of(page: Path) -> list[str]:
    """The calls of tunit in a page's code blocks, each on one line."""
    found = []
    for prose, lines in github_markdown.prose_and_code(page.read_text("utf-8")):
        if prose or lines[0].strip("` ") not in ("", "bash", "console", "sh"):
            continue
        text = "\n".join(lines[1:-1]).replace("\\\n", " ")
        found += re.findall(r"^\$? ?(?:\w+=\S+ )*(?:torchrun .* -m )?(tunit .*)$", text, re.MULTILINE)
    return found


@pytest.fixture(scope="module")
def parser():
    return build_parser()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_code_blocks_are_valid(page, parser, capsys):
    for command in commands_of(page):
        try:
            parser.parse_args(shlex.split(command, comments=True)[1:])
        except (SystemExit, TunitError) as error:
            pytest.fail(f"{command}: {capsys.readouterr().err or error}")


def test_flags_of_commands_in_sentences_exist(parser):
    (subparsers,) = (action for action in parser._actions if isinstance(action.choices, dict))
    unknown = []
    for page in PAGES:
        for prose, lines in github_markdown.prose_and_code(page.read_text("utf-8")):
            text = " ".join(lines) if prose else ""
            for name, rest in re.findall(r"`tunit (\w+)((?: [^`]*)?)`", text):
                flags = subparsers.choices[name]._option_string_actions if name in COMMANDS else {}
                given = re.findall(r" (--[a-z][\w-]*)", rest)
                unknown += [(page.name, name, flag) for flag in given if flag not in flags]
                unknown += [(page.name, name)] * (name not in COMMANDS)
    assert unknown == []


OF_OTHER_PROGRAMS = {
    "--build-arg",
    "--gpus",
    "--inputs",  # of the soak
    "--local-addr",
    "--nnodes",
    "--rdzv-conf",
    "--rdzv-endpoint",
    "--rdzv-id",
    "--shutdown-timeout",
    "--tiny",
    "--user",
}


def test_flags_named_alone_exist(parser):
    (subparsers,) = (action for action in parser._actions if isinstance(action.choices, dict))
    known = {flag for command in subparsers.choices.values() for flag in command._option_string_actions}
    unknown = set()
    for page in PAGES:
        for prose, lines in github_markdown.prose_and_code(page.read_text("utf-8")):
            spans = re.findall(r"`(--[^`]+)`", " ".join(lines)) if prose else []
            unknown |= {
                flag for span in spans for flag in re.findall(r"(?:^| )(--[a-z][\w-]*)", span)
            } - known
    assert unknown - OF_OTHER_PROGRAMS == set(), "correct the page, or add the flag to OF_OTHER_PROGRAMS"


def test_rows_of_tables_are_on_one_line():
    """Markdown takes what follows a row for further rows, until there is a blank line."""
    broken = []
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for prose, lines in github_markdown.prose_and_code(page.read_text("utf-8")):
            following = [*lines[1:], ""]
            broken += [
                (page.name, line)
                for line, after in zip(lines, following, strict=True)
                if prose
                and line.startswith("|")
                and not (line.rstrip().endswith("|") and (after.startswith("|") or not after.strip()))
            ]
    assert broken == []


def test_commands_of_every_form_are_recognised(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```\ntunit train A \\\n    --out B  # more\nA=b tunit demo\npip install x\n```\n"
        "```bash\ntorchrun --x 8 -m tunit train C\n```\n```python\ntunit = 1\n```\n"
    )
    assert commands_of(page) == ["tunit train A      --out B  # more", "tunit demo", "tunit train C"]


def test_no_module_hides_a_public_name():
    assert {module.name for module in pkgutil.iter_modules(tunit.__path__)} & set(tunit.__all__) == set()


def test_the_examples_of_exported_models(folder):
    """They do not need tunit, and their translations equal the translator's."""
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

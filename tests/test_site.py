"""The documentation site: built like `make docs`, its links checked, its tables compared with the code."""

import importlib
import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import build_site
import github_markdown
from tunit.config import Config, all_fields, preset_names, read_config
from tunit.config.methods import METHODS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
LINK = re.compile(r"\]\(([^()\s]+)\)")


class Page(HTMLParser):
    """The links of an HTML page, its anchors and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.words: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build_site.build(ROOT, tmp_path_factory.mktemp("docs"))


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_link_on_the_site_has_a_target(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:|//", link):
                continue
            name, _, anchor = unquote(link).partition("#")
            target = (path.parent / name).resolve() if name else path
            if (
                not target.is_relative_to(site)
                or not target.exists()
                or (anchor and target in pages and anchor not in pages[target].anchors)
            ):
                broken.append((path.name, link))
    assert broken == []
    assert len(pages) > len(PAGES)  # links to source files too


def test_the_site_loads_nothing_from_other_hosts(site):
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+stylesheet[^>]+href=\"https?:"
    )
    assert [path.name for path in site.rglob("*.html") if loaded.search(path.read_text("utf-8"))] == []


def test_every_setting_is_on_the_site_with_its_default_and_a_description(pages, site):
    text = pages[site / "settings.html"].text
    assert [name for name, (_, field) in all_fields().items() if len(field.metadata["help"]) < 10] == []
    missing = []
    for section, values in tomllib.loads(Config().to_toml()).items():
        for name, value in values.items():
            shown = re.escape(json.dumps(value).strip('"')) if value != "" else ""
            if not re.search(rf"--{name.replace('_', '-')} {shown} ?", text):
                missing.append((section, name, value))
    assert missing == []
    small = read_config("small").networks
    assert f"--guide-width 64 64 {small.guide_width} " in text
    of_methods = [
        name for kinds in METHODS.values() for kind in kinds.values() for name in kind.__annotations__
    ]
    assert [name for name in of_methods if f"--{name.replace('_', '-')} " not in text] == []


def test_every_command_is_on_the_site(pages, site):
    text = pages[site / "commands.html"].text
    for words in (
        "tunit translate",
        "--restore-size",
        "--evaluate-every N",
        "--dry-run DIR",
        "--from-label A",
    ):
        assert words in text
    assert "--guide-width" not in text.split("tunit train", 2)[-1]  # settings have their own page


def test_the_code_is_next_to_the_equations(pages, site):
    page = pages[site / "equations.html"]
    code = "".join(page.words)
    assert "joint = weighted.T @ p_plus" in code  # the source of joint_probability
    assert "return F.l1_loss(x_rec, x)" in code
    html = (site / "equations.html").read_text("utf-8")
    assert html.count("<math") > 20
    assert "$" not in html.split("<article")[1].split("</article")[0]


def test_functions_next_to_equations_exist_and_all_losses_of_the_paper_are_there():
    text = (ROOT / "docs" / "equations.md").read_text("utf-8")
    named = re.findall(r"\[`(\w+)`\]\(\.\./src/([\w/]+)\.py\)", text)
    assert len(named) > 20
    for name, module in named:
        assert callable(getattr(importlib.import_module(module.replace("/", ".")), name))
    losses = importlib.import_module("tunit.methods.losses")
    of_the_paper = {
        name
        for name, value in vars(losses).items()
        if callable(value)
        and re.search(r"[Ee]quations? \d|section \d", value.__doc__ or "")
        and "[1]" in value.__doc__
    }
    assert {"mutual_information", "style_contrastive", "reconstruction"} <= of_the_paper
    assert of_the_paper - {name for name, _ in named} == set()


def small_repository(folder: Path, text: str, menu: str = '"index.md", "notebook.md"') -> Path:
    """One page and an empty notebook, with our configuration except for the menu."""
    (folder / "docs" / "site").mkdir(parents=True)
    (folder / "docs" / "index.md").write_text(text)
    (folder / "docs" / "first-steps.ipynb").write_text(
        '{"cells": [{"cell_type": "markdown", "source": ["# Steps"]}]}'
    )
    for name in ("README.md", "EXPERIMENTS.md", "CHANGELOG.md"):
        (folder / name).write_text("# Title\n")
    config = (ROOT / "docs" / "site" / "zensical.toml").read_text()
    menus = f'nav = [{menu}, "experiments.md", "changelog.md"]'
    (folder / "docs" / "site" / "zensical.toml").write_text(
        re.sub(r"nav = \[.*?\n\]", menus, config, flags=re.S)
    )
    return folder


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# T\n\n[there](nowhere.md)\n", "docs/index.md links to nowhere.md, which does not exist"),
        ("# T\n\n![there](nowhere.png)\n", "docs/index.md links to nowhere.png, which does not exist"),
        ("# T\n\n[there](../../../etc/hostname)\n", "outside of the repository"),
    ],
)
def test_a_broken_link_stops_the_build(tmp_path, text, says):
    with pytest.raises(build_site.BrokenError, match=re.escape(says)):
        build_site.build(small_repository(tmp_path, text), tmp_path / "out")


def test_a_broken_anchor_stops_the_build(tmp_path):
    with pytest.raises(build_site.BrokenError, match=r"(?s)cannot be built.*nowhere"):
        build_site.build(small_repository(tmp_path, "# T\n\n[there](#nowhere)\n"), tmp_path / "out")


def test_a_page_missing_from_the_menu_or_from_the_disk_stops_the_build(tmp_path):
    with pytest.raises(build_site.BrokenError, match=r"index\.md is in no menu: add it to nav"):
        build_site.build(small_repository(tmp_path / "a", "# T\n", '"notebook.md"'), tmp_path / "out")
    menu = '"index.md", "notebook.md", "more.md"'
    with pytest.raises(build_site.BrokenError, match=r"names more\.md, which is not in docs/"):
        build_site.build(small_repository(tmp_path / "b", "# T\n", menu), tmp_path / "out")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_in_the_files_are_valid_on_github_too(page):
    """As GitHub follows them. Raw figures must be JSON files."""
    for prose, lines in github_markdown.prose_and_code(page.read_text("utf-8")):
        for link in LINK.findall("\n".join(lines)) if prose else ():
            target = page.parent / link.partition("#")[0]
            assert re.match(r"[a-z]+:|#", link) or target.exists(), link
            if target.suffix == ".json":
                json.loads(target.read_text("utf-8"))


def test_lists_are_separated_and_code_does_not_change():
    text = "Text:\n- one\n  goes on\n  - two\n\n```\nText:\n- code [a](b)\n```\n`[a](b)` [a](b)"
    separated = github_markdown.with_separate_lists(text)
    assert separated.startswith("Text:\n\n- one\n    goes on\n    - two\n\n```\nText:\n- code")
    linked = github_markdown.with_links(text, lambda target, words: f"{words}/{target}")
    assert linked.endswith("- code [a](b)\n```\n`[a](b)` [a](a/b)")


def test_the_presets_that_pages_name_exist():
    named = {
        name
        for page in PAGES
        for name in re.findall(r"--preset ([a-z][\w-]*)\b(?!\.)", page.read_text("utf-8"))
    }
    assert named - set(preset_names()) == set()

"""Build the documentation site from docs/: `make docs`.

The pages are those that GitHub shows. For the site they are copied to build/docs/pages, where links to files outside
of docs/ lead to copies of these, tables of settings and commands are made from the code, and formulas become MathML.
A link to nothing, a page that is in no menu, and every warning of the generator end the build.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from posixpath import relpath
from typing import Any

import latex2mathml.converter

import from_code
import github_markdown as markdown

ROOT = Path(__file__).resolve().parents[2]
SETTINGS, COMMANDS = "<!-- settings -->", "<!-- commands -->"
EQUATIONS, NOTEBOOK = "equations.md", "first-steps.ipynb"
OTHER_PAGES = {"README.md": "readme.md", "EXPERIMENTS.md": "experiments.md", "CHANGELOG.md": "changelog.md"}
COLOUR = re.compile(r"\x1b\[[\d;]*m")
RAW = {".json", ".png", ".svg", ".webp", ".gif", ".ipynb", ".html", ".csv"}


class BrokenError(Exception):
    """The documentation contradicts itself or the repository; one sentence."""


class Site:
    """The pages to write: which files are copied, and where links lead."""

    def __init__(self, root: Path, out: Path) -> None:
        self.root, self.pages = root, out / "pages"
        self.config = root / "docs" / "site" / "zensical.toml"
        self._sources: dict[str, str] = {}  # page -> source file, of those that are linked
        self._places = {f"docs/{path.name}": path.name for path in sorted((root / "docs").glob("*.md"))}
        self._places |= OTHER_PAGES

    def stage(self) -> None:
        """Write every page and every file that a page links to. Raises BrokenError."""
        if self.pages.parent.exists():
            shutil.rmtree(self.pages.parent)
        self.pages.mkdir(parents=True)
        shutil.copy(self.config, self.pages.parent)
        for source, page in self._places.items():
            self._write(page, self._converted((self.root / source).read_text("utf-8"), source, page))
        notebook = json.loads((self.root / "docs" / NOTEBOOK).read_text("utf-8"))
        text = markdown.page_of_notebook(notebook)
        self._write("notebook.md", self._converted(text, f"docs/{NOTEBOOK}", "notebook.md"))
        for page, source in self._sources.items():
            self._write(page, from_code.source_page(self.root / source, source))
        self._check_menu()

    def _converted(self, text: str, source: str, page: str) -> str:
        """A page's text for the site. source: its file, page: its place on the site."""
        text = markdown.with_links(text, lambda target, words: self._moved(target, words, source, page))
        text = markdown.with_separate_lists(text)
        if page == EQUATIONS:
            text = markdown.with_formulas(self._with_code(text), formula)
        text = text.replace(SETTINGS, from_code.settings_tables()) if SETTINGS in text else text
        return text.replace(COMMANDS, from_code.command_pages()) if COMMANDS in text else text

    def _moved(self, target: str, words: str, source: str, page: str) -> str:
        """Where a link of a page leads on the site."""
        if re.match(r"[a-z]+:|#", target):
            return target
        name, _, anchor = target.partition("#")
        place = (self.root / source).parent.joinpath(name).resolve()
        try:
            path = place.relative_to(self.root).as_posix()
        except ValueError:
            raise BrokenError(f"{source} links to {target}, which is outside of the repository") from None
        if not place.exists():
            raise BrokenError(f"{source} links to {target}, which does not exist")
        if path in self._places:
            there = self._places[path]
        elif place.is_dir():
            there = self._listed(place, path)
        elif place.suffix in RAW or not place.suffix:
            there = self._copied(place, path)
        else:
            there = f"source/{path}.md"
            self._sources[there] = path
            name = words.strip("`").rpartition(".")[2]
            if place.suffix == ".py" and name in from_code.definitions(place):
                anchor = name
        return relpath(there, str(Path(page).parent)) + (f"#{anchor}" if anchor else "")

    def _copied(self, place: Path, path: str) -> str:
        """Copy a file unchanged; returns the place of the copy."""
        there = path.removeprefix("docs/")
        (self.pages / there).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place, self.pages / there)
        return there

    def _listed(self, place: Path, path: str) -> str:
        """Write a page that lists the files of a folder; returns its place."""
        files = [file for file in sorted(place.iterdir()) if file.is_file() and file.suffix in RAW]
        there = f"{path}.md"
        lines = [f"- [{file.name}]({place.name}/{file.name})" for file in files]
        for file in files:
            self._copied(file, f"{path}/{file.name}")
        self._write(there, f"# {path}\n\n" + "\n".join(lines) + "\n")
        return there

    def _with_code(self, text: str) -> str:
        """After each paragraph `Code: ...` of the equations: the functions that it links to, folded."""
        paragraphs = []
        for paragraph in text.split("\n\n"):
            paragraphs.append(paragraph)
            if paragraph.startswith("Code: "):
                for page, name in re.findall(r"\((source/[^()#]+)#(\w+)\)", paragraph):
                    paragraphs.append("\n".join(self._folded(self._sources[page], name)))
        return "\n\n".join(paragraphs)

    def _folded(self, source: str, name: str) -> Iterator[str]:
        first, last = from_code.definitions(self.root / source)[name]
        code = (self.root / source).read_text("utf-8").split("\n")[first - 1 : last]
        yield f'??? quote "{name}, in {source}"'
        yield from ("    " + line for line in ["```python", *code, "```"])

    def _write(self, page: str, text: str) -> None:
        (self.pages / page).parent.mkdir(parents=True, exist_ok=True)
        (self.pages / page).write_text(text, "utf-8")

    def _check_menu(self) -> None:
        menu = set(menu_pages(tomllib.loads(self.config.read_text("utf-8"))["project"]["nav"]))
        pages = {*self._places.values(), "notebook.md"} - {"readme.md"}
        for page in sorted(pages - menu):
            raise BrokenError(f"docs/{page} is in no menu: add it to nav in docs/site/zensical.toml")
        for page in sorted(menu - pages):
            raise BrokenError(f"docs/site/zensical.toml names {page}, which is not in docs/")


def menu_pages(nav: Any) -> Iterator[str]:
    """The pages of a menu, in order."""
    if isinstance(nav, str):
        yield nav
    for item in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from menu_pages(item)


def formula(latex: str, block: bool) -> str:
    """A formula as MathML, which browsers show without scripts."""
    shown = latex2mathml.converter.convert(latex, display="block" if block else "inline")
    return f"<div>{shown}</div>" if block else shown


def build(root: Path, out: Path) -> Path:
    """The site of a repository, in `out`/site. Raises BrokenError."""
    Site(root, out).stage()
    words = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "zensical.toml"]
    done = subprocess.run(words, cwd=out, capture_output=True, text=True)
    if done.returncode:
        said = COLOUR.sub("", done.stdout + done.stderr).partition("Traceback")[0].strip()
        raise BrokenError(f"the site cannot be built:\n{said}")
    return out / "site"


def main() -> int:
    """Build the site of this repository."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs")
    try:
        site = build(ROOT, parser.parse_args().out.resolve())
    except BrokenError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 2
    print(f"docs: open {site / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

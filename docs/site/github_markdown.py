"""Converts Markdown for GitHub into Markdown for the site's generator, and changes links."""

import re
from collections.abc import Callable, Iterator

_FENCE = re.compile(r"\s*(```+|~~~+)")
_ITEM = re.compile(r"( *)(?:[-*]|\d+\.) +")
# A link or an image; or code in a line, where nothing counts as a link.
_LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^()\s]+)\)|(?P<code>`[^`]*`)")
_INLINE = re.compile(r"`[^`]*`|\$(?P<formula>[^$\n]+)\$")

ITEM_INDENT = 4  # the indentation that Python-Markdown needs


def prose_and_code(text: str) -> Iterator[tuple[bool, list[str]]]:
    """(whether it is prose, lines) for each part between fences; the lines of a fence count as code."""
    part: list[str] = []
    fence = ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if fence:
            part.append(line)
            if found and found[1].startswith(fence):
                yield False, part
                part, fence = [], ""
        elif found:
            yield True, part
            part, fence = [line], found[1]
        else:
            part.append(line)
    yield not fence, part


def with_links(text: str, moved: Callable[[str, str], str]) -> str:
    """The text in which moved(target, link's text) has replaced the target of each link and image outside of code."""

    def replaced(match: re.Match[str]) -> str:
        if match["code"] is not None:
            return match[0]
        return f"{match['text']}({moved(match['target'], match['text'].strip('![]'))})"

    parts = [
        [_LINK.sub(replaced, "\n".join(lines))] if prose else lines for prose, lines in prose_and_code(text)
    ]
    return "\n".join("\n".join(lines) for lines in parts)


def with_separate_lists(text: str) -> str:
    """The text with an empty line before each list, and with items indented as Python-Markdown needs it."""
    return "\n".join(
        "\n".join(_separated(lines) if prose else lines) for prose, lines in prose_and_code(text)
    )


def _separated(lines: list[str]) -> list[str]:
    separated: list[str] = []
    inside = False  # whether the line is in a list
    for line in lines:
        item = _ITEM.match(line)
        if item and not inside and separated and separated[-1].strip():
            separated.append("")
        if item:
            inside = True
        elif line and not line.startswith(" "):
            inside = inside and bool(separated and separated[-1].strip())
        depth = len(line) - len(line.lstrip(" "))
        if inside and line.strip() and depth:
            line = " " * (ITEM_INDENT * -(-depth // ITEM_INDENT)) + line.lstrip(" ")
        separated.append(line)
    return separated


def with_formulas(text: str, formula: Callable[[str, bool], str]) -> str:
    """The text in which formula(LaTeX, whether it is a block) has replaced each $$block$$ and $formula$."""
    blocks = re.sub(r"^\$\$(.+?)\$\$$", lambda m: formula(m[1].strip(), True), text, flags=re.M | re.S)
    return _INLINE.sub(lambda m: formula(m["formula"], False) if m["formula"] else m[0], blocks)


def page_of_notebook(notebook: dict[str, object]) -> str:
    """The cells of a notebook as one page."""
    parts = []
    for cell in notebook["cells"]:  # type: ignore[attr-defined] # nbformat 4
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"

"""Draw docs/performance.svg from the results of the other benchmarks: how many times as fast as the baseline, with a
line for the target.

python benchmarks/chart.py
"""

import json
from html import escape
from pathlib import Path
from typing import Any

from machine import RESULTS

OUT = Path(__file__).parents[1] / "docs" / "performance.svg"
WIDTH, LEFT, RIGHT, ROW, TOP = 760, 300, 60, 26, 56
Bar = tuple[str, float, float | None]  # (name, how many times as fast, target)


def read(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def bars() -> list[Bar]:
    found: list[Bar] = []
    for shape, result in read("step-cpu").items():
        if shape == "about":
            continue
        size, batch = shape.split("x")
        for name, target in (
            ("joint, R1 every step", 3.0),
            ("joint, lazy R1", 4.0),
            ("E alone", None),
        ):
            label = f"step, {size} px, batch {batch}, {name}"
            found.append((label, result[f"{name}, times as fast"]["median"], target))
    for file, path, label, target in (
        ("translation", ("times as fast",), "translating a folder", 3.0),
        ("packing", ("12 megapixels", "times as fast"), "decoding photos of 12 megapixels", 4.0),
        ("packing", ("whole pack, 12 megapixels", "times as fast"), "packing them", None),
        ("evaluation", ("density and coverage", "times as fast"), "density and coverage", 5.0),
        ("evaluation", ("FID's distance step", "times as fast"), "FID's distance step", 5.0),
    ):
        value: Any = read(file)
        for key in path:
            value = value.get(key, {})
        if value:
            found.append((label, value["median"] if isinstance(value, dict) else value, target))
    return found


def svg(rows: list[Bar], about: str) -> str:
    scale = (WIDTH - LEFT - RIGHT) / max(max(value, target or 0) for _, value, target in rows)
    height = TOP + ROW * len(rows) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" '
        f'font-size="13"><title>Times as fast as the baseline</title>'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
        f'<text x="12" y="22" font-size="15" font-weight="600">Times as fast as the baseline of the same run</text>'
        f'<text x="12" y="41" fill="#666">{escape(about)}; a line marks the target</text>'
    ]
    for i, (label, value, target) in enumerate(rows):
        y = TOP + ROW * i
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{LEFT}" y="{y + 3}" width="{value * scale:.1f}" height="{ROW - 8}" fill="#7b5ea7"/>'
            f'<text x="{LEFT + value * scale + 5:.1f}" y="{y + 16}">{value:.1f}</text>'
        )
        if target:
            x = LEFT + target * scale
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + ROW - 2}" stroke="#d0552b" stroke-width="2"/>'
            )
    return "".join(parts) + "</svg>\n"


def main() -> None:
    rows = bars()
    if not rows:
        raise SystemExit("there are no results to draw: run the benchmarks first")
    about = read("step-cpu").get("about") or read("evaluation")["about"]
    OUT.write_text(svg(rows, f"{about['processor']}, torch {about['torch']}, {about['date']}"), "utf-8")
    print(OUT)


if __name__ == "__main__":
    main()

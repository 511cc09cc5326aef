"""The pictures of docs/results.md: what a run found and drew.

  python benchmarks/result_pictures.py RUN --out docs/results --name grocery10

From the content of the run's report (so from its own pictures and its current model) it makes four pictures:
NAME-domains.webp (typical pictures of each domain, then sources in its average style), NAME-matrix.webp (sources by
references), NAME-crossed.webp (each domain's most typical picture in the average style of every domain) and
NAME-cases.webp (source, reference and translation: the best and the worst of random pairs). No picture is chosen by
hand. The run's figures are written beside them, to benchmarks/results/NAME-run.json.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from machine import write
from tunit.data.galleries import captioned, grid, matrix, stack
from tunit.methods.model_file import load_model
from tunit.reporting.contents import Case, Contents, gather
from tunit.reporting.guided import Pictures
from tunit.training.run_folder import RunFolder

TYPICAL = 8  # typical pictures of each domain
QUALITY = 88  # of the WebP files


def images(pictures: list[Pictures]) -> list[Image.Image]:
    return [Image.fromarray(pixels) for pixels in pictures]


def domains(found: Contents) -> Image.Image:
    """A strip for each domain: typical pictures on the left, sources in its average style on the right."""
    strips = []
    for domain in found.domains:
        typical = images([pixels for _, pixels in domain.typical[:TYPICAL]])
        left, right = grid(typical, TYPICAL), grid(images(domain.redrawn), len(domain.redrawn))
        both = grid([left, right], 2, gap=16)
        mostly = f", mostly {domain.name}" if domain.name else ""
        strips.append(captioned(both, f"domain {domain.number}: {domain.size} pictures{mostly}"))
    heading = captioned(
        grid(images(found.sources), len(found.sources)), "the sources on the right of each domain"
    )
    return stack([heading, *strips])


def cases(best: list[Case], worst: list[Case]) -> Image.Image:
    """Two strips of three rows: sources, references, translations."""
    strips = []
    for name, some in (("best", best), ("worst", worst)):
        rows = [
            [case.source for case in some],
            [case.reference for case in some],
            [case.result for case in some],
        ]
        strip = grid(images([pixels for row in rows for pixels in row]), len(some))
        strips.append(captioned(strip, f"{name}: source, reference, translation"))
    return stack(strips)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--name", required=True, help="beginning of the names of all files")
    args = parser.parse_args()
    run = RunFolder(args.run)
    found = gather(run, load_model(args.run, torch.device("cpu")))
    crossed = matrix(
        images(found.crossed_pictures), images(found.crossed_pictures), [images(row) for row in found.crossed]
    )
    made = {
        "domains": domains(found),
        "matrix": matrix(
            images(found.sources), images(found.references), [images(row) for row in found.matrix]
        ),
        "crossed": crossed,
        "cases": cases(found.best, found.worst),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for name, picture in made.items():
        picture.save(args.out / f"{args.name}-{name}.webp", quality=QUALITY, method=6)
    figures = {
        "run": str(args.run.name),
        "step": found.step,
        "pictures": found.pictures,
        "accuracy": found.accuracy,
        "effective domains": found.effective,
        "domains": [{"number": d.number, "pictures": d.size, "mostly": d.name} for d in found.domains],
        "cosines of the best and worst shown": [case.cosine for case in (*found.best, *found.worst)],
        "evaluation": found.evaluation,
        "settings": found.config_text,
    }
    write(f"{args.name}-run", figures)


if __name__ == "__main__":
    main()

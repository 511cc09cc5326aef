"""Figure 4: held-back pictures of one class redrawn by the average style of another, at several strengths."""

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tunit.data.batching.augment import to_uint8
from tunit.data.finding.left_out import LeftOut
from tunit.data.galleries import captioned, enlargement, grid
from tunit.errors import DataError
from tunit.experiments.paper_tables import CONTENT, TARGET
from tunit.experiments.split import Split
from tunit.methods.inference import BATCH, contents_over
from tunit.methods.model_file import Model
from tunit.translation.translator import Translator

PICTURE = "attribute.png"
SHOWN = 8  # sources in the picture


def attribute_figures(
    run: Path, split: Split, classes: tuple[str, str], strengths: tuple[float, ...], device: str = "auto"
) -> dict[str, float]:
    """Translate the held-back pictures of the first class into the second, and write RUN/attribute.png.

    Returns two figures for each strength: the share of translations that E assigns to the second class, and the
    content error (see `content_error`). classes: both labels of the training, which are numbered in the order of
    their names. Raises DataError if no picture of the first class is held back.
    """
    translator = Translator.load(run, device=device)
    target = split.classes.index(classes[1])
    style = translator.domain_style(target)[None]
    paths = [path for path, name in split.held if name == classes[0]]
    left_out: list[LeftOut] = []
    sources = [(names, x) for names, x, _ in translator.guided(paths, report=left_out.append)]
    if not sources:
        raise DataError(f"no picture of class {classes[0]!r} is held back: give some of each class")
    x = torch.cat([part for _, part in sources])  # at the networks' size, whatever the size of the files
    figures: dict[str, float] = {}
    columns = [[Image.fromarray(square) for square in to_uint8(x).numpy()]]
    for strength in strengths:
        drawn = [images[0] for _, images in translator.redraw(list(x), style, strength=strength)]
        parts = [(out, guidance.logits.argmax(1)) for _, out, guidance in translator.guided(drawn)]
        taken = torch.cat([domains for _, domains in parts]) == target
        out = torch.cat([part for part, _ in parts])
        figures[TARGET.format(strength)] = float(taken.double().mean())
        figures[CONTENT.format(strength)] = content_error(translator.model, x, out)
        columns.append(drawn)
    _draw(run / PICTURE, columns, classes, strengths)
    return figures


@torch.inference_mode()
def content_error(model: Model, x: Tensor, out: Tensor) -> float:
    """How much translating changes the content: 0 means not at all, 1 as much as between two different pictures.

    It is the mean distance between the content codes of `out` and `x`, divided by the mean distance between those of
    different pictures of `x`. Distances are mean absolute differences. x, out: (N, 3, S, S) in [-1, 1]. NaN for a
    single picture.
    """
    device = model.domain_styles.device

    def codes(pictures: Tensor) -> Iterator[Tensor]:
        """Batch by batch: the codes of all pictures may need more memory than there is."""
        for part in torch.split(pictures, BATCH):
            yield contents_over(model.generator.encode, [part.to(device)])

    changed, apart = torch.zeros(2, dtype=torch.float64)
    (before,) = codes(x[-1:])  # each picture is compared with the one before it, the first with the last
    for own, drawn in zip(codes(x), codes(out), strict=True):
        changed += (drawn - own).abs().double().sum()
        apart += (own - torch.cat([before, own[:-1]])).abs().double().sum()
        before = own[-1:]
    return float(changed / apart) if len(x) > 1 else float("nan")


def _draw(
    path: Path, columns: list[list[Image.Image]], classes: tuple[str, str], strengths: tuple[float, ...]
) -> None:
    """A row for each source: the source, then its translations at growing strength."""
    cells = [column[i] for i in range(min(SHOWN, len(columns[0]))) for column in columns]
    picture = grid(cells, len(columns), enlarge=enlargement(cells[0].width))
    words = ", ".join(f"{strength:g}" for strength in strengths)
    captioned(picture, f"{classes[0]}, then towards {classes[1]} at strength {words}").save(path)

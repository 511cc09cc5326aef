"""Gather the content of a report from a run folder: pictures, the model's output for them, and translations."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunit.clustering.choice import Choice, read_choice_file
from tunit.config import Config
from tunit.config.presets import KEEP_OTHER_BYTES, LARGEST_FILE
from tunit.data.batching.batches import Batches
from tunit.data.batching.randomness import CounterStart, numpy_generator
from tunit.evaluation.against_trivial import TrivialComparison, compare_with_trivial
from tunit.evaluation.protocol import random_pairing, translated
from tunit.files.reading import UnreadableError, is_number, read_json_lines, read_text
from tunit.methods.inference import in_batches, redraw
from tunit.methods.model_file import Model
from tunit.reporting.evaluation_file import evaluation_of
from tunit.reporting.guided import GuidedPictures, Integers, Pictures, guide_pictures
from tunit.reporting.off_topic import OffTopic, off_topic
from tunit.reporting.remarks import Finding, findings, typical_rows
from tunit.reporting.style_map import laid_out
from tunit.reporting.undecided import domains_undecided
from tunit.training.alarms.guide_alarms import Alarm
from tunit.training.alarms.watch import alarms_of, rows_of
from tunit.training.logs.neighbours_found import measures_of
from tunit.training.preparation import pictures_of_run
from tunit.training.run_folder import RunFolder

SHOWN_DOMAINS = 24  # only the largest domains are shown
TYPICAL = 10  # typical pictures shown of each domain
SOURCES = 8  # sources that are redrawn in every domain's average style, and in the matrix
CASES = 96  # random pairs; the best and the worst of them are shown
SHOWN_CASES = 6
# Trivial baselines are computed on at most this many pictures: random features take a hundredth of a second for each.
MOST_GROUPED = 1_000
VIEWED = 512  # how many pictures are augmented, to measure how stable their domains are


@dataclass(frozen=True)
class DomainShown:
    """One domain: its pictures, and a few sources in its average style."""

    number: int
    size: int
    confidence: float
    name: str  # its most frequent class, if classes are known
    typical: list[tuple[str, Pictures]]  # name of the picture, pixels
    redrawn: list[Pictures]


@dataclass(frozen=True)
class Case:
    """One translation, with the cosine between its style code and that of the reference."""

    source: Pictures
    reference: Pictures
    result: Pictures
    cosine: float


@dataclass
class Contents:
    """Everything that the page shows."""

    title: str
    about: dict[str, Any]
    config: Config
    config_text: str
    pictures: int  # how many pictures the run has
    looked: int  # on how many of them the report is based
    step: int
    domains: list[DomainShown]
    hidden_domains: int
    effective: float
    accuracy: float | None
    sources: list[Pictures]
    references: list[Pictures]
    matrix: list[list[Pictures]]  # source x reference
    crossed_numbers: list[int]
    crossed_pictures: list[Pictures]  # the most typical picture of each domain
    crossed: list[list[Pictures]]  # domain x domain
    points: NDArray[np.float64]  # (M, 2), of the map
    point_pictures: list[Pictures]
    point_names: list[str]
    point_domains: list[int]
    point_classes: list[str]
    best: list[Case]
    worst: list[Case]
    metrics: list[dict[str, float]]
    alarms: list[Alarm]  # of the training
    # First steps, and by which measures neighbours were found from there on.
    neighbours: list[tuple[int, list[str]]]
    evaluation: dict[str, Any] | None
    beside: TrivialComparison  # the domains compared with trivial baselines
    choice: Choice | None  # how the number of domains was found; None if it was given
    off_topic: OffTopic  # pictures that are very different from all others
    findings: list[Finding] = field(default_factory=list)


def gather(run: RunFolder, model: Model, *, figures: Path | None = None, seed: int = 0) -> Contents:
    """The content of the report, from the run's own pictures and its model.

    figures: a result of `tunit evaluate`; None takes the file in the run, if there is one.
    Raises RunError if the run has no pictures of its own, or `figures` cannot be read.
    """
    config, about = run.read_config(), run.read_about()
    packed = pictures_of_run(run)
    guided = guide_pictures(packed, model)
    rng = numpy_generator(seed, "report", 0)
    chosen = _of_every_domain(rng.permutation(len(guided.images)), guided.found, 2 * SOURCES)
    # Alternately sources and references, so that both contain every domain if there are enough pictures.
    sources, references = chosen[::2], chosen[1::2] if len(chosen) > 1 else chosen
    sizes = guided.sizes.sizes
    largest = sorted((k for k, size in enumerate(sizes) if size), key=lambda k: -sizes[k])
    shown = sorted(largest[:SHOWN_DOMAINS])
    domains = _domains(model, guided, shown, sources)
    firsts = np.stack([domain.typical[0][1] for domain in domains])
    cases = _cases(model, guided.images, guided.styles, seed)
    points, on_map = laid_out(guided.styles, seed)
    rows, undecided = rows_of(run.metrics), domains_undecided(run.path, model.step)
    contents = Contents(
        title=_title(run.path.resolve()),
        about=about,
        config=config.with_overrides({"domains": model.settings.domains}),
        config_text=read_text(run.config, LARGEST_FILE, KEEP_OTHER_BYTES),
        pictures=len(packed.names),
        looked=len(guided.images),
        step=model.step,
        domains=domains,
        hidden_domains=len(largest) - len(shown),
        effective=guided.sizes.effective,
        accuracy=guided.accuracy,
        sources=list(guided.images[sources]),
        references=list(guided.images[references]),
        matrix=_redraw(model, guided.images[sources], guided.styles[references]),
        crossed_numbers=shown,
        crossed_pictures=list(firsts),
        crossed=_redraw(model, firsts, guided.average_styles[shown]),
        points=points,
        point_pictures=list(guided.images[on_map]),
        point_names=[guided.names[i] for i in on_map],
        point_domains=[int(guided.found[i]) for i in on_map],
        point_classes=[guided.classes[i] for i in on_map] if guided.classes else [],
        best=cases[:SHOWN_CASES],
        worst=cases[: -SHOWN_CASES - 1 : -1],
        metrics=read_metrics(run.metrics),
        alarms=alarms_of(rows),
        neighbours=measures_of(rows),
        evaluation=evaluation_of(run, figures),
        choice=read_choice_file(run.path),
        beside=_beside_trivial(guided, seed, undecided),
        off_topic=off_topic(guided),
    )
    contents.findings = _findings(model, guided, cases, config, seed, undecided)
    return contents


def _beside_trivial(guided: GuidedPictures, seed: int, undecided: str) -> TrivialComparison:
    """E's domains compared with trivial baselines; empty if E assigns no domains, or they are `undecided`."""
    if not guided.by_model or undecided:
        return TrivialComparison()
    return compare_with_trivial(
        guided.images, guided.found, guided.class_numbers, guided.domains, seed, MOST_GROUPED
    )


def _findings(
    model: Model, guided: GuidedPictures, cases: list[Case], config: Config, seed: int, undecided: str
) -> list[Finding]:
    """The remarks of the report, in plain words."""
    mean_cosine = float(np.mean([case.cosine for case in cases])) if cases else None
    steady = _steadiness(model, guided.images, config, seed) if guided.by_model else None
    sizes, confidences = guided.sizes.sizes, guided.mean_confidences
    return findings(sizes, confidences, guided.average_styles, steady, mean_cosine, undecided)


def _domains(model: Model, guided: GuidedPictures, shown: list[int], sources: Integers) -> list[DomainShown]:
    """The domains `shown`, each with its most typical pictures and the sources (rows of `guided`) in its style."""
    redrawn = _redraw(model, guided.images[sources], guided.average_styles[shown])
    domains = []
    for column, k in enumerate(shown):
        typical = typical_rows(guided.found, guided.styles, guided.average_styles, k, TYPICAL)
        domains.append(
            DomainShown(
                k,
                guided.sizes.sizes[k],
                guided.mean_confidences[k],
                guided.common_class(k),
                [(guided.names[i], guided.images[i]) for i in typical],
                [row[column] for row in redrawn],
            )
        )
    return domains


def _title(path: Path) -> str:
    return path.parent.name if path.name == "run" else path.name


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl; a last line that a crash cut off is left out."""
    try:
        rows = [{k: float(v) for k, v in row.items() if is_number(v)} for row in read_json_lines(path)]
    except UnreadableError:
        return []
    return [row for row in rows if "step" in row]


def _of_every_domain(order: Integers, found: Integers, number: int) -> Integers:
    """The first `number` of `order`, taken from the domains in turn, two at a time."""
    queues = [list(order[found[order] == k]) for k in np.unique(found)]
    taken: list[int] = []
    while len(taken) < min(number, len(order)):
        for queue in queues:
            taken += [int(i) for i in queue[:2]]
            del queue[:2]
    return np.array(taken[:number], np.int64)


def _redraw(model: Model, sources: Pictures, codes: Tensor) -> list[list[Pictures]]:
    """Every source in every style: rows are sources."""
    (x,) = in_batches(sources, model.domain_styles.device)
    columns = [drawn.cpu().numpy() for drawn in redraw(model.generator, x, codes)]
    return [[column[row] for column in columns] for row in range(len(x))]


def _cases(model: Model, images: Pictures, styles: Tensor, seed: int) -> list[Case]:
    """Random translations; first those whose style is nearest to that of their reference."""
    pairing = random_pairing(len(images), CASES, seed)
    cases = []
    for batch in translated(model, images, pairing, styles):
        sources, references = pairing.sources[batch.rows], pairing.references[batch.rows]
        cosines = torch.cosine_similarity(batch.styles, styles[references]).tolist()
        cases += [
            Case(images[i], images[j], picture, cosine)
            for i, j, picture, cosine in zip(sources, references, batch.pictures, cosines, strict=True)
        ]
    return sorted(cases, key=lambda case: -case.cosine)


def _steadiness(model: Model, images: Pictures, config: Config, seed: int) -> float | None:
    """Share of pictures whose domain is the same in both views of a training batch."""
    if model.settings.domains < 2:
        return None
    number = min(len(images), VIEWED)
    labels = np.full(len(images), -1)
    device = model.domain_styles.device
    side = model.guide.image_size
    batches = Batches(images, labels, config.augment, seed=seed, device=device, view_side=side)
    same, cursors = 0, dict[str, int]()
    with torch.inference_mode():
        for i in range(0, number, 64):
            batch = batches.draw(CounterStart.TWO_VIEWS + i, min(64, number - i), cursors)
            first, second = (model.guide(view).logits.argmax(1) for view in (batch.x, batch.x_plus))
            same += int((first == second).sum())
    return same / number

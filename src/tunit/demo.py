"""The demo: train, translate and measure in minutes on two CPU cores, on drawn pictures with known translations."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tunit.config import Config, read_config
from tunit.data.creatures.picture_set import SPECIES, draw, exact_translation, read_creatures, write_creatures
from tunit.data.galleries import captioned, gallery, matrix, stack
from tunit.data.packing.packed import open_packed
from tunit.demo_folder import preparing_demo, replace_earlier
from tunit.demo_schedule import (
    DRAWING_SECONDS,
    REPORT_SECONDS,
    fitting_schedule,
    joint_steps_within,
    planned_seconds,
    steps_of_first_part,
)
from tunit.evaluation.clusters import clustering_accuracy, domain_names
from tunit.evaluation.of_run import RESULT
from tunit.evaluation.protocol import probabilities_and_styles
from tunit.evaluation.result import Evaluation
from tunit.evaluation.truth import (
    ERROR_RATIO,
    EXACT_ERROR,
    TruthResult,
    TruthTest,
    make_truth_test,
    translation_error,
)
from tunit.files.atomic import write_text
from tunit.machine import choose_device
from tunit.methods.inference import guidance_over, in_batches, redraw
from tunit.methods.model_file import Model, load_model
from tunit.printing import command, show
from tunit.reporting.write import write_report
from tunit.training.launch import resume_run, start_run
from tunit.training.resources import resolve_machine
from tunit.training.run_folder import EVALUATION

PICTURES = 1800
TEST_PAIRS = 300
TEST_SEED = 1_000_003  # added to the seed of the training pictures, so that test pictures differ from them
MINUTES = 8.0
SHOWN = 14  # creatures in a domain's row
ENLARGE = 3
Say = Callable[[str], None]
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Summary:
    """What the demo measured; saved as summary.json."""

    accuracy: float  # accuracy of the domains found, over all training pictures, by Hungarian matching
    translation_error_ratio: float  # error relative to the better naive answer, on the creature's own pixels
    translation_error: float  # in grey levels
    source_error: float  # the error of returning the source
    reference_error: float  # the error of returning the reference
    steps: int
    seed: int
    seconds: float  # everything, from drawing to the report


def run_demo(
    out: Path, *, minutes: float = MINUTES, seed: int = 0, overwrite: bool = False, say: Say = show
) -> Summary:
    """Draw creatures, find their domains, train, translate and measure, within about `minutes`.

    Writes into `out`: creatures/, run/ (an ordinary run folder), translations.png, domains.png, summary.json, and
    report.html, the page of `tunit report`.
    Raises RunError if `out` exists, unless it holds an earlier demo and `overwrite` is True. Then only the entries
    named above are replaced: creatures/ as a whole, with whatever was added to it, and the run in run/ (run/studio,
    which has the labels of the studio, stays; other things there are a RunError). Anything else in `out` stays.
    """
    began = time.perf_counter()
    config = resolve_machine(read_config("demo").with_overrides({"seed": seed}))
    config = _begin(out, config, minutes, overwrite, say)
    say(
        f"training for about {config.schedule.steps} steps: in the first {config.schedule.guide_only_until} only E "
        "learns, which finds the domains; then G and D learn, too"
    )
    steps = _train(out, config, began + planned_seconds(minutes) - REPORT_SECONDS, say)
    model = load_model(out / "run", choose_device(config.run.device))
    test = make_truth_test(TEST_PAIRS, config.data.image_size, seed + TEST_SEED)
    result = translation_error(model, test)
    domains, species, images = _domains_of(model, out)
    _draw_domains(out / "domains.png", images, domains, model.settings.domains)
    _draw_translations(out / "translations.png", model, test)
    accuracy = clustering_accuracy(domains, species)
    _leave_figures(out / "run", accuracy, result)
    write_report(out / "run", out / "report.html", seed=seed, device=model.domain_styles.device)
    summary = Summary(
        accuracy=accuracy,
        translation_error_ratio=result.ratio,
        translation_error=result.translation,
        source_error=result.source,
        reference_error=result.reference,
        steps=steps,
        seed=seed,
        seconds=time.perf_counter() - began,
    )
    write_text(out / "summary.json", json.dumps(vars(summary), indent=2) + "\n")
    for line in report(summary, result, domain_names(domains, species, list(SPECIES)), out):
        say(line)
    return summary


def _leave_figures(run: Path, accuracy: float, result: TruthResult) -> None:
    """Write the measured figures to where the report looks for them."""
    found = Evaluation(features="not needed, because drawn pictures have an exact truth")
    found.figures["accuracy"] = accuracy
    found.figures[EXACT_ERROR] = result.translation
    found.figures[ERROR_RATIO] = result.ratio
    folder = run / EVALUATION
    folder.mkdir(exist_ok=True)
    write_text(folder / RESULT, json.dumps(found.as_json(), indent=2) + "\n")


def report(summary: Summary, result: TruthResult, names: dict[int, str], out: Path) -> list[str]:
    """Lines for the terminal: what was found, where to look, what to try next."""
    found = ", ".join(f"{k} {name}" for k, name in names.items())
    creature = out / "creatures" / "pictures" / "00001.png"
    words = [out / "run", creature, "--domain", "all", "--out", out / "translated"]
    return [
        "",
        f"domains found without labels: {found}",
        f"accuracy {summary.accuracy:.3f} (share of creatures whose domain is their species)",
        f"translation error ratio {summary.translation_error_ratio:.3f}: translations are {result.translation:.1f} "
        f"grey levels off the exact truth, the source itself is {result.source:.1f} off, the reference "
        f"{result.reference:.1f}",
        f"time {summary.seconds / 60:.1f} min, {summary.steps} steps",
        "",
        f"look at    {out / 'report.html'} in a browser, {out / 'translations.png'}, {out / 'run' / 'samples'}",
        "try next   tunit train YOUR_FOLDER --out runs/mine --domains 10",
        f"           {command('translate', *words)}",
    ]


def _train(out: Path, config: Config, until: float, say: Say) -> int:
    """Train until about `until`, a time of `time.perf_counter`. Returns the number of steps.

    config: planned by `fitting_schedule`.
    """
    run, steps = out / "run", steps_of_first_part(config)
    start_run(out / "creatures" / "pictures", run, config.with_overrides({"steps": steps}))
    more = joint_steps_within(until - time.perf_counter(), run, config)
    if more > 0:
        say(f"training for {more} more steps, as many as fit into the time left")
        resume_run(run, overrides={"steps": str(steps + more)})
    return steps + more


def _begin(out: Path, config: Config, minutes: float, overwrite: bool, say: Say) -> Config:
    """Draw the creatures and plan the schedule; only then remove an earlier demo in `out`."""
    with preparing_demo(out, overwrite) as new:
        say(f"drawing {PICTURES} creatures of {len(SPECIES)} species ({', '.join(SPECIES)}), without labels")
        write_creatures(new / "creatures", PICTURES, config.data.image_size, config.run.seed)
        config = fitting_schedule(config, planned_seconds(minutes) - DRAWING_SECONDS - REPORT_SECONDS)
        replace_earlier(out, new, overwrite)
    return config


def _domains_of(model: Model, out: Path) -> tuple[NDArray[np.int64], NDArray[np.int64], Pictures]:
    """For every training picture: its domain by E, its true species, and its pixels."""
    packed = open_packed(out / "run" / "data")
    creatures = read_creatures(out / "creatures" / "factors.csv")
    species_of = {f"{i + 1:05d}.png": c.style.species for i, c in enumerate(creatures)}
    images = np.array(packed.images)
    domains = probabilities_and_styles(model, images)[0].argmax(1).numpy()
    return domains, np.array([species_of[name] for name in packed.names]), images


def _draw_domains(path: Path, images: Pictures, domains: NDArray[np.int64], number: int) -> None:
    """A row of creatures for every domain."""
    rows = []
    for k in range(number):
        members = np.flatnonzero(domains == k)
        if len(members):
            shown = [Image.fromarray(images[i]) for i in members[:SHOWN]]
            rows.append(gallery(shown, k, len(members), columns=SHOWN, enlarge=ENLARGE))
    stack(rows).save(path)


def _draw_translations(path: Path, model: Model, test: TruthTest) -> None:
    """Sources of different species in the styles of one reference of each species, beside the exact truth."""
    of_species = [
        [i for i, (_, b) in enumerate(test.pairs) if b.style.species == k] for k in range(len(SPECIES))
    ]
    columns = [members[0] for members in of_species]
    rows = [
        next(i for i, (a, _) in enumerate(test.pairs) if a.style.species == k) for k in range(len(SPECIES))
    ]
    device = model.domain_styles.device
    (x,) = in_batches(test.sources[rows], device)
    styles = guidance_over(model.guide, in_batches(test.references[columns], device)).style
    drawn = [out.cpu().numpy() for out in redraw(model.generator, x, styles)]
    size = test.sources.shape[1]
    results, truths = [], []
    for i, row in enumerate(rows):
        results.append([Image.fromarray(column[i]) for column in drawn])
        exact = [exact_translation(test.pairs[row][0], test.pairs[j][1]) for j in columns]
        truths.append([Image.fromarray(draw(creature, size)[0]) for creature in exact])
    sources = [Image.fromarray(test.sources[i]) for i in rows]
    references = [Image.fromarray(test.references[i]) for i in columns]
    ours = captioned(
        matrix(sources, references, results, enlarge=ENLARGE),
        "each source (left) redrawn as each reference (top)",
    )
    true = captioned(
        matrix(sources, references, truths, enlarge=ENLARGE), "the exact truth, which training never saw"
    )
    stack([ours, true]).save(path)

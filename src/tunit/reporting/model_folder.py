"""Write a model folder to share: the networks and all that inference needs, thumbnails of the domains, and a card."""

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from tunit.clustering.choice import NAME as CHOICE
from tunit.data.decoding.decode import PictureError
from tunit.data.galleries import grid, stack
from tunit.data.packing.packed import open_packed
from tunit.errors import ConfigError, DataError, RunError
from tunit.files.atomic import writable, write_text
from tunit.files.reading import UnreadableError
from tunit.files.result_names import THUMBNAIL, THUMBNAILS, thumbnail_of
from tunit.methods.findings import learns_only_styles
from tunit.methods.idle_settings import why_idle
from tunit.methods.inference import evenly_spread, in_batches, redraw
from tunit.methods.model_file import ABOUT, DOMAIN_NAMES, TENSORS, Model, load_model, save_model
from tunit.methods.registry import method_of
from tunit.pages.embedded import reduced
from tunit.reporting.evaluation_file import evaluation_of
from tunit.reporting.guided import guide_pictures
from tunit.reporting.model_card import UNKNOWN, CardDomain, CardFacts, card
from tunit.reporting.remarks import typical_rows
from tunit.reporting.undecided import domains_undecided
from tunit.training.alarms.watch import alarms_of, rows_of
from tunit.training.run_folder import RunFolder, label_names, read_picture_index
from tunit.translation.result_files import write_picture

CARD = "README.md"
SHOWN = 4  # a thumbnail shows this many pictures of a domain, and this many redrawn in its style


def files_of_folder(model: Model, *, pictures: bool) -> list[str]:
    """The files that `write_model_folder` may write, relative to the folder."""
    thumbnails = [thumbnail(k) for k in range(model.settings.domains)] if pictures else []
    return [TENSORS, ABOUT, DOMAIN_NAMES, CARD, *thumbnails]


def write_model_folder(
    run: Path,
    folder: Path,
    name: str,
    *,
    licence: str = UNKNOWN,
    trained_on: str = "",
    pictures: bool = True,
) -> int:
    """Write the model of `run`, with its card, into `folder`; returns how many thumbnails there are.

    name: on the hub. licence: its identifier. trained_on: a sentence for the card. pictures: False leaves out the
    thumbnails, which show training pictures; a run without its pictures has no thumbnails either.
    Raises RunError if there is no model.
    """
    model = load_model(run)
    labels = label_names(run)
    drawn = write_thumbnails(run, folder, model) if pictures else {}
    save_model(folder, model)
    sizes = [int(size) for size in model.domain_sizes]
    domains = [
        CardDomain(k, labels[k] if k < len(labels) else f"domain {k}", size, drawn.get(k, ""))
        for k, size in enumerate(sizes)
    ]
    names = [
        {"number": domain.number, "name": domain.name, "pictures": domain.pictures} for domain in domains
    ]
    write_text(folder / DOMAIN_NAMES, json.dumps({"labels": labels, "domains": names}, indent=2) + "\n")
    write_text(folder / CARD, card(_facts(RunFolder(run), model, name, licence, trained_on, labels, domains)))
    return len(drawn)


def _facts(
    run: RunFolder,
    model: Model,
    name: str,
    licence: str,
    trained_on: str,
    labels: Sequence[str],
    domains: Sequence[CardDomain],
) -> CardFacts:
    try:
        given = [label for _, label, _ in read_picture_index(run.pictures)]
        number: int | None = len(given)
    except UnreadableError:  # a model folder has no pictures
        given, number = [], sum(domain.pictures for domain in domains) or None
    try:
        began = str(run.read_about().get("began", ""))[:10]
    except RunError:
        began = ""
    return CardFacts(
        name=name,
        licence=licence,
        trained_on=trained_on,
        pictures=number,
        labels=len(labels),
        image_size=model.image_size,
        method=model.config.method.method,
        source=method_of(model.config).source,
        steps=model.step,
        began=began,
        domains=domains,
        evaluation=evaluation_of(run, None),
        alarms=[a.sentence for a in alarms_of(rows_of(run.metrics)) if a.over is None],
        helper=_helper_of(run, model.step, all_labelled=bool(given) and all(given)),
        undecided=bool(domains_undecided(run.path, model.step)),
    )


def _helper_of(run: RunFolder, step: int, *, all_labelled: bool) -> str:
    """The feature network that helped to find a run's neighbours or its domains; "" for none.

    step: that of the model. all_labelled: every picture has a label.
    """
    try:
        config = run.read_config()
    except (RunError, ConfigError):  # a model folder has no config
        return ""
    settings = config.clustering
    # Before the domains are decided, only a search for neighbours can have used the network.
    decided = learns_only_styles(config) and step >= config.schedule.guide_only_until
    used = settings.neighbours > 0 or decided or (run.path / CHOICE).exists()
    return (
        settings.feature_cue
        if used and not why_idle(config, "feature_cue", all_labelled=all_labelled)
        else ""
    )


def write_thumbnails(run: Path, folder: Path, model: Model) -> dict[int, str]:
    """Write a thumbnail for each domain: typical pictures above, a few in its average style below.

    Returns the file of each domain that has one. The same few pictures, evenly spread, are redrawn for all domains.
    """
    try:
        packed = open_packed(RunFolder(run).data)
    except DataError:
        return {}
    if packed.images.shape[1] != model.image_size:
        return {}
    guided = guide_pictures(packed, model)
    filled = [k for k, size in enumerate(model.domain_sizes.tolist()) if size]
    (x,) = in_batches(guided.images[evenly_spread(len(guided.images), SHOWN)], model.domain_styles.device)
    columns = [drawn.cpu().numpy() for drawn in redraw(model.generator, x, model.domain_styles[filled])]
    files = {}
    for k, redrawn in zip(filled, columns, strict=True):
        typical = guided.images[
            typical_rows(guided.found, guided.styles, model.domain_styles.cpu(), k, SHOWN)
        ]
        rows = [grid([reduced(pixels) for pixels in row], SHOWN) for row in (typical, redrawn) if len(row)]
        try:
            write_picture(folder, thumbnail(k), stack(rows, gap=2))
        except PictureError as error:
            raise DataError(f"{folder / thumbnail(k)} cannot be written ({error.detail})") from None
        files[k] = thumbnail(k)
    return files


def thumbnail(k: int) -> str:
    """The file of domain k's thumbnails, relative to the folder."""
    return f"{THUMBNAILS}/{thumbnail_of(k)}"


def thumbnails_in(folder: Path) -> set[str]:
    """The files of thumbnails that a folder holds now, relative to the folder."""
    there = (folder / THUMBNAILS).iterdir() if (folder / THUMBNAILS).is_dir() else ()
    return {name for path in there if is_thumbnail(name := f"{THUMBNAILS}/{path.name}")}


def is_thumbnail(name: str) -> bool:
    """Whether a file, relative to a model folder, has the name of a thumbnail."""
    folder, _, file = name.rpartition("/")
    return folder == THUMBNAILS and THUMBNAIL.fullmatch(file) is not None


def remove_thumbnails(folder: Path, names: Collection[str]) -> None:
    """Remove thumbnails of an earlier model, which show training pictures. Raises UnwritableError."""
    if not names:  # an empty folder is then not tunit's own
        return
    for name in names:
        with writable(folder / name):
            (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # other files are there
        (folder / THUMBNAILS).rmdir()

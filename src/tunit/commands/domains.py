"""Show which domain each picture of a folder falls into, with a gallery of every domain.

  tunit domains runs/mine photos/
  tunit domains runs/mine photos/ --out sorted --per-domain 64

Writes domains.csv (a row for each picture: its domain, the confidence, and an outlier score from 0 to 1: from 0.5 on
it may be off-topic), domain_0.png and so on with the pictures that belong most clearly to each domain, and
overview.png. Labels and names of folders are not used. It prints how many pictures may be off-topic. If the run found
the number of its domains by itself (--domains auto), the reasons and other likely numbers are printed. To train again
without off-topic pictures, use `--leave-out-outliers 0.5`, then `tunit train DIR/kept.txt`.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tunit.commands.kept_pictures import paths_of, write_kept
from tunit.commands.numbers import share, whole
from tunit.commands.picture_arguments import (
    absolute,
    add_engine,
    add_model_arguments,
    counted,
    find_sources,
    in_reading_order,
    load_translator,
    progress,
)
from tunit.commands.sorted_results import SortedResults
from tunit.commands.tally import PictureOutput, Tally, picture_output_of
from tunit.files.paths import path_or_url
from tunit.files.result_names import DOMAINS, KEPT, OVERVIEW, TABLE, gallery_of
from tunit.printing import listed, numbered, remark, show, show_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tunit.data.finding.found import PictureSource
    from tunit.translation.inputs import Report
    from tunit.translation.translator import Translator
    from tunit.translation.unfinished_results import UnfinishedWork

HELP = "sort pictures into the domains that a run found, with galleries"
# Pictures per domain, and domains; some viewers cannot open larger images.
OVERVIEW_COLUMNS, OVERVIEW_ROWS = 8, 64
MOST_SHOWN = 10_000  # pictures of a domain in a gallery; their thumbnails take 500 MB of memory
THUMBNAIL = 128  # pixels; larger pictures are reduced to this size in galleries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit domains`."""
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a trained run")
    parser.add_argument(
        "source",
        type=path_or_url,
        metavar="FOLDER",
        help="a folder, archive, list of paths or picture; or the URL of a folder in a store, such as s3://bucket/folder",
    )
    parser.add_argument(
        "--out",
        type=path_or_url,
        metavar="DIR",
        help="folder for the results, also the URL of one in a store [RUN/domains]",
    )
    parser.add_argument(
        "--per-domain",
        type=whole(1, MOST_SHOWN),
        default=36,
        metavar="N",
        help="pictures in a domain's gallery [36]",
    )
    parser.add_argument(
        "--leave-out-outliers",
        type=share,
        metavar="SCORE",
        help="also write kept.txt, a list for `tunit train` of all pictures whose outlier score is lower than this",
    )
    add_engine(parser)
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit domains`."""
    from tunit.data.finding.left_out import LeftOut, summarise_left_out
    from tunit.errors import DataError
    from tunit.reporting.undecided import domains_undecided
    from tunit.translation.classification import check_learns_domains
    from tunit.translation.model_place import model_folder, results_of

    if args.engine == "ray":  # workers may run in other folders
        args.source = absolute(args.source)
    out = results_of(args.model, args.out, DOMAINS)
    left_out: list[LeftOut] = []
    report = None if args.strict else left_out.append
    pictures = find_sources([args.source], out=out, report=report, picture_column=args.picture_column)
    paths = {} if args.leave_out_outliers is None else paths_of(pictures, args.source)
    # The name of a model on the hub is replaced by its folder in the cache. The path contains the model's version, so
    # a stopped job goes on only with the same version.
    args.model = model_folder(args.model)
    translator = load_translator(args)
    check_learns_domains(translator.model)
    galleries = [gallery_of(k) for k in range(translator.number_of_domains)]
    order = in_reading_order(pictures)
    work = _work_on(args, out, translator, order)
    results = SortedResults(out)
    older = results.galleries(TABLE) - set(galleries)  # of an earlier model with more domains
    names = [TABLE, OVERVIEW, KEPT, *galleries, *sorted(older)]
    # A stopped job that had looked at all pictures may have moved some of its results to `out` already. They may stay
    # if they are equal to the new ones, which is checked below.
    looked_at_all = 0 < work.done == len(order)
    results.claim(names, overwrite=args.overwrite or looked_at_all, source=args.source, pictures=pictures)
    with work:
        tally = _tally_of(translator, order, args.per_domain, report, work)
        if not tally.rows:
            raise DataError(f"no picture of {args.source} could be read: {summarise_left_out(left_out)}")
        _print_table(tally)
        _tell_number(args.model, translator.number_of_domains)
        scores = tally.outliers()
        _tell_outliers(scores)
        undecided = domains_undecided(args.model, translator.model.step)
        for problem in [undecided] if undecided else remarks(tally.sizes):
            remark(problem)
        with results.staged() as stage:
            _write(stage, tally, scores)
            if args.leave_out_outliers is not None:
                write_kept(stage / KEPT, paths, tally, scores, args.leave_out_outliers)
            written = {path.name for path in stage.iterdir()}
            others = [name for name in written if (stage / name).read_bytes() != results.read(name)]
            results.claim(others, overwrite=args.overwrite)
        if args.overwrite:  # remove files of an earlier call
            results.remove({KEPT, *galleries, *older} - written)
    said = summarise_left_out(left_out)
    if args.leave_out_outliers is not None and not left_out:
        said = "all could be used"  # "none left out" could be read as the outliers
    show(f"{numbered(len(tally.rows), 'picture')}: {out}; {said}")
    return 0


def _tell_number(model: Path, domains: int) -> None:
    """Print how the number of domains was chosen, if the run found it by itself."""
    from tunit.clustering.choice import read_choice_file

    choice = read_choice_file(model)
    if choice is not None and choice.domains == domains:
        show(choice.headline, *(f"  {reason}" for reason in choice.reasons))


def _tell_outliers(scores: "NDArray[np.float64]") -> None:
    """Print how many pictures may be off-topic, if any, and where to see which. scores: of all pictures."""
    from tunit.clustering.outliers import OFF_TOPIC

    if number := int((scores >= OFF_TOPIC).sum()):
        verb = "has" if number == 1 else "have"
        show(
            f"{number:,} of {len(scores):,} pictures may be off-topic: {'it' if number == 1 else 'they'} {verb} "
            f"{OFF_TOPIC:g} or more in the column outlier of {TABLE}"
        )


def remarks(sizes: list[int]) -> list[str]:
    """Warnings in plain words; sizes: pictures in each domain."""
    from tunit.training.alarms.guide_alarms import crowded_from

    if sum(sizes) < len(sizes):  # too few pictures to judge the model
        return []
    said = []
    empty = [str(k) for k, size in enumerate(sizes) if not size]
    if len(empty) == 1:
        said.append(f"domain {empty[0]} is empty: no picture fell into it")
    elif empty:
        said.append(f"domains {listed(empty, len(empty))} are empty: no picture fell into them")
    largest = max(sizes) / sum(sizes)
    if len(sizes) > 1 and largest > crowded_from(len(sizes)):
        said.append(
            f"domain {sizes.index(max(sizes))} holds {largest:.0%} of the pictures: either they are very similar, or "
            "the model cannot tell them apart; longer training or another number of domains may help"
        )
    return said


def _work_on(
    args: argparse.Namespace, out: Path | str, translator: "Translator", order: "list[PictureSource]"
) -> "UnfinishedWork":
    """The record with which this job can go on, if it is stopped."""
    from tunit.translation.unfinished_results import UnfinishedWork, identity_of, place_of_record

    names = ("device", "precision", "compile", "max_pixels", "per_domain")
    about = ["domains", *(str(getattr(args, name)) for name in names), *identity_of(args.model)]

    def is_whole(work: "UnfinishedWork", source: "PictureSource", result: object) -> bool:
        return _picture_output_of(translator, result) is not None

    place = place_of_record(out)
    return UnfinishedWork(place, [*about, "" if place == out else str(out)], order, args.batch, is_whole)


def _picture_output_of(translator: "Translator", result: object) -> PictureOutput | None:
    from tunit.clustering.outliers import appearance_width

    side = min(translator.image_size, THUMBNAIL)
    return picture_output_of(result, translator.number_of_domains, appearance_width(), side)


def _tally_of(
    translator: "Translator",
    order: "list[PictureSource]",
    per_domain: int,
    report: "Report | None",
    work: "UnfinishedWork",
) -> Tally:
    """Run E on every picture, a batch at a time. What a stopped job has recorded is taken from there."""
    import torch.nn.functional as F

    from tunit.clustering.outliers import appearance
    from tunit.data.batching.augment import to_uint8
    from tunit.data.finding.found import PictureSource
    from tunit.data.finding.left_out import LeftOut
    from tunit.translation.inputs import leave_out

    def leave(item: LeftOut) -> None:
        """Report a picture that cannot be used, and record it."""
        work.note_left_out(item)
        leave_out(item, report)

    tally = Tally(translator.number_of_domains, per_domain)
    if work.done:
        remark(f"going on after {work.done:,} of {len(order):,} pictures")
    for source, found in work.finished_sources():
        if found.left_out is not None:
            leave_out(found.left_out, report)
        elif output := _picture_output_of(translator, found.result):
            tally.add(source.name, output)
    left = order[work.done :]
    with progress(len(left), "looking") as advance:
        for batch, x, guidance in translator.guided(counted(left, advance), report=leave):
            appearances = appearance(to_uint8(x).numpy())
            if translator.image_size > THUMBNAIL:
                x = F.interpolate(x, (THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True)
            thumbnails = to_uint8(x).numpy()
            confidences, domains = guidance.logits.softmax(1).max(1)
            for i, picture in enumerate(batch):
                source = cast(PictureSource, picture)  # all pictures here are of this type
                output = PictureOutput(int(domains[i]), float(confidences[i]), appearances[i], thumbnails[i])
                if not tally.add(source.name, output):
                    output = output._replace(thumbnail=None)
                work.note(source, output.as_json())
    return tally


def _write(out: Path, tally: Tally, scores: "NDArray[np.float64]") -> None:
    """Write the table, the galleries and the overview."""
    import csv
    import io

    from tunit.clustering.outliers import DECIMALS
    from tunit.data.galleries import enlargement, gallery, stack
    from tunit.translation.result_files import write_picture, write_result

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("picture", "domain", "confidence", "outlier"))
    rated = sorted((*row, score) for row, score in zip(tally.rows, scores, strict=True))
    writer.writerows(
        (name, domain, f"{sure:.4f}", f"{score:.{DECIMALS}f}") for name, domain, sure, score in rated
    )
    write_result(out / TABLE, text.getvalue().encode("utf-8", "surrogateescape"))
    rows = []
    largest = sorted(range(len(tally.sizes)), key=lambda k: -tally.sizes[k])[:OVERVIEW_ROWS]
    for domain, size in enumerate(tally.sizes):
        name = gallery_of(domain)
        if not size:
            continue
        best = tally.best(domain)
        times = enlargement(best[0].width)
        write_picture(out, name, gallery(best, domain, size, enlarge=times))
        if domain in largest:
            row = gallery(best[:OVERVIEW_COLUMNS], domain, size, columns=OVERVIEW_COLUMNS, enlarge=times)
            rows.append(row)
    write_picture(out, OVERVIEW, stack(rows))


def _print_table(tally: Tally) -> None:
    rows = [
        (domain, f"{size:,}", f"{tally.mean_confidence(domain):.3f}" if size else "-")
        for domain, size in enumerate(tally.sizes)
    ]
    show_table(("domain", "pictures", "mean confidence"), rows, left=0)

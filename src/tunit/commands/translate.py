"""Redraw pictures in the style of other pictures, or of a domain that the training found.

Each source keeps its content, such as the pose, and takes on the look of the reference. Sources and references
may be pictures, folders, zip or tar archives, and lists; a folder's sub-folders are kept in --out.

  tunit translate runs/mine cat.jpg --reference tiger.jpg --out translated
  tunit translate runs/mine photos/ --reference tiger1.jpg tiger2.jpg --out translated --size original
  tunit translate runs/mine photos/ --domain all --out translated
  tunit translate runs/mine clip.mp4 --reference tiger.jpg --out as-tiger.mp4
  tunit translate runs/mine faces/ --from-label plain --to-label smiling --strength 0.8 --out translated
"""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.numbers import number
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
from tunit.commands.redrawing import Results, named_apart, place_for, redraw_all, work_on
from tunit.commands.target_domains import ALL, domain_of_label, sources_of_domain, target_domains
from tunit.commands.translate_video import translate_video, wants_video
from tunit.files.paths import path_or_url
from tunit.printing import numbered, show

if TYPE_CHECKING:
    from torch import Tensor

    from tunit.data.finding.found import PictureSource
    from tunit.translation.inputs import Report
    from tunit.translation.translator import Translator

HELP = "redraw pictures in the style of others, or of a domain"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit translate`."""
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a trained run")
    parser.add_argument(
        "sources",
        type=path_or_url,
        nargs="+",
        metavar="SOURCE",
        help="pictures to redraw; folders in a store by URL, such as s3://bucket/folder",
    )
    style = parser.add_mutually_exclusive_group(required=True)
    style.add_argument(
        "--reference",
        type=path_or_url,
        nargs="+",
        metavar="PICTURE",
        help="use the style of this picture; for several pictures, or a folder, their average style",
    )
    style.add_argument(
        "--domain",
        metavar="K",
        help="use the average style of domain K; `all` makes a folder for each domain",
    )
    style.add_argument(
        "--to-label",
        metavar="B",
        help="use the average style of label B; the run must have been trained with (a few) labels",
    )
    parser.add_argument(
        "--from-label",
        metavar="A",
        help="with --to-label: only sources to which the model assigns label A [all]",
    )
    parser.add_argument(
        "--strength",
        type=number,
        default=1.0,
        metavar="X",
        help="how far each source's style moves: 0 keeps it, 1 reaches the target, more exaggerates [1]",
    )
    parser.add_argument(
        "--out",
        type=path_or_url,
        required=True,
        metavar="DIR",
        help="folder for the results, or the URL of one in a store; for a video, it may be the name of the file",
    )
    _add_shape(parser)
    add_engine(parser)
    add_model_arguments(parser)


def _add_shape(parser: argparse.ArgumentParser) -> None:
    """Add the options for the size, the colours and the format of results."""
    parser.add_argument(
        "--fit",
        choices=("stretch", "crop", "pad"),
        help="how a source becomes the square that the model needs: stretch changes the proportions, crop keeps only "
        "the central square, pad adds a border, which is removed afterwards [as in training]",
    )
    parser.add_argument(
        "--size",
        metavar="original|N",
        help="size of the results: `original` for that of the source (with --fit crop, of its central square), or N "
        "for the longer side in pixels, with the proportions of the source [the model's size]",
    )
    parser.add_argument(
        "--restore-size",
        action="store_true",
        help="give results the source's own size and proportions; the same as --size original",
    )
    parser.add_argument("--restore-grey", action="store_true", help="make the results of grey sources grey")
    parser.add_argument(
        "--format",
        choices=("png", "jpg", "webp", "keep"),
        help="format of the results, if they are pictures; keep: the format of each source, or PNG if tunit cannot "
        "write that. Results of transparent sources are transparent, except in JPEG and BMP [png]",
    )


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit translate`."""
    from tunit.data.decoding.decode import READABLE
    from tunit.data.finding.left_out import LeftOut, summarise_left_out
    from tunit.errors import ConfigError, DataError
    from tunit.translation.inputs import check_resize, resize_wanted
    from tunit.translation.model_place import model_folder
    from tunit.translation.result_files import plan_names

    _check_is_folder(args.out)
    if wants_video(args):
        return translate_video(args, _style_of_video)
    if args.engine == "ray":  # workers may run in other folders
        args.sources = [absolute(path) for path in args.sources]
        args.reference = args.reference and [absolute(path) for path in args.reference]
    resize = check_resize(resize_wanted(args.size, args.restore_size))
    left_out: list[LeftOut] = []
    report = None if args.strict else left_out.append
    column = args.picture_column
    sources = find_sources(args.sources, out=args.out, report=report, picture_column=column)
    references = find_sources(args.reference or [], out=None, report=report, picture_column=column)
    args.model = model_folder(args.model)
    translator = load_translator(args)
    if args.from_label and not args.to_label:
        raise ConfigError("--from-label chooses sources, but no target is given: give --to-label, too")
    domains = target_domains(args, translator)
    if args.from_label:
        sources = sources_of_domain(
            translator, sources, domain_of_label(args.from_label, args.model, translator), report
        )
    folders = [f"domain_{k}/" for k in domains] if args.domain == ALL else [""]
    names = plan_names([source.name for source in sources], args.format or "png")
    sources = named_apart(sources, names)
    results = Results(args.out, folders, dict(zip(sources, names, strict=True)))
    order = in_reading_order(sources)
    work = work_on(args, results, order, references)
    ours = results.ours(work)
    results.claim(ours, [*sources, *references], overwrite=args.overwrite)
    place = place_for(work, results, ours)
    redraw = partial(
        translator.redraw,
        styles=_styles(translator, domains, references, report),
        strength=args.strength,
        fit=args.fit,
        resize=resize,
        restore_grey=args.restore_grey,
    )
    with results.marked(), work:
        written = redraw_all(redraw, results, order, place, report, work)
        if not written:
            summary = summarise_left_out(left_out)
            raise DataError(f"no source could be translated ({summary}): give {READABLE} pictures")
        results.finish(place)
    summary = summarise_left_out(left_out)
    of_all = f" into {numbered(len(domains), 'domain')}" if args.domain == ALL else ""
    show(f"translated {numbered(written, 'picture')}{of_all}: {args.out}; {summary}")
    return 0


def _check_is_folder(out: Path | str) -> None:
    """Raises ConfigError if --out looks like the name of a picture, or of a video of a kind that is not written: a
    folder of this name would surprise people.
    """
    from tunit.data.finding.naming import PICTURE_SUFFIXES, suffix_of
    from tunit.errors import ConfigError
    from tunit.translation.video import READ, WRITTEN

    if isinstance(out, Path) and out.exists():
        return
    suffix = suffix_of(str(out).rstrip("/").rpartition("/")[2])
    if suffix in PICTURE_SUFFIXES:
        raise ConfigError(
            f"--out {out} ends in {suffix}, but is the folder for the results, which get the names of their sources: "
            "give the name of a folder"
        )
    if suffix in READ - WRITTEN.keys():
        raise ConfigError(
            f"--out {out} ends in {suffix}, and such videos are not written: give a name that ends in one of "
            f"{', '.join(WRITTEN)}, or the name of a folder"
        )


def _style_of_video(
    args: argparse.Namespace,
    translator: "Translator",
    references: "list[PictureSource]",
    report: "Report | None",
) -> "Tensor":
    return _styles(translator, target_domains(args, translator), references, report)


def _styles(
    translator: "Translator", domains: list[int], references: "list[PictureSource]", report: "Report | None"
) -> "Tensor":
    """One style code per folder of results: (M, style width)."""
    import torch

    if domains:
        return torch.stack([translator.domain_style(k) for k in domains])
    if len(references) == 1:
        report = None  # a single reference that cannot be read is an error
    with progress(len(references), "references") as advance:
        return translator.style(counted(in_reading_order(references), advance), report=report)[None]

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
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tunit.commands.picture_arguments import (
    add_engine,
    add_model_arguments,
    counted,
    files_of,
    find_sources,
    load_translator,
    progress,
    reading_order,
    say,
)
from tunit.commands.target_domains import ALL, number_of, of_domain, target_domains
from tunit.commands.translate_video import translate_video, wants_video
from tunit.printing import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from PIL.Image import Image
    from torch import Tensor

    from tunit.data.finding.found import PictureSource
    from tunit.translation.inputs import Picture, Report
    from tunit.translation.translator import Translator
    from tunit.translation.unfinished import UnfinishedTranslation

HELP = "redraw pictures in the style of others, or of a domain"
SAVED_BEHIND = 16  # the results of at most this many sources may wait in memory to be saved


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit translate`."""
    parser.add_argument("model", type=Path, metavar="RUN", help="folder of a trained run")
    parser.add_argument("sources", type=Path, nargs="+", metavar="SOURCE", help="pictures to redraw")
    style = parser.add_mutually_exclusive_group(required=True)
    style.add_argument(
        "--reference",
        type=Path,
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
        type=float,
        default=1.0,
        metavar="X",
        help="how far each source's style moves: 0 keeps it, 1 reaches the target, more exaggerates [1]",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the results; for a video, it may be the name of the new file",
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
        default="png",
        help="format of the results; keep: the format of each source, or PNG if tunit cannot write that. Results of "
        "transparent sources are transparent, except in JPEG and BMP [png]",
    )


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit translate`."""
    from tunit.data.decoding.decode import READABLE
    from tunit.data.finding.left_out import LeftOut, summarise_left_out
    from tunit.errors import ConfigError, DataError
    from tunit.translation.inputs import check_resize, restored
    from tunit.translation.model_place import model_folder
    from tunit.translation.outputs import claim_names, marked, plan_names

    if wants_video(args):
        return translate_video(args, _style_of_video)
    if args.engine == "ray":  # workers may run in other folders
        args.sources = [path.absolute() for path in args.sources]
        args.reference = args.reference and [path.absolute() for path in args.reference]
    resize = check_resize(restored(args.size, args.restore_size))
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
        sources = of_domain(translator, sources, number_of(args.from_label, args.model, translator), report)
    folders = [f"domain_{k}/" for k in domains] if args.domain == ALL else [""]
    names = plan_names([source.name for source in sources], args.format)
    targets = [folder + name for folder in folders for name in names]
    order = reading_order(sources)
    unfinished = _unfinished(args, targets, order)
    again = args.overwrite or (unfinished is not None and unfinished.goes_on)
    claim_names(args.out, targets, overwrite=again, keep=files_of([*sources, *references]))
    styles = _styles(translator, domains, references, report)
    named = dict(zip(sources, names, strict=True))
    drawn = partial(
        translator.redraw,
        styles=styles,
        strength=args.strength,
        fit=args.fit,
        resize=resize,
        restore_grey=args.restore_grey,
    )
    into = nullcontext(args.out) if unfinished else _place(args.out, targets)
    with marked(args.out), into as place, unfinished or nullcontext() as journal:
        written = _translate(drawn, named, order, place, folders, report, journal)
        if not written:
            summary = summarise_left_out(left_out)
            raise DataError(f"no source could be translated ({summary}): give {READABLE} pictures")
    summary = summarise_left_out(left_out)
    noun = "picture" if written == 1 else "pictures"
    of_all = f" into {len(domains)} domains" if args.domain == ALL else ""
    show(f"translated {written:,} {noun}{of_all}: {args.out}; {summary}")
    return 0


def _unfinished(
    args: argparse.Namespace, targets: list[str], order: "list[PictureSource]"
) -> "UnfinishedTranslation | None":
    """The journal from which a stopped job on a cluster can go on.

    None on one machine, if results are replaced, or if sources from several folders have the same name.
    """
    from tunit.translation.unfinished import UnfinishedTranslation, stamp_of

    if args.engine != "ray" or len({source.name for source in order}) < len(order):
        return None
    names = ("domain", "to_label", "from_label", "strength", "fit", "size", "restore_size", "restore_grey")
    about = [str(getattr(args, name)) for name in (*names, "precision", "max_pixels")]
    about += [str(path.resolve()) for path in (args.model, *(args.reference or []))]
    about.append(stamp_of(args.model))
    unfinished = UnfinishedTranslation(args.out, [*about, *targets], order, args.batch)
    replaces = not unfinished.goes_on and any((args.out / name).exists() for name in targets)
    return None if replaces else unfinished


def _place(out: Path, targets: list[str]) -> "AbstractContextManager[Path]":
    """The folder to write results into: `out` or, if old results must stay until all new ones are complete, a hidden
    folder in it.
    """
    from tunit.destination import staged

    return staged(out) if any((out / name).exists() for name in targets) else nullcontext(out)


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
        return translator.style(counted(reading_order(references), advance), report=report)[None]


def _translate(
    redraw: "Callable[..., Iterator[tuple[Picture, list[Image]]]]",
    names: "dict[PictureSource, str]",
    order: "list[PictureSource]",
    out: Path,
    folders: list[str],
    report: "Report | None",
    unfinished: "UnfinishedTranslation | None",
) -> int:
    """Write every result as soon as it is ready; returns how many sources were translated."""
    from tunit.data.decoding.decode import PictureError
    from tunit.data.finding.found import PictureSource
    from tunit.data.finding.left_out import LeftOut
    from tunit.data.packing.overlap import map_in_threads
    from tunit.translation.inputs import leave_out
    from tunit.translation.outputs import holds_transparency, write_picture
    from tunit.translation.results import ANIMATED

    def write(result: "tuple[Picture, list[Image]]") -> tuple[str, LeftOut | None]:
        """Write the results of one source. Returns its name, and the reason if they cannot be written."""

        found = cast(PictureSource, result[0])  # all sources here are of this type
        try:
            for folder, image in zip(folders, result[1], strict=True):
                if image.mode in ("RGBA", "LA") and not holds_transparency(names[found]):
                    lost.add(found.name)
                if image.info.get(ANIMATED):
                    animated.add(found.name)
                write_picture(out, folder + names[found], image)
        except PictureError as error:
            return found.name, LeftOut(found.name, error.reason, error.detail)
        return found.name, None

    def leave(item: LeftOut) -> None:
        """Report a source that cannot be used, and remember it."""

        if unfinished:
            unfinished.note(item.name, item)
        leave_out(item, report)

    written = unfinished.written if unfinished else 0
    if unfinished and unfinished.done:
        say(f"going on after {unfinished.done:,} of {len(order):,} sources")
        for item in unfinished.left_out:
            leave_out(item, report)
        order = order[unfinished.done :]
    animated = set[str]()  # sources that are animations
    lost = set[str]()  # transparent sources whose results have a format without transparency
    with progress(len(order), "translating") as advance:
        sources = counted(order, advance)
        # Saving runs in threads, so that the networks need not wait for it.
        drawn = redraw(sources, report=leave)
        with closing(map_in_threads(write, drawn, ahead=SAVED_BEHIND)) as outcomes:
            for name, problem in outcomes:
                if problem is not None:
                    leave(problem)
                    continue
                written += 1
                if unfinished:
                    unfinished.note(name, None)
    _tell(lost, animated)
    return written


def _tell(lost: set[str], animated: set[str]) -> None:
    """Report what the results lack compared with their sources."""
    if lost:
        say(
            f"the results of {len(lost):,} transparent sources are opaque, because of their format: use --format png"
        )
    if animated:
        say(
            f"{len(animated):,} sources are animations, of which only the first picture was redrawn: give a GIF by "
            "itself and a name such as out.mp4 as --out for a video"
        )

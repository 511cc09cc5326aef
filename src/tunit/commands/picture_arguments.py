"""What the commands that feed pictures to a trained model share: options, sources, progress."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.numbers import whole
from tunit.printing import remark

if TYPE_CHECKING:
    from tunit.data.finding.found import PictureSource
    from tunit.translation.inputs import Report
    from tunit.translation.translator import Translator

MAX_PIXELS = 178_956_970  # the config's default; importing the config would slow `--help` down


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--device, --precision, --batch, --compile, --picture-column, --max-pixels, --strict and --overwrite."""
    add_device(parser)
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision of convolutions and matrix products [float32]",
    )
    parser.add_argument(
        "--batch", type=whole(1, 100_000), default=32, metavar="N", help="batch size of the networks [32]"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the networks by torch.compile, for GPUs (not measured); the start takes longer",
    )
    parser.add_argument(
        "--picture-column",
        default="",
        metavar="NAME",
        help="the column of a CSV table that holds the pictures' paths, by name or number [found by its content]",
    )
    add_max_pixels(parser)
    parser.add_argument(
        "--strict", action="store_true", help="stop at a bad picture instead of leaving it out"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace result files that exist already")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N, mps or xpu; auto is cuda if there is such a GPU, otherwise cpu [auto]",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add --engine, for commands that can run on a cluster."""
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="where pictures are decoded and the networks run: on this machine, or on a Ray cluster, whose machines "
        "must have all files under the same paths [local]",
    )


def add_max_pixels(
    parser: argparse.ArgumentParser,
    text: str = "a picture that declares more pixels is left out and not decoded",
    most: int = MAX_PIXELS,
) -> None:
    """Add --max-pixels. text: what happens to larger pictures, for the help; most: the default."""
    parser.add_argument(
        "--max-pixels",
        type=whole(1, 2**32),
        default=most,
        metavar="N",
        help=f"{text} [{most}]",
    )


def absolute(source: Path | str) -> Path | str:
    """An absolute path, which stays valid if the working folder changes. A URL is returned as it is."""
    return source if isinstance(source, str) else source.absolute()


def load_translator(args: argparse.Namespace) -> "Translator":
    """Load the model, as the options of `add_model_arguments` say."""
    from tunit.translation.translator import Translator

    return Translator.load(
        args.model,
        device=args.device,
        precision=args.precision,
        batch=args.batch,
        compiled=args.compile,
        max_pixels=args.max_pixels,
        engine=getattr(args, "engine", "local"),
    )


def find_sources(
    sources: Sequence[Path | str],
    *,
    out: Path | str | None,
    report: "Report | None",
    picture_column: str = "",
) -> "list[PictureSource]":
    """The pictures of all sources; within each source in the order of their names, and each picture once.

    out: the folder of results; if it is inside a folder of pictures, its content is skipped.
    picture_column: the column of tables with the pictures' paths; "" finds it.
    report: called for each file that cannot be used; if None, such a file raises DataError, as a missing path does.
    """
    from tunit.data.finding.find import find_pictures
    from tunit.data.finding.left_out import LeftOut
    from tunit.errors import DataError
    from tunit.translation.inputs import leave_out

    found: dict[PictureSource, None] = {}
    last: DataError | None = None
    for source in sources:
        try:
            here = find_pictures(source, picture_column=picture_column)
        except DataError as error:
            if report is None or len(sources) == 1 or isinstance(source, str) or not source.exists():
                raise
            report(LeftOut(str(source), "unusable", str(error)))
            last = error
            continue
        for note in here.notes:
            remark(note)
        for item in here.left_out:
            leave_out(item, report)
        pictures = _outside(here.pictures, source, out)
        if not pictures:
            raise DataError(
                f"all pictures of {source} lie inside {out}, where results go: give another --out"
            )
        found |= dict.fromkeys(pictures)
    if not found and last is not None:
        raise last
    return list(found)


def _outside(
    pictures: "list[PictureSource]", source: Path | str, out: Path | str | None
) -> "list[PictureSource]":
    """The pictures except those in `out`, results of an earlier call, if `out` is inside the folder `source`."""
    if isinstance(out, str) and isinstance(source, str):
        from tunit.data.finding.stores import address_of

        folder, _, inside = f"{address_of(out)}/".partition(f"{address_of(source)}/")
        return pictures if folder else [p for p in pictures if not p.name.startswith(inside)]
    if not isinstance(out, Path) or not isinstance(source, Path) or not source.is_dir():
        return pictures
    if not out.resolve().is_relative_to(source.resolve()):
        return pictures
    within = out.resolve().relative_to(source.resolve())
    return [picture for picture in pictures if not Path(picture.name).is_relative_to(within)]


def in_reading_order(pictures: "Sequence[PictureSource]") -> "list[PictureSource]":
    """The pictures in the order in which archives are read fastest; other files stay in their order."""
    from tunit.data.finding.found import reading_order

    return [pictures[i] for i in reading_order(pictures)]


def files_of(pictures: "Sequence[PictureSource]") -> list[Path]:
    """The files of the pictures, or the archives that hold them."""
    from tunit.data.finding.found import file_of

    return [path for path in {file_of(picture) for picture in pictures} if path is not None]


@contextmanager
def progress(total: int, text: str) -> Iterator[Callable[[], None]]:
    """A progress bar, if there is a terminal and rich; call the returned function once per picture."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda: None
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda: bar.advance(task)


def counted(pictures: "Sequence[PictureSource]", advance: Callable[[], None]) -> "Iterator[PictureSource]":
    """The pictures, each counted when it is taken."""
    for picture in pictures:
        yield picture
        advance()

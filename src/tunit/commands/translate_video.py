"""`tunit translate` for a video: one style for all pictures; the sound stays unchanged if the format can hold it."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.picture_arguments import files_of, find_sources, load_translator, progress
from tunit.printing import numbered, remark, show

if TYPE_CHECKING:
    from torch import Tensor

    from tunit.data.finding.found import PictureSource
    from tunit.translation.inputs import Report
    from tunit.translation.translator import Translator

    StyleOf = Callable[[argparse.Namespace, Translator, list[PictureSource], Report | None], Tensor]


def wants_video(args: argparse.Namespace) -> bool:
    """Whether a source is a video, or the result must be one."""
    from tunit.translation.video import WRITTEN, is_video

    return any(isinstance(path, Path) and is_video(path) and not path.is_dir() for path in args.sources) or (
        Path(args.out).suffix.lower() in WRITTEN and not Path(args.out).is_dir()
    )


def translate_video(args: argparse.Namespace, style_of: "StyleOf") -> int:
    """Run `tunit translate` for a video. style_of: returns the requested style code (1, style width)."""
    from tunit.data.finding.left_out import LeftOut, summarise_left_out
    from tunit.translation.frames import pyav
    from tunit.translation.inputs import check_resize, resize_wanted
    from tunit.translation.model_place import model_folder
    from tunit.translation.result_files import check_names
    from tunit.translation.video import MOST_BATCH, redraw_video

    source, target = _checked(args)
    pyav("translate pictures")
    resize = check_resize(resize_wanted(args.size, args.restore_size))
    left_out: list[LeftOut] = []
    report = None if args.strict else left_out.append
    column = args.picture_column
    references = find_sources(args.reference or [], out=None, report=report, picture_column=column)
    args.model, args.batch = model_folder(args.model), min(args.batch, MOST_BATCH)
    translator = load_translator(args)
    keep = [source, *files_of(references)]
    check_names(target.parent, [target.name], overwrite=args.overwrite, keep=keep)
    (style,) = style_of(args, translator, references, report)
    with progress(0, "translating") as advance:
        done = redraw_video(
            translator,
            source,
            target,
            style,
            strength=args.strength,
            fit=args.fit,
            resize=resize,
            restore_grey=args.restore_grey,
            advance=advance,
        )
    if done.sound is False:
        remark(
            f"{target} has no sound: this format cannot hold the sound of {source}; .mkv and .mp4 hold more kinds"
        )
    sound = ", with its sound" if done.sound else ""
    summary = f"; of the references {summarise_left_out(left_out)}" if left_out else ""
    show(f"translated {numbered(done.pictures, 'picture')} of {source}{sound}: {target}{summary}")
    return 0


def _checked(args: argparse.Namespace) -> tuple[Path, Path]:
    """The video, and the file for its result. Raises ConfigError or DataError."""
    from tunit.errors import ConfigError, DataError
    from tunit.translation.video import READ, WRITTEN

    if len(args.sources) > 1:
        raise ConfigError(f"{len(args.sources)} sources were given with a video: give one video by itself")
    if args.domain == "all" or args.from_label:
        raise ConfigError(
            "a video is redrawn in one style: give only --reference, one --domain or --to-label"
        )
    if args.format is not None:
        raise ConfigError(
            f"--format {args.format} is for pictures: the format of a video is the suffix of --out, such as .mp4"
        )
    (source,) = args.sources
    if isinstance(source, str):
        raise DataError(f"{source} is not on this machine: download the video, and give its path")
    if isinstance(args.out, str):
        raise DataError(
            f"{args.out} is not on this machine: a video is written to a file here, so give its path"
        )
    if not source.exists():
        raise DataError(f"{source} does not exist: give the path of a video")
    if source.suffix.lower() not in READ | {".gif"} or source.is_dir():
        raise DataError(
            f"{source} is not a video, but --out {args.out} is the name of one: give a video, or a folder as --out"
        )
    written = args.out.suffix.lower() in WRITTEN and not args.out.is_dir()
    suffix = source.suffix.lower() if source.suffix.lower() in WRITTEN else ".mp4"
    return source, args.out if written else args.out / (source.stem + suffix)

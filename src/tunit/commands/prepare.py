"""Check which pictures of a folder can be used for training, say why the others cannot, and pack them.

  tunit prepare FOLDER
  tunit prepare FOLDER --out packed --image-size 128
  tunit prepare FOLDER --shards --out s3://bucket/set     pack as tar files, which many machines can read
  tunit prepare FOLDER --layout animal-faces-10 --split validation     a published data set, as it was unpacked

Nothing in FOLDER is changed. Use this command to see before a training what would be left out. Its pack is a NumPy
array with an index, for your own programs: `tunit train FOLDER` packs the pictures again, into its run. With --shards
the pack is a set of tar files, which `tunit train` reads. A pack is reused as long as neither pictures nor settings
change. If the command is stopped, give it again: it goes on where it stopped.
"""

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.numbers import whole
from tunit.commands.setting_arguments import add_settings, packing_progress, settings_of
from tunit.errors import DataError, RunError
from tunit.files.paths import is_url, path_or_url
from tunit.printing import numbered, printable, remark, show

if TYPE_CHECKING:
    from tunit.config import Config
    from tunit.data.packing.packed import PackedPictures

SOURCE = "source.txt"  # in a pack whose place was not given: the path of its source
LONGEST_PATH = 1 << 16
SHARD = 4096  # pictures in a shard: 200 MB at 128 pixels
MOST_IN_SHARD = 1_000_000
HELP = "check and pack a folder of pictures, and print what is left out and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit prepare`."""
    parser.usage = "tunit prepare FOLDER [options] [settings]"
    parser.add_argument("source", type=Path, metavar="FOLDER", help="a folder, archive, list of paths or CSV")
    parser.add_argument("--out", type=path_or_url, metavar="DIR", help="folder for the pack [packed/NAME]")
    parser.add_argument(
        "--shards",
        type=whole(1, MOST_IN_SHARD),
        nargs="?",
        const=SHARD,
        metavar="N",
        help=f"pack as tar files of N pictures [{SHARD}], into a folder or, with --out s3://bucket/set, into a store",
    )
    parser.add_argument(
        "--preset", default="default", metavar="NAME", help="a preset or a TOML file [default]"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at a bad picture instead of leaving it out"
    )
    parser.add_argument("--list", action="store_true", help="name every picture that is left out")
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="where pictures are decoded: on this machine, or on a Ray cluster, whose machines must have FOLDER "
        "under the same path [local]",
    )
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit prepare`."""
    from tunit.data.finding.left_out import summarise_left_out
    from tunit.data.layouts import layout_config, part_of
    from tunit.data.packing.doubts import warning_if_dark, warning_if_unlabelled
    from tunit.data.packing.image_size import choose_image_size
    from tunit.errors import ConfigError
    from tunit.files.destination import check_folder

    if is_url(args.out or "") and not args.shards:
        raise ConfigError(f"--out is {args.out}, where only shards can be written: give --shards, too")
    if isinstance(args.out, Path):
        check_folder(args.out)
    config = layout_config(args.preset, settings_of(args))
    if config.data.image_size == 0:
        size = choose_image_size(args.source, config.data.picture_column)
        config = config.with_overrides({"image_size": size})
    part = part_of(config.data)
    name = f"{part.layout}-{part.split}" if part else args.source.resolve().name or "pictures"
    out = args.out or Path("packed") / name
    if args.out is None:
        _check_source(args, config, Path(out))
    pictures = _pack(args, config, out)
    if args.out is None:
        _note_source(Path(out), args.source)
    size = config.data.image_size
    state = "unchanged, reused" if pictures.reused else "packed"
    show(f"{numbered(len(pictures.names), 'picture')} at {size} x {size}, {state}: {out}")
    show(*pictures.notes)
    if pictures.classes:
        counts = [(name, int((pictures.labels == i).sum())) for i, name in enumerate(pictures.classes)]
        show("labels: " + ", ".join(f"{name} {count}" for name, count in counts))
    if args.list:
        for left in pictures.left_out:
            show(f"  {left.reason}: {left.name} ({left.detail})")
    elif pictures.left_out:
        show(summarise_left_out(pictures.left_out))
    for problem in (warning_if_dark(pictures), warning_if_unlabelled(pictures.labels, config.data.labels)):
        if problem:
            remark(problem)
    return 0


def _check_source(args: argparse.Namespace, config: "Config", out: Path) -> None:
    """Raises DataError if the pack of another source, of the same name, would be replaced.

    If the pack would be reused, the source was only moved, or its disk has another place now.
    """
    before = _noted_source(out)
    if before in ("", str(args.source.resolve())) or _would_be_reused(args, config, out):
        return
    raise DataError(f"{out} is the pack of {printable(before)}: give another place as --out, or remove it")


def _would_be_reused(args: argparse.Namespace, config: "Config", out: Path) -> bool:
    from tunit.data.packing.pack import still_packed
    from tunit.data.packing.pack_settings import pack_settings
    from tunit.data.packing.search import Search
    from tunit.data.packing.shards import still_sharded

    settings = pack_settings(config)
    if args.shards:
        return still_sharded(Search(args.source.absolute(), settings), out, args.shards)
    return still_packed(args.source, out, settings) is not None


def _noted_source(out: Path) -> str:
    """The path of the source that a pack names; "" if it names none."""
    try:
        return os.fsdecode((out / SOURCE).read_bytes()[:LONGEST_PATH])
    except OSError:
        return ""


def _note_source(out: Path, source: Path) -> None:
    """Note in a pack which source it is of; where it cannot be noted, such as in a read-only folder, it is not."""
    from tunit.files.atomic import write_bytes

    if _noted_source(out) != str(source.resolve()):
        with suppress(RunError):
            write_bytes(out / SOURCE, os.fsencode(source.resolve()))


def _pack(args: argparse.Namespace, config: "Config", out: Path | str) -> "PackedPictures":
    """Pack the pictures, as one file or as shards."""
    from tunit.data.packing.pack import pack_pictures
    from tunit.data.packing.pack_settings import pack_settings
    from tunit.data.packing.search import Search
    from tunit.data.packing.shards import pack_shards

    settings, workers = pack_settings(config), config.run.workers or None
    bar, move = packing_progress()
    with bar:
        if args.shards:
            search = Search(args.source.absolute(), settings)
            return pack_shards(
                search,
                out,
                args.shards,
                workers=workers,
                strict=args.strict,
                progress=move,
                engine=args.engine,
            )
        return pack_pictures(
            args.source,
            Path(out),
            settings,
            workers=workers,
            strict=args.strict,
            progress=move,
            resume=True,
            engine=args.engine,
        )

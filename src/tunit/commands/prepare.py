"""Check the pictures and pack them for training, without training.

  tunit prepare FOLDER                        list what can be used and what cannot, and why
  tunit prepare FOLDER --out packed --image-size 128
  tunit prepare FOLDER --layout animal-faces-10 --split validation      a published data set, as it was unpacked

Nothing in FOLDER is changed. Training does the same by itself; use this command to see what would be left out. A pack
is reused as long as neither pictures nor settings change. If the command is stopped, give it again: it goes on where
it stopped.
"""

import argparse
from pathlib import Path

from tunit.commands.picture_arguments import say
from tunit.commands.setting_arguments import add_settings, packing_progress, settings_of
from tunit.printing import show

HELP = "check and pack a folder of pictures, and print what is left out and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit prepare`."""
    parser.usage = "tunit prepare FOLDER [options] [settings]"
    parser.add_argument("source", type=Path, metavar="FOLDER", help="a folder, archive, list of paths or CSV")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the pack [packed/NAME]")
    parser.add_argument(
        "--preset", default="default", metavar="NAME", help="a preset or a TOML file [default]"
    )
    parser.add_argument("--strict", action="store_true", help="a bad picture is an error, not left out")
    parser.add_argument("--list", action="store_true", help="name every picture that is left out")
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit prepare`."""
    from tunit.data.image_size import choose_image_size
    from tunit.data.layouts import layout_config, part_of
    from tunit.data.left_out import summarise_left_out
    from tunit.data.pack import pack_pictures
    from tunit.data.pack_settings import pack_settings
    from tunit.data.packed import dark_set
    from tunit.destination import check_folder

    if args.out:
        check_folder(args.out)
    config = layout_config(args.preset, settings_of(args))
    if config.data.image_size == 0:
        size = choose_image_size(args.source, config.data.picture_column)
        config = config.with_overrides({"image_size": size})
    part = part_of(config.data)
    name = f"{part.layout}-{part.split}" if part else args.source.resolve().name or "pictures"
    out = args.out or Path("packed") / name
    bar, move = packing_progress()
    with bar:
        pictures = pack_pictures(
            args.source,
            out,
            pack_settings(config),
            workers=config.run.workers or None,
            strict=args.strict,
            progress=move,
            resume=True,
        )
    size = config.data.image_size
    state = "unchanged, reused" if pictures.reused else "packed"
    show(f"{len(pictures.names)} pictures at {size} x {size}, {state}: {out}")
    show(*pictures.notes)
    if pictures.classes:
        counts = [(name, int((pictures.labels == i).sum())) for i, name in enumerate(pictures.classes)]
        show("labels: " + ", ".join(f"{name} {count}" for name, count in counts))
    if args.list:
        for left in pictures.left_out:
            show(f"  {left.reason}: {left.name} ({left.detail})")
    elif pictures.left_out:
        show(summarise_left_out(pictures.left_out))
    if remark := dark_set(pictures):
        say(remark)
    return 0

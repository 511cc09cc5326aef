"""Open a page in the browser: look at what a run found, translate, give labels (teach), and train.

  tunit studio runs/mine
  tunit studio runs            # all runs in a folder
  tunit studio runs --host 0.0.0.0 --port 8000

It prints the address to open. Only this machine can open the pages, unless --host lets other machines do so; then the
address contains a token, without which nothing is shown. Nothing is sent to other servers. It needs `pip install
"tunit[studio]"`.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

from tunit.commands.numbers import whole
from tunit.commands.picture_arguments import add_device, add_max_pixels
from tunit.errors import ConfigError

HELP = "open a page in the browser: explore, translate, teach and train"
LOOPBACK = "127.0.0.1"
_NEEDED = ("starlette", "uvicorn", "python_multipart")
MAX_PIXELS = 50_000_000  # of an uploaded picture; low, because several people may upload at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tunit studio`."""
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="RUN|FOLDER",
        help="folder of a run, or a folder that holds runs [`runs` if it exists, else the current folder]",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="a folder on whose pictures the page may train; may be given several times [the current folder]",
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help=f"address to listen at; if other machines can reach it, a token is required [{LOOPBACK}]",
    )
    parser.add_argument(
        "--port", type=whole(0, 65535), default=8765, help="port to listen at; 0 takes any free port [8765]"
    )
    parser.add_argument("--token", action="store_true", help="require a token on this machine, too")
    add_device(parser)
    add_max_pixels(parser, "an uploaded picture that declares more pixels is refused", MAX_PIXELS)
    parser.add_argument(
        "--max-upload",
        type=whole(1, 100_000),
        default=64,
        metavar="MB",
        help="an upload of more megabytes is refused [64]",
    )
    parser.add_argument("--open", action="store_true", help="open the page in this machine's browser")


def run(args: argparse.Namespace) -> int:
    """Carry out `tunit studio`."""
    _check_packages()
    from tunit.studio.serve import serve
    from tunit.studio.workspace import Workspace

    folder = args.folder or (Path("runs") if Path("runs").is_dir() else Path())
    workspace = Workspace(
        folder,
        tuple(args.pictures or [Path()]),
        device=args.device,
        max_pixels=args.max_pixels,
        max_upload=args.max_upload * 1_000_000,
    )
    serve(workspace, args.host, args.port, ask_for_token=args.token, open_browser=args.open)
    return 0


def _check_packages() -> None:
    """Raises ConfigError if a package that only the studio needs is missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f'the studio needs {", ".join(missing)}, which is not installed: pip install "tunit[studio]"'
        )

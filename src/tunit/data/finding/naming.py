"""Tell by names which files are pictures, and which names would lead out of their folder."""

import re
from pathlib import PurePosixPath

# This includes formats that cannot be read, so that the user is told that such pictures are left out.
_PICTURE = """
    .jpg .jpeg .jpe .jfif .mpo .png .apng .webp .bmp .dib .tif .tiff .gif .ppm .pgm .pbm .pnm .avif
    .heic .heif .jp2 .jxl .tga .psd
"""
PICTURE_SUFFIXES = frozenset(_PICTURE.split())
# Files that are often in the same folder as pictures. For a file in neither list, the content decides.
_OTHER = """
    .txt .md .rst .csv .tsv .json .jsonl .xml .yaml .yml .toml .ini .cfg .log .html .htm .css .js .py
    .ipynb .sh .pdf .doc .docx .xls .xlsx .ppt .pptx .db .sqlite .lmdb .mdb .zip .tar .gz .tgz .bz2
    .tbz2 .xz .txz .zst .7z .rar .npy .npz .mat .h5 .hdf5 .pkl .pickle .pt .pth .safetensors .onnx .parquet
    .arrow .bin .mp3 .mp4 .m4v .avi .mov .mkv .webm .wav .aac .svg .eps .lnk .url .ds_store .part .tmp
    .bak
"""
OTHER_SUFFIXES = frozenset(_OTHER.split())
ARCHIVE_SUFFIXES = frozenset(
    (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar")
)
_ARCHIVE_NAME = re.compile(r"(.+?)(?:\.zip|\.tar(?:\.\w{1,4})?|\.t(?:gz|bz2|xz)|\.7z|\.rar)", re.IGNORECASE)
_SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})
_HIDDEN_SYSTEM_NAMES = frozenset({".ds_store", ".directory", ".localized"})
# The files of a pack; a folder with them is not searched for pictures.
INDEX, PIXELS, MARKER = "index.json", "pictures.npy", ".tunit-cache"
LABEL_COLUMN = "label"  # of a table, if no other is given


def suffix_of(name: str) -> str:
    """The suffix of a POSIX name in lower case, with its dot; "" where there is none."""
    return PurePosixPath(name).suffix.lower()


def archive_stem(name: str) -> str:
    """The name without the suffix of an archive: "a" for a.tar.gz; "" for other names, also for a plain .gz."""
    match = _ARCHIVE_NAME.fullmatch(name)
    return match[1] if match else ""


def is_hidden(part: str) -> bool:
    """Whether one part of a path is hidden or belongs to an operating system."""
    return part.startswith(".") or part.lower() in _SYSTEM_NAMES


def belongs_to_system(name: str) -> bool:
    """Whether an operating system leaves files or folders of this name beside those of its users."""
    lower = name.lower()
    return lower in _SYSTEM_NAMES or lower in _HIDDEN_SYSTEM_NAMES or name.startswith("._")


def is_outside(name: str) -> bool:
    """Whether a member's name is absolute or leads upwards with `..`, by the rules of POSIX or of Windows."""
    parts = name.replace("\\", "/").split("/")
    return name[:1] in ("/", "\\") or ".." in parts or (len(parts[0]) >= 2 and parts[0][1] == ":")


def tidy(name: str) -> str:
    """A name with `/` between its parts and without `.`, `..`, drive or leading slash: safe to join to a folder."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":
        parts = parts[1:]
    return "/".join(parts)

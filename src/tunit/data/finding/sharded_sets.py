"""The pictures of a data set packed as shards, in a folder or a store: the squares in its tar files."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tunit.data.decoding.decode import UNREADABLE, PictureError
from tunit.data.finding.found import Item, PictureSource
from tunit.data.finding.index import (
    LARGEST_INDEX,
    Index,
    has_our_index,
    hash_of_bytes,
    index_of_json,
    is_our_index,
)
from tunit.data.finding.naming import INDEX, LABEL_COLUMN
from tunit.data.finding.places import Place, place_of
from tunit.data.finding.shard_format import shard_name, span_of
from tunit.errors import ConfigError, DataError
from tunit.files.paths import absolute, path_or_url
from tunit.files.reading import UnreadableError, parse_json, read_json
from tunit.printing import command


@dataclass(frozen=True)
class ShardedPicture:
    """A square in a shard. It is read as a PPM file, which holds exactly these pixels."""

    place: Path | str  # the folder or URL of the shards
    shard: str  # its file name
    begin: int  # the first byte of the pixels
    size: int
    pixel_hash: str
    position: int  # in the whole set; pictures are read fastest in this order

    def read(self) -> bytes:
        """All bytes of the PPM file. Raises PictureError."""
        try:
            end = self.begin + self.size * self.size * 3
            (pixels,) = place_of(self.place).spans([(self.shard, self.begin, end)])
        except (DataError, ConfigError) as error:
            raise PictureError(UNREADABLE, str(error)) from None
        if hash_of_bytes(pixels) != self.pixel_hash:
            detail = f"{self.shard} does not hold it at byte {self.begin:,}: remove it and prepare them again"
            raise PictureError(UNREADABLE, detail)
        return b"P6 %d %d 255\n" % (self.size, self.size) + pixels

    @property
    def archive(self) -> Path | None:
        """The shard's file; None in a store."""
        return self.place / self.shard if isinstance(self.place, Path) else None

    @property
    def stamp(self) -> str:
        """A value that changes if the picture changes."""
        return self.pixel_hash


def is_sharded(source: Path | str) -> bool:
    """Whether a source is a data set packed as shards. Any URL counts as one."""
    folder = path_or_url(source)
    if isinstance(folder, str):
        return True
    # Do not open the index.json of every folder of pictures: it may belong to another program.
    return (folder / shard_name(0)).is_file() and has_our_index(folder)


def is_sharded_url(url: str) -> bool:
    """Whether a store holds a data set packed as shards at this URL. Raises StoreError."""
    place = place_of(url)
    if not {INDEX, shard_name(0)} <= place.names():
        return False
    try:
        return is_our_index(parse_json((place.read(INDEX) or b"").decode("utf-8")))
    except ValueError:
        return False


def lacks_index(folder: Path) -> bool:
    """Whether a folder holds shards, and no index.json or one that is damaged."""
    if not (folder / shard_name(0)).is_file():
        return False
    try:
        read_json(folder / INDEX, LARGEST_INDEX)
    except UnreadableError:
        return True
    return False


def open_shards(source: Path | str) -> Index:
    """The index of a data set packed as shards, with the place of its shards. Raises DataError."""
    index = index_at(place_of(source), check=True)
    if index is None or index.shards is None:
        raise DataError(
            f"{source} holds no {INDEX} of shards: make them by "
            f"`{command('prepare', 'FOLDER', '--shards', '--out', source)}`"
        )
    return replace(index, shards=replace(index.shards, root=index.shards.root or absolute(source)))


def index_at(place: Place, *, check: bool) -> Index | None:
    """The index at a place; None if there is none.

    check: a damaged index raises DataError; otherwise None is returned for it too. Raises DataError if the index was
    not written by tunit.
    """
    data = place.read(INDEX)
    if data is None:
        return None
    path = f"{place.where}/{INDEX}"
    try:
        values = parse_json(data.decode("utf-8"))
    except ValueError:
        if check:
            raise DataError(f"{path} is damaged: prepare the pictures again") from None
        return None
    if not is_our_index(values):
        raise DataError(f"{path} was not written by tunit: give another place")
    try:
        return index_of_json(values, path)
    except DataError:
        if check:
            raise
        return None


def prepared_otherwise(source: Path | str, flag: str, packed: object, wanted: object) -> str:
    """The error if a setting of shards differs from the one that is wanted now."""
    return (
        f"{source} was prepared with --{flag} {packed}, and --{flag} is {wanted} now: give --{flag} {packed}, or "
        "prepare the pictures again"
    )


def check_label_column(source: Path | str, index: Index, column: str) -> None:
    """Raises DataError if somebody names another column of labels than the one that was packed."""
    packed = index.settings.get("label_column")
    if packed and column not in (packed, LABEL_COLUMN):
        raise DataError(prepared_otherwise(source, "label-column", packed, column))


def walk_shards(source: Path | str, labels: str, label_column: str) -> Iterator[Item]:
    """The pictures of a data set packed as shards, with the labels that were packed with them if `labels` asks for
    the same kind: "none", "folders" or "csv".

    Raises DataError if it asks for "csv", and no such labels were packed, or those of another column.
    """
    index = open_shards(source)
    assert index.shards is not None
    prepared = index.settings.get("labels")
    if labels == "csv":
        check_label_column(source, index, label_column)
    if labels == "csv" and prepared != "csv":
        raise DataError(prepared_otherwise(source, "labels", prepared, labels))
    rows = zip(index.names, index.labels, index.hashes, index.shards.places, strict=True)
    for name, number, pixel_hash, place in rows:
        label = index.classes[number] if labels == prepared and number >= 0 else None
        shard, begin, _ = span_of(place, index.shards.each, index.size)
        picture = ShardedPicture(source, shard, begin, index.size, pixel_hash, place)
        yield PictureSource(name, label, picture), f"{name}\0{label}\0{pixel_hash}"

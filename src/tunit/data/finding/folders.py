"""The pictures in a folder and its sub-folders (with links, archives, and results of tunit), and in an archive."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tunit.data.decoding.decode import UNREADABLE, looks_like_picture
from tunit.data.finding.archives import OUTSIDE, archive_kind, list_archive
from tunit.data.finding.found import DiskFile, Item, PictureSource
from tunit.data.finding.left_out import LeftOut
from tunit.data.finding.naming import (
    OTHER_SUFFIXES,
    PICTURE_SUFFIXES,
    archive_stem,
    is_hidden,
    suffix_of,
)
from tunit.data.finding.own_results import own_results
from tunit.errors import DataError, reason_of
from tunit.printing import numbered


def walk_folder(root: Path, notes: list[str]) -> Iterator[Item]:
    """The pictures below `root`; notes for the user are added to `notes`.

    Links are followed, even out of the root or into its hidden folders, because some sets keep their pictures there;
    but not to a folder that is walked anyway or that contains the root. Archives are only read if there are no
    pictures beside them; otherwise the pictures were most likely unpacked from them. Folders of tunit's own results
    are skipped; results beside other pictures are, too, even in the root.
    """
    walk = _Walk(root)
    number = 0
    for item in walk.items():
        number += isinstance(item[0], PictureSource)
        yield item
    if walk.archives and number:
        remedy = _form(walk.archives, "it by itself, or unpack it", "each by itself, or unpack them")
        notes.append(
            f"{_some('archive', walk.archives)} in the folder {_was(walk.archives)} not read: give {remedy}"
        )
    elif walk.archives:
        for name in walk.archives:
            yield from _walk_inner_archive(root / name, name, notes)
    if walk.results:
        notes.append(note_of_results(walk.results))
    if walk.beside:
        notes.append(
            f"tunit's own results in {_some('folder', walk.beside)} were left out, but not the pictures beside them"
        )
    if walk.outside:
        leads = _form(walk.outside, "leads", "lead")
        notes.append(
            f"{_some('link', walk.outside)} that {leads} out of the folder {_was(walk.outside)} followed"
        )


def walk_links(root: Path, check: Callable[[Path], None], count: Callable[[int], None]) -> Iterator[Item]:
    """As `walk_folder`, but archives stay closed, and `check` is called with every link that `walk_folder` follows,
    before what it leads to is listed or given; `count` is called with the number of entries of each folder, before
    they are looked at. What these raise ends the walk.
    """
    walk = _Walk(root, check, count)
    number = 0
    for item in walk.items():
        number += isinstance(item[0], PictureSource)
        yield item
    if not number:  # only then, archives are read
        for path in (root / name for name in walk.archives):
            if path.is_symlink():
                check(path)


def walk_archive(source: Path, kind: str, notes: list[str]) -> Iterator[Item]:
    """The pictures of an archive of this kind ("zip" or "tar"); notes for the user are added to `notes`.

    Their stamps are empty, because the fingerprint of an archive is that of its file.
    """
    nested = []
    for entry in list_archive(source, kind):
        if entry.is_archive:
            nested.append(entry.name)
        elif entry.member is None:
            yield LeftOut(entry.name, entry.reason, entry.detail), ""
        else:
            yield PictureSource(entry.name, None, entry.member), ""
    notes += _note_of_nested(nested)


def _note_of_nested(names: list[str]) -> list[str]:
    """The note about archives inside an archive."""
    if not names:
        return []
    return [
        f"{_some('archive', names)} inside the archive {_was(names)} not read: unpack everything into a folder"
    ]


def stamp_of_entry(name: str, status: os.stat_result) -> str:
    """What a file contributes to the fingerprint of its source."""
    return f"{name}\0{status.st_size}\0{status.st_mtime_ns}"


def looks_like_picture_file(path: Path) -> bool:
    """Whether a file begins like a picture. Raises OSError."""
    with path.open("rb") as file:
        return looks_like_picture(file.read(16))


@dataclass
class _Walk:
    """One walk through a folder, and what it found besides pictures."""

    root: Path
    check: Callable[[Path], None] = lambda link: None  # called with each followed link, except to an archive
    count: Callable[[int], None] = lambda entries: None  # called with the number of entries of each folder
    archives: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    beside: list[str] = field(
        default_factory=list
    )  # folders with results of tunit beside pictures of the user
    outside: list[str] = field(default_factory=list)  # links out of the root
    _seen: set[str] = field(default_factory=set)  # folders outside, by their real paths

    def items(self) -> Iterator[Item]:
        """Every picture, and every file that has the suffix of a picture but is not one."""
        real_root = Path(os.path.realpath(self.root))
        folders = [(str(self.root), "", False)]
        while folders:
            folder, prefix, beyond = folders.pop()
            if beyond:
                real = os.path.realpath(folder)
                if real in self._seen:
                    continue
                self._seen.add(real)
            try:
                with os.scandir(folder) as listing:
                    # Of two links to one folder only the first is followed, so the order must not be the disk's.
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                detail = f"the folder cannot be listed ({reason_of(error)})"
                yield LeftOut(prefix or ".", UNREADABLE, detail), f"{prefix}\0unlisted"
                continue
            self.count(len(entries))
            for entry in self._without_results(entries, prefix):
                name = prefix + entry.name
                if is_hidden(entry.name):
                    continue
                if entry.is_symlink():
                    problem, leads_to = self._link(entry, name, real_root)
                    if problem is not None:
                        yield LeftOut(name, *problem), f"{name}\0{problem[0]}"
                        continue
                    if leads_to == "folder":
                        self.check(Path(entry.path))
                        folders.append((entry.path, f"{name}/", True))
                    if leads_to != "file":
                        continue
                elif entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, f"{name}/", beyond))
                    continue
                item = self._file(entry, name)
                if item is not None:
                    if entry.is_symlink():
                        self.check(Path(entry.path))
                    yield item

    def _without_results(self, entries: list[os.DirEntry[str]], prefix: str) -> list[os.DirEntry[str]]:
        """A folder's entries without tunit's own results. The root was named by the user, so if it holds nothing but
        results, these are used.
        """
        own = own_results(entries)
        if own.whole and prefix:
            self.results.append(prefix)
        if own.whole:
            return [] if prefix else entries
        if own.names:
            self.beside.append(prefix or os.path.realpath(self.root))
        return [entry for entry in entries if entry.name not in own.names]

    def _link(
        self, entry: os.DirEntry[str], name: str, real_root: Path
    ) -> tuple[tuple[str, str] | None, str]:
        """(what is wrong with a link, as reason and detail, or None; where it leads: "file", "folder" or "nothing").

        "nothing": the walk need not follow the link.
        """
        suffix = suffix_of(entry.name)
        is_picture = suffix in PICTURE_SUFFIXES
        try:
            target = Path(os.path.realpath(entry.path, strict=True))
        except OSError:
            if is_picture:
                return (UNREADABLE, "a link to a missing file: download its target"), "nothing"
            if suffix in OTHER_SUFFIXES and not archive_stem(entry.name):
                return None, "nothing"
            # It may have led to a whole class, such as on a disk that is not mounted now.
            return (
                UNREADABLE,
                "a link to a missing file or folder: restore its target, or remove it",
            ), "nothing"
        inside = target.is_relative_to(real_root)
        if not target.is_dir():
            if not inside and is_picture:
                self.outside.append(name)
            return None, "file"
        # The walk itself does not enter hidden folders, in which some tools keep the files that they link to.
        hidden = inside and any(map(is_hidden, target.relative_to(real_root).parts))
        if (inside and not hidden) or str(target) in self._seen:
            # The walk comes to its target by itself; following the link might never end.
            return None, "nothing"
        if real_root.is_relative_to(target):
            return (OUTSIDE, "a link to a folder around this one"), "nothing"
        if not inside:
            self.outside.append(name)
        return None, "folder"

    def _file(self, entry: os.DirEntry[str], name: str) -> Item | None:
        """The picture or unusable file of an entry; None if neither its suffix nor its content is that of a
        picture.
        """
        suffix = suffix_of(name)
        path = Path(entry.path)
        try:
            if suffix in OTHER_SUFFIXES:
                if archive_stem(name) and entry.is_file() and _is_archive(path):
                    self.archives.append(name)
                return None
            if not entry.is_file():
                named = suffix in PICTURE_SUFFIXES and not entry.is_dir()
                problem = LeftOut(name, UNREADABLE, "neither a file nor a folder")
                return (problem, f"{name}\0special") if named else None
            if suffix not in PICTURE_SUFFIXES and not looks_like_picture_file(path):
                return None
            return PictureSource(name, None, DiskFile(path)), stamp_of_entry(name, entry.stat())
        except OSError as error:
            return LeftOut(name, UNREADABLE, reason_of(error)), f"{name}\0unreadable"


def _walk_inner_archive(path: Path, name: str, notes: list[str]) -> Iterator[Item]:
    """The pictures of an archive inside a folder, named as if the archive were a folder."""
    nested = []
    try:
        stamp = stamp_of_entry(name, path.stat())
        kind = archive_kind(path)
        for entry in list_archive(path, kind) if kind else ():
            inner = f"{name}/{entry.name}"
            if entry.member is not None:
                yield PictureSource(inner, None, entry.member), f"{inner}\0{stamp}"
            elif entry.is_archive:
                nested.append(inner)
            else:
                yield LeftOut(inner, entry.reason, entry.detail), f"{inner}\0{stamp}"
        if kind is None:
            yield LeftOut(name, UNREADABLE, "an archive of another kind than zip and tar: unpack it"), stamp
    except (DataError, OSError) as error:
        yield LeftOut(name, UNREADABLE, str(error)), f"{name}\0unreadable"
    notes += _note_of_nested(nested)


def _is_archive(path: Path) -> bool:
    """Whether a file's content is that of an archive, even of a kind that cannot be read."""
    if archive_kind(path):
        return True
    with path.open("rb") as file:
        return file.read(6).startswith((b"7z\xbc\xaf\x27\x1c", b"Rar!"))


def note_of_results(folders: list[str]) -> str:
    """The note about folders that were skipped."""
    remedy = _form(folders, "it by itself to use it", "one by itself to use it")
    return f"{_some('folder', folders)} of tunit's own results {_was(folders)} left out: give {remedy}"


def _form(names: list[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several


def _was(names: list[str]) -> str:
    return _form(names, "was", "were")


def _some(noun: str, names: list[str]) -> str:
    """ "1 archive (a.zip)", "5 archives (a.zip, b.zip and 3 more)"."""
    ordered = sorted(name.rstrip("/") for name in names)
    more = f" and {len(ordered) - 2:,} more" if len(ordered) > 2 else ""
    return f"{numbered(len(ordered), noun)} ({', '.join(ordered[:2])}{more})"

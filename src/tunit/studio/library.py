"""Opens the runs of a workspace: their models, their pictures and E's output for them. The last few stay in memory.

Everything here is made from the files of the runs, so a crash loses nothing.
"""

import io
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tunit.data.finding.index import read_index
from tunit.data.finding.naming import INDEX
from tunit.data.packing.packed import PackedPictures, pack_of
from tunit.errors import ConfigError, DataError, RunError
from tunit.methods.model_file import TENSORS
from tunit.networks.tensor_file import written_checksum
from tunit.printing import full_sentence
from tunit.reporting.undecided import domains_undecided
from tunit.studio.lru_cache import LRUCache, Stamp, stamp_of
from tunit.studio.output_thread import Opened, OutputThread
from tunit.studio.shards import check_shards
from tunit.studio.workspace import Run, Workspace
from tunit.translation.translator import Translator

MODELS, PACKS, OUTPUTS = 3, 4, 4  # how many of each are kept in memory; outputs: beside those in the making
REMEMBERED = 16  # pictures whose content codes each model keeps: half a megabyte each at 128 px
THUMBNAIL = 96  # pixels
Key = tuple[Path, Stamp]
QUALITY = 88  # of WebP files


class Library:
    """Opens the runs of a workspace. Threads may share it."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._translators: LRUCache[Translator] = LRUCache(MODELS)
        self._packs: LRUCache[PackedPictures] = LRUCache(PACKS)
        self._threads: dict[Key, OutputThread] = {}  # the one that was used last is at the end
        self._beginning = threading.Lock()  # held while _threads is read or changed

    def translator(self, run: Run) -> Translator:
        """The run's current model. Raises RunError if there is none."""
        if not run.has_model:
            raise RunError(f"{run.name} has no model yet: let it train for longer")
        workspace = self.workspace
        return self._translators.get(
            self._model_key(run),
            lambda: Translator.load(
                run.path, device=workspace.device, max_pixels=workspace.max_pixels, remember=REMEMBERED
            ),
        )

    def undecided(self, run: Run) -> str:
        """A sentence if the run is yet to find its domains or their number; otherwise "". Raises RunError."""
        found = domains_undecided(run.path, self.translator(run).model.step)
        return full_sentence(found) if found else ""

    def pictures(self, run: Run) -> PackedPictures:
        """The run's own pictures. Raises RunError if there are none."""

        def open_pack() -> PackedPictures:
            """Open the pack, after a look at where it lies. Checking the hash of every picture takes too long."""
            try:
                index = read_index(run.folder.data)
                check_shards(self.workspace, run.folder.data, index)
                return pack_of(index, run.folder.data, verify=False)
            except DataError as error:
                raise RunError(f"{run.name} has no pictures to show ({error})") from None

        return self._packs.get(self._pack_key(run), open_pack)

    def output(self, run: Run) -> OutputThread:
        """The thread that computes E's output for the run's pictures, started if necessary.

        In a training a new model follows every few minutes. A thread that still works with the one before may end
        first: there is one thread at a time for each run, and each of them ends, however fast the models follow, and
        however many runs are asked for.
        Raises RunError if that is impossible.
        """
        stamp, key = self._stamps(run)[0], self._pack_key(run)
        with self._beginning:
            thread = self._usable(key, stamp)
        if thread is None:
            opened = self._opened(run)  # outside of the lock, as it takes long
            with self._beginning:
                thread = self._usable(key, stamp) or self._begin(key, run, opened)
        if thread.error:
            with self._beginning:
                if self._threads.get(key) is thread:  # not one that another request has begun meanwhile
                    del self._threads[key]  # the next request tries again
            raise RunError(thread.error)
        return thread

    def _opened(self, run: Run) -> Opened:
        """The run's current model, and its pictures. Raises RunError if one is missing, or if their sizes differ."""
        # The stamp first: a model that follows meanwhile then counts as newer, never as this one.
        stamp = self._stamps(run)[0]
        translator, packed = self.translator(run), self.pictures(run)
        if packed.images.shape[1] != translator.image_size:
            raise RunError(
                f"{run.name} has pictures of {packed.images.shape[1]} pixels and a model for "
                f"{translator.image_size}: train it again"
            )
        tensors = run.path / TENSORS
        checksum = written_checksum(tensors)
        is_same = stamp_of(tensors) == stamp  # otherwise a newer model has been written meanwhile
        return Opened(translator.model, packed, stamp, checksum if is_same else "")

    def _usable(self, key: Key, stamp: Stamp) -> OutputThread | None:
        """The thread of this key, unless it has ended with an earlier model than that of `stamp`."""
        thread = self._threads.get(key)
        if thread is None or (thread.has_ended and thread.stamp != stamp):
            return None
        self._threads[key] = self._threads.pop(key)  # to the end, as the one that was used last
        return thread

    def _begin(self, key: Key, run: Run, opened: Opened) -> OutputThread:
        """A new thread. Of those that have ended, only the ones that were used last are kept; one that still works is
        always kept, because without it the next request would start a second one.
        """
        before = self._threads.pop(key, None)
        ended = [each for each, thread in self._threads.items() if thread.has_ended]
        for each in ended[: max(len(ended) - OUTPUTS + 1, 0)]:
            del self._threads[each]
        thread = OutputThread(run, opened, lambda: self._opened(run), before.known if before else None)
        self._threads[key] = thread
        return thread

    def pixels(self, run: Run, row: int) -> NDArray[np.uint8]:
        """One of the run's pictures, (S, S, 3). Raises ConfigError if there is no such picture."""
        packed = self.pictures(run)
        if not 0 <= row < len(packed.names):
            raise ConfigError(f"there is no picture {row} in {run.name}: it has {len(packed.names):,}")
        return np.asarray(packed.images[row])

    def version(self, run: Run) -> str:
        """A word that changes with the run's pictures and its model.

        With it in addresses, browsers may cache them.
        """
        return "-".join(f"{part:x}" for stamp in self._stamps(run) for part in stamp[:2])

    def _stamps(self, run: Run) -> tuple[Stamp, Stamp]:
        return stamp_of(run.path / TENSORS), stamp_of(run.folder.data / INDEX)

    def _model_key(self, run: Run) -> Key:
        return run.path, self._stamps(run)[0]

    def _pack_key(self, run: Run) -> Key:
        return run.path, self._stamps(run)[1]


def webp(pixels: NDArray[np.uint8], most: int | None = None) -> bytes:
    """A picture (S, S, 3) as a WebP file. most: the largest side in pixels; larger pictures are reduced."""
    picture = Image.fromarray(pixels)
    if most and max(picture.size) > most:
        picture.thumbnail((most, most), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()

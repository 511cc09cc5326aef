"""Looks at a run's own pictures with E, once, in a separate thread; the result is kept in a file (see run_output.py).

The page need not wait until all is done. First E looks at some pictures that are evenly spread over the set: they
already show what the domains are. Then it looks at those that are laid out as a map, and at last at the others.
"""

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tunit.clustering.outliers import appearance, appearance_width, outlier_scores
from tunit.data.packing.packed import PackedPictures
from tunit.errors import RunError, TunitError
from tunit.failures import sentence_of
from tunit.files.atomic import writable
from tunit.files.destination import STUDIO
from tunit.methods.inference import evenly_spread, guidance_over, in_batches
from tunit.methods.model_file import TENSORS, Model
from tunit.reporting.style_map import MOST_LAID_OUT, Points, laid_out, spread
from tunit.studio.lru_cache import Stamp, stamp_of
from tunit.studio.refusals import UNEXPECTED
from tunit.studio.run_output import FORMAT, NAME, RunOutput, checksum, digest_of, read_output, write_output
from tunit.studio.workspace import Run
from tunit.translation.classification import learns_domains

MOST_PICTURES = 20_000  # E's output is computed for at most this many pictures, evenly spread over the set
GLIMPSE = 128  # the pictures that are looked at first
BATCH = 32  # larger batches were slower on a CPU
LOG = logging.getLogger("tunit.studio")
_LOCK = threading.Lock()  # one thread at a time: each uses all cores
Rows = NDArray[np.int64]


class SoFar(NamedTuple):
    """What is known before all pictures have been looked at."""

    stage: int  # counts from 1
    output: RunOutput  # of some of the pictures, with or without a map


class Known(NamedTuple):
    """E's output for all pictures, and of which model it is."""

    output: RunOutput
    stamp: Stamp  # of the model's file
    step: int
    domains: int
    checksum: str  # of the model, as its file says; "" if that is not known


class Opened(NamedTuple):
    """What a thread works with: a run's model, and its pictures."""

    model: Model
    packed: PackedPictures
    stamp: Stamp  # of the model's file
    checksum: str = ""  # of the model, as its file says; "" if that is not known


class _Facts(NamedTuple):
    """What a thread knows of its model and its pictures even while it does not keep them in memory."""

    stamp: Stamp
    step: int
    domains: int
    checksum: str
    domain_sizes: list[int]  # meanwhile a training may write a model with another number of domains
    total: int


class OutputThread:
    """A thread that computes E's output for a run's pictures; `output` is set after it has succeeded.

    opened: the model and the pictures at the beginning. open_again: opens them; it is called when the thread's turn
    has come, because threads that wait keep no model in memory. By then the model may be a later one, which is used.
    before: what is known from an earlier model.
    """

    def __init__(
        self, run: Run, opened: Opened, open_again: Callable[[], Opened], before: Known | None = None
    ) -> None:
        self.done = 0
        self.so_far: SoFar | None = None
        self.output: RunOutput | None = None
        self.error = ""  # why it failed, in one sentence
        self._run, self._before = run, before
        self._take(opened)
        self._thread = threading.Thread(target=self._work, args=(open_again,), daemon=True)
        self._thread.start()

    def _take(self, opened: Opened) -> None:
        """Note what this model and these pictures are; what is known from a model with other domains is forgotten."""
        model, settings = opened.model, opened.model.settings
        if self._before is not None and self._before.domains != settings.domains:
            self._before = None
        self._facts = _Facts(
            opened.stamp,
            model.step,
            settings.domains,
            opened.checksum,
            model.domain_sizes.tolist(),
            min(len(opened.packed.names), MOST_PICTURES),
        )

    @property
    def stamp(self) -> Stamp:
        """The stamp of the model's file."""
        return self._facts.stamp

    @property
    def domain_sizes(self) -> list[int]:
        """How many pictures gave each domain's average style, as in `Translator.domain_sizes`."""
        return self._facts.domain_sizes

    @property
    def total(self) -> int:
        """How many pictures are looked at."""
        return self._facts.total

    def wait(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, with or without success."""
        return not self._thread.is_alive()

    @property
    def known(self) -> Known | None:
        """The newest complete output: until this thread has succeeded, that of an earlier model."""
        output, facts = self.output, self._facts
        if output is None:
            return self._before
        return Known(output, facts.stamp, facts.step, facts.domains, facts.checksum)

    def _work(self, open_again: Callable[[], Opened]) -> None:
        try:
            with _LOCK:
                opened = open_again()
                self._take(opened)
                self.output = self._read_or_compute(opened.model, opened.packed)
        except TunitError as error:
            self.error = str(error)
            LOG.warning("%s: %s", self._run.name, error)
        except Exception as error:
            self.error = sentence_of(error) or UNEXPECTED
            LOG.exception("E's output for the pictures of %s could not be computed", self._run.name)

    def _read_or_compute(self, model: Model, packed: PackedPictures) -> RunOutput:
        path, tensors = self._run.path / STUDIO / NAME, self._run.path / TENSORS
        about = {
            "format": FORMAT,
            "model": checksum(tensors),
            "pictures": digest_of(packed.hashes),
            "most": MOST_PICTURES,
        }
        if not learns_domains(model):
            # So a file of an older version is not used: its domains are those of E's logits.
            about["domains"] = "labels"
        if stamp_of(tensors) != self.stamp:  # a training has written a newer model: this is not its checksum
            return self._compute(model, packed)
        output = read_output(path, about, self.total, model.settings.style_width)
        if output is None:
            output = self._compute(model, packed)
            try:
                with writable(path):
                    path.parent.mkdir(exist_ok=True)
                write_output(path, output, about)
            except RunError as error:  # the run cannot be written to; the output is useful all the same
                LOG.warning("%s", error)
        return output

    def _compute(self, model: Model, packed: PackedPictures) -> RunOutput:
        partial = _PartialOutput(model, packed)
        everything = np.arange(self.total)
        on_map = evenly_spread(self.total, MOST_LAID_OUT)
        for some in (on_map[evenly_spread(len(on_map), GLIMPSE)], on_map):
            self._compute_missing(partial, some)
            self._show(partial.output(some, None))
        points, _ = laid_out(partial.styles[on_map], seed=0)
        self._show(partial.output(on_map, points))
        self._compute_missing(partial, everything)
        return partial.output(everything, spread(partial.styles, points, on_map))

    def _compute_missing(self, partial: "_PartialOutput", some: Rows) -> None:
        missing = some[~partial.is_known[some]]
        for i in range(0, len(missing), BATCH):
            partial.compute(missing[i : i + BATCH])
            self.done = int(partial.is_known.sum())

    def _show(self, output: RunOutput) -> None:
        stage = 1 if self.so_far is None else self.so_far.stage + 1
        self.so_far = SoFar(stage, output)


class _PartialOutput:
    """E's output for the pictures that have been looked at. Pictures are counted in `rows`, as in `RunOutput`."""

    def __init__(self, model: Model, packed: PackedPictures) -> None:
        self._model, self._packed = model, packed
        # A method whose E assigns no domains learns from labels of all pictures: these are the domains.
        self._labels = None if learns_domains(model) else packed.labels
        self.rows = evenly_spread(len(packed.names), MOST_PICTURES)
        self.is_known = np.zeros(len(self.rows), np.bool_)
        self.domains = np.zeros(len(self.rows), np.int64)
        self.confidences = np.zeros(len(self.rows), np.float32)
        self.styles = torch.zeros(len(self.rows), model.settings.style_width)
        self.appearances = np.zeros((len(self.rows), appearance_width()), np.float32)

    def compute(self, some: Rows) -> None:
        """Add E's output for one batch of pictures."""
        device = self._model.domain_styles.device
        images = self._packed.images[self.rows[some]]  # read only once: they may come from far away
        guidance = guidance_over(self._model.guide, in_batches(images, device, BATCH))
        if self._labels is None:
            confidences, domains = guidance.logits.softmax(1).max(1)
            self.domains[some], self.confidences[some] = domains.numpy(), confidences.numpy()
        else:
            self.domains[some], self.confidences[some] = self._labels[self.rows[some]], 1
        self.styles[some] = guidance.style
        self.appearances[some] = appearance(images)
        self.is_known[some] = True

    def output(self, some: Rows, points: Points | None) -> RunOutput:
        """What is known of some pictures. points: (N, 2), their places on the map."""
        styles = self.styles[some]
        return RunOutput(
            self.rows[some],
            self.domains[some],
            self.confidences[some],
            outlier_scores(self.appearances[some]).astype(np.float32),
            styles,
            None if points is None else points.astype(np.float32),
        )

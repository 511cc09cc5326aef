"""Evaluation during training: a few figures at regular intervals, and a copy of the best model."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.linalg import LinAlgError  # type: ignore[attr-defined]  # public, but missing in its list of types

from tunit.data.finding.find import LabelMode, find_pictures
from tunit.data.finding.naming import LABEL_COLUMN
from tunit.data.finding.source_kind import kind_of
from tunit.data.layouts import part_of
from tunit.data.packing.packed import PackedPictures, open_packed
from tunit.errors import DataError, TunitError, reason_of
from tunit.evaluation.comparison import FEWEST
from tunit.evaluation.evaluate import evaluate_model
from tunit.evaluation.intervals import Figure
from tunit.evaluation.labelled import (
    evenly_chosen,
    labelled,
    pack_held,
    square_settings,
    training_pictures,
)
from tunit.evaluation.result import Evaluation, Labelled
from tunit.features.feature_networks import FeatureNetwork
from tunit.files.atomic import writable, write_text
from tunit.files.reading import Record, UnreadableError, is_number, read_json
from tunit.machine import is_out_of_memory
from tunit.methods.model_file import Model, save_model
from tunit.methods.state import TrainingState
from tunit.printing import remark
from tunit.training.interrupt import Interrupted
from tunit.training.run_folder import BEST, EVALUATION, RunFolder
from tunit.training.samples import model_of

SCORES = ("mFID", "FID of all")  # models are compared by the first of these figures that could be measured
MOST_SOURCES = 200  # how many pictures are translated into each group
HASHED = 1_000  # pictures at a time
MOST_HELD = 2_000  # how many training pictures to use if no pictures are held back
# Translations are compared with at most this many training pictures: features of millions take hours and much memory.
MOST_REAL = 50_000


class Evaluator:
    """A function that the trainer calls with its state; it returns figures by name and keeps the best model in
    RUN/best.

    held_back: held-back pictures; None takes the training pictures. For a run on a published set, its validation
    pictures are used: those in `held_back` or, if this is None, those in the training's own source. The best score is
    stored in the run, so that a resumed run knows it. Scores are compared only if they were measured with the same
    feature network on the same pictures, against as many training pictures: at most MOST_REAL.
    """

    def __init__(self, run: RunFolder, network: FeatureNetwork, held_back: Path | None = None) -> None:
        self.run = run
        self.network = network
        self.held_source = held_back
        self._sets: tuple[Labelled, Labelled] | None = None  # held-back and training pictures
        self._all_real = 0  # how many training pictures there are, of which at most MOST_REAL are in `_sets`
        self._digest: str | None = None  # of the held-back ones

    def __call__(self, state: TrainingState) -> dict[str, float]:
        """Measure the current EMAs of E and G. If that fails, the reason is printed and training goes on."""
        try:
            return self._measured(state)
        except Interrupted:
            raise
        except (TunitError, LinAlgError, OSError, RuntimeError, MemoryError) as error:
            if not isinstance(error, TunitError | LinAlgError | OSError) and not is_out_of_memory(error):
                raise
            reason = reason_of(error) if isinstance(error, OSError) else str(error) or "memory ran out"
            remark(f"step {state.step}: the model could not be measured ({reason}); training goes on")
            return {}

    def _measured(self, state: TrainingState) -> dict[str, float]:
        packed = open_packed(self.run.data, verify=False)  # hashes were made or checked when training began
        model = model_of(state, packed, self.run.read_config())
        held_back, train = self._pictures(model, packed)
        result = evaluate_model(
            model,
            held_back,
            train,
            self.network,
            most_sources=MOST_SOURCES,
            beside_trivial=False,  # trivial baselines do not change during the training
            cache=self.run.path / EVALUATION,
        )
        values = plain_values(result)
        score = self._score(values)
        if score is None:
            reasons = "; ".join(result.notes) or "too few pictures"
            remark(f"step {state.step}: there is no score by which to keep the best model ({reasons})")
        elif self._is_best(*score):
            self._remark_if_not_comparable(state.step)
            folder = self.run.path / BEST
            with writable(folder):
                folder.mkdir(exist_ok=True)
            save_model(folder, model)
            about = {"score": score[0], "value": score[1], "step": state.step} | self._measured_with()
            write_text(folder / "best.json", json.dumps(about, indent=2) + "\n")
        return {f"evaluation/{name.replace(' ', '_')}": value for name, value in values.items()}

    def _pictures(self, model: Model, packed: PackedPictures) -> tuple[Labelled, Labelled]:
        if self._sets is None:
            data = self.run.read_config().data
            part = part_of(data)
            if part is not None:
                part = replace(part, split="validation")
            source = self.held_source or (Path(self.run.source()) if part else None)
            if source is None:
                whole = labelled(packed)
                held_back, train = evenly_chosen(whole, MOST_HELD), whole
            else:
                squares = square_settings(
                    model.image_size, model.fit, model.background, part, data.max_pixels
                )
                squares = replace(squares, picture_column=data.picture_column, min_side=data.min_side)
                cache = self.run.path / EVALUATION / "held"
                held_back = labelled(pack_held(source, cache, squares, label_column=data.label_column))
                train = training_pictures(self.run.path, held_back, model) or held_back
            real = evenly_chosen(train, MOST_REAL)
            if len(real.images) < len(train.images):
                remark(
                    f"evaluations during the training compare with {len(real.images):,} of {len(train.images):,} "
                    "real pictures, evenly spread"
                )
            self._sets, self._all_real = (held_back, real), len(train.images)
        return self._sets

    def _measured_with(self) -> dict[str, str | int]:
        """What a score depends on besides the model: the feature network, the held-back pictures and classes, and how
        many real pictures they are compared with.
        """
        if self._sets is None:
            return {"features": self.network.name}
        if self._digest is None:
            digest = hashlib.sha256()
            held_back = self._sets[0]
            digest.update(held_back.classes.tobytes())
            for i in range(0, len(held_back.images), HASHED):
                digest.update(held_back.images[i : i + HASHED].tobytes())
            self._digest = digest.hexdigest()
        return {"features": self.network.name, "pictures": self._digest, "real": len(self._sets[1].images)}

    def _is_comparable(self, best: dict[str, Any]) -> bool:
        """Whether the best score so far was measured as those of now.

        Older versions did not write down the pictures or the number of real ones. They always compared with all real
        pictures.
        """
        best = {"real": self._all_real} | best
        return all(
            best.get(name) == value
            for name, value in self._measured_with().items()
            if name == "features" or name in best
        )

    def _remark_if_not_comparable(self, step: int) -> None:
        """Say that the best model so far is replaced although nobody knows whether it is worse."""
        before = self._best()
        if before and not self._is_comparable(before):
            remark(
                f"step {step}: the best model so far (step {before.get('step')}) was measured with other held-back "
                "pictures, another number of real pictures or another feature network, so scores cannot be compared, "
                f"and this model replaces it in {self.run.path / BEST}"
            )

    def _score(self, values: dict[str, float]) -> tuple[str, float] | None:
        """The figure by which models are compared; None if it ranks lower in SCORES than the best model's."""
        best = self._best()
        kept = best.get("score") if self._is_comparable(best) else None
        worthy = SCORES[: SCORES.index(kept) + 1] if kept in SCORES else SCORES
        return next(((name, values[name]) for name in worthy if name in values), None)

    def _best(self) -> dict[str, Any]:
        """The record of the best model so far; empty if there is none."""
        try:
            return Record(read_json(self.run.path / BEST / "best.json")).values
        except UnreadableError:
            return {}

    def _is_best(self, name: str, value: float) -> bool:
        before = self._best()
        comparable = before.get("score") == name and self._is_comparable(before)
        return not comparable or not is_number(before.get("value")) or value < before["value"]


def plain_values(result: Evaluation) -> dict[str, float]:
    """Every figure's value, without its interval."""
    return {
        name: figure.value if isinstance(figure, Figure) else figure
        for name, figure in result.figures.items()
    }


def check_held(source: Path, picture_column: str = "", label_column: str = LABEL_COLUMN) -> None:
    """Raises DataError before a long training begins if held-back pictures are missing or too few.

    picture_column, label_column: those of the training; a table of held-back pictures is read with them, too.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist: give the held-back pictures as a folder, archive or list")
    mode: LabelMode = "csv" if kind_of(source) == "table" and label_column != LABEL_COLUMN else "none"
    found = find_pictures(source, labels=mode, label_column=label_column, picture_column=picture_column)
    number = len(found.pictures)
    if number < FEWEST:
        raise DataError(
            f"{source} holds {number} picture, too few to score a model and keep the best one: "
            f"give at least {FEWEST}"
        )

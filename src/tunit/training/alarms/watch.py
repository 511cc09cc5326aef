"""Watches over a training: checks E's output and a few translations at intervals, and logs alarms as they begin and
end.

Such a check does not change the training. Alarms are rows of metrics.jsonl: {"step", "alarm", "sentence", "remedy"}
when one begins, {"step", "alarm", "over": true} when it ends. Resumed runs and the report read them from there. Once
E has had the time to find domains (`_e_had_time`; if it trains alone first: when G and D begin to train), a row
{"step", "domain_counts"} keeps how many of the checked pictures are in each domain.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tunit.config import Config
from tunit.data.packing.packed import PackedPictures
from tunit.files.reading import UnreadableError, is_number, read_json_lines
from tunit.methods.descent import mixed_precision
from tunit.methods.inference import evenly_spread, for_whole_pictures, in_batches, pictures_at_a_time
from tunit.methods.state import TrainingState
from tunit.training.alarms.evidence import (
    LOGGED,
    Evidence,
    Line,
    OutputSummary,
    TrainingOutline,
    outline_of,
    shared_probability,
)
from tunit.training.alarms.guide_alarms import (
    FEWEST_STEPS,
    JUDGES_OF_LOSSES,
    JUDGES_OF_OUTPUT,
    JUDGES_OF_TRANSLATIONS,
    MOST_DOMAINS_COMPARED,
    PICTURES_EACH,
    SHORT,
    Alarm,
)
from tunit.training.alarms.joint_alarms import is_early
from tunit.training.alarms.remedies import remedy_for
from tunit.training.alarms.translation_check import REDRAWN, translation_summary
from tunit.training.logs.neighbours_found import measures_in
from tunit.training.run_folder import RunFolder
from tunit.training.schedule import batch_size_at

LOOKED_AT = 512  # E's output is computed for at least this many pictures, evenly spread over all
LOOKED_AT_ONCE = 128  # pictures per forward pass of E, of up to 128 px
# Checks may take this share of the training time, estimated in forward passes of E. A training step costs seven of
# them per picture: two views, a key, and the backward passes of two views, each of which takes as long as two forward
# passes.
SHARE_OF_TIME, PASSES = 0.01, 7
# The same for translations. A joint step costs at least six passes of G per picture: two pictures are drawn of each
# source, and a backward pass takes as long as two forward passes. A check has REDRAWN (40) passes of G. E's passes
# need not be counted: there are ten per picture in a joint step and 64 in a check, about the same ratio as 6 to 40.
JOINT_PASSES = 6

Row = dict[str, Any]


class Watch:
    """Watches one run, in the process that writes its log. rows: the log so far, if the run resumes.

    began_with_domains: E had the domains of another run at the first step.
    """

    def __init__(
        self, pictures: PackedPictures, rows: Iterable[Row] = (), *, began_with_domains: bool = False
    ) -> None:
        self._pictures, self._began_with_domains = pictures, began_with_domains
        self._labelled = pictures.any_labelled
        self._evidence = Evidence()
        self._summarised: int | None = None  # the step of the last summary of E's output
        self._redrawn: int | None = None  # the step of the last summary of translations
        self.neighbours_by: list[str] = []  # the measures of the log's last row that names some
        self.raised: dict[str, Alarm] = {}
        for row in rows:
            self._take_up(row)

    def _take_up(self, row: Row) -> None:
        """Restore what a row of the log says: alarms, figures, and the last look at E."""
        step = row.get("step")
        if type(step) is not int:
            return
        for alarm in alarms_of([row]):
            self.raised[alarm.name] = alarm
        if row.get("over") is True:
            self.raised.pop(str(row.get("alarm")), None)
        if is_number(row.get("domains/largest_share")):
            self._summarised = step
        if is_number(row.get("translation/style_effect")):
            self._redrawn = step
        self.neighbours_by = measures_in(row) or self.neighbours_by
        counts = row.get("domain_counts")
        if isinstance(counts, list) and all(type(count) is int for count in counts):
            self._evidence.first_counts = counts
        self._note(step, {name: float(value) for name, value in row.items() if is_number(value)})

    def _note(self, step: int, means: dict[str, float]) -> None:
        """Add the losses that the judges need to the evidence."""
        if not LOGGED.keys().isdisjoint(means):
            self._evidence.add(Line.of(step, means))

    @property
    def short(self) -> str:
        """The current alarms, for the progress line; empty if there are none."""
        return ", ".join(SHORT[name] for name in self.raised)

    def output_figures(
        self, state: TrainingState, config: Config, *, at_once: bool = False
    ) -> dict[str, float]:
        """Figures of E's output, for the log; empty if the last ones are too recent, or E has only just begun to
        learn domains, unless its domain head was replaced after it had trained alone.

        at_once: compute figures even if the last ones are recent.
        """
        step = state.step
        outline = outline_of(config, self._labelled, chosen=state.choice is not None)
        decided = outline.is_decided(step)
        since = step if self._summarised is None else step - self._summarised
        number = min(looked_at(outline.domains), len(self._pictures.names))
        too_recent = since * SHARE_OF_TIME * PASSES * batch_size_at(step, config) < number
        too_early = step < outline.domains_from_step + FEWEST_STEPS and not decided
        if outline.domains < 2 or too_early or since == 0 or (too_recent and not at_once):
            return {}
        self._summarised = step
        # Of an E that has learnt only styles before, both heads are fitted then.
        fitted = decided and outline.domains_from_step >= outline.first_joint_step
        self._evidence.summary = output_summary(
            state, self._pictures, config, number, None if fitted else outline.domains_from_step
        )
        return self._evidence.summary.figures()

    def translation_figures(
        self, state: TrainingState, config: Config, *, at_once: bool = False
    ) -> dict[str, float]:
        """Figures of a few translations, for the log; empty if the last ones are recent, or G has only just begun.

        at_once: compute figures even if the last ones are recent.
        """
        began, step = int(config.schedule.guide_only_until), state.step
        since = step - (self._redrawn or began)
        too_recent = since * SHARE_OF_TIME * JOINT_PASSES * config.optimisers.batch_size < REDRAWN
        too_early = step < began + FEWEST_STEPS
        if too_early or since == 0 or len(self._pictures.names) < 2 or (too_recent and not at_once):
            return {}
        self._redrawn = step
        self._evidence.translations = translation_summary(state, self._pictures, config)
        return self._evidence.translations.figures()

    def judge(self, step: int, means: dict[str, float], config: Config, *, chosen: bool = False) -> list[Row]:
        """Rows for the alarms that begin or end. means: a line of the log, with the figures of `output_figures`.

        chosen: as for `outline_of`.
        """
        outline = outline_of(config, self._labelled, len(self._pictures.names), chosen=chosen)
        self._note(step, means)
        evidence, judges, rows = self._evidence, dict(JUDGES_OF_LOSSES), list[Row]()
        if evidence.summary is not None and evidence.summary.step == step:
            judges |= JUDGES_OF_OUTPUT
            knows = self._began_with_domains or bool(config.method.guide_from)
            if evidence.first_counts is None and outline.joint_steps and _e_had_time(step, outline, knows):
                evidence.first_counts = evidence.summary.counts
                rows.append({"step": step, "domain_counts": evidence.first_counts})
        if evidence.translations is not None and evidence.translations.step == step:
            judges |= JUDGES_OF_TRANSLATIONS
        for name, judge in judges.items():
            before = self.raised.get(name)
            sentence = judge(evidence, outline, before is not None)
            if sentence and not before:
                pictures = self._pictures
                remedy = remedy_for(
                    name, config, pictures=len(pictures.names), all_labelled=pictures.all_labelled
                )
                alarm = Alarm(name, step, sentence, remedy)
                self.raised[name] = alarm
                rows.append({"step": step, "alarm": name, "sentence": sentence, "remedy": alarm.remedy})
            elif before and not sentence:
                del self.raised[name]
                rows.append({"step": step, "alarm": name, "over": True})
        return rows


def looked_at(domains: int) -> int:
    """For how many pictures E's output is computed: enough to tell a small domain from an empty one.

    Not more than for MOST_DOMAINS_COMPARED domains: looks would become rare, because all of them together may take
    only SHARE_OF_TIME, and the one when G and D begin would take long.
    """
    return max(LOOKED_AT, PICTURES_EACH * min(domains, MOST_DOMAINS_COMPARED))


def _e_had_time(step: int, outline: TrainingOutline, knows_domains: bool) -> bool:
    """Whether joint steps have begun with an E that had the time to find domains, or knew those of another run.

    If E neither trains alone first nor comes from another run, it finds its domains in the first joint steps. Domains
    that it gives earlier mean nothing, so it is no loss if they vanish.
    """
    if outline.first_joint_step or knows_domains:
        return step >= outline.first_joint_step
    return not is_early(step, outline)


@torch.no_grad()
def output_summary(
    state: TrainingState,
    pictures: PackedPictures,
    config: Config,
    number: int,
    domains_from_step: int | None = 0,
) -> OutputSummary:
    """E's output, in evaluation mode, for `number` pictures, evenly spread.

    Uses E's EMA, or E itself as long as the EMA of the domain heads still consists mostly of their initial weights,
    with which all pictures may be in one domain. domains_from_step: the step at which E begins to learn domains; None
    if the domain heads of both were fitted.
    """
    networks = state.networks
    learnt = float("inf") if domains_from_step is None else state.step - domains_from_step
    warmed_up = learnt * (1 - config.optimisers.average_decay) >= 1
    guide = networks.guide_average if warmed_up else networks.guide
    rows = evenly_spread(len(pictures.names), number)
    parts = []
    size, device = pictures_at_a_time(LOOKED_AT_ONCE, config.data.image_size), state.queue.device
    with for_whole_pictures(guide, in_batches(pictures.images, device, size, rows)):
        for x in in_batches(pictures.images, device, size, rows):
            with mixed_precision(x, config):
                parts.append(guide(x))
    p = torch.cat([part.logits for part in parts]).float().softmax(1)
    domains = p.shape[1]
    return OutputSummary(
        state.step,
        torch.bincount(p.argmax(1), minlength=domains).tolist(),
        shared_probability(p).cpu() if domains <= MOST_DOMAINS_COMPARED else None,
        torch.cat([part.style for part in parts]).float().norm(dim=1).mean().item(),
    )


def alarm_line(row: Row) -> str:
    """An alarm's row as a line of text."""
    if "over" in row:
        return f"alarm over at step {row['step']}: {SHORT[row['alarm']]}"
    return f"alarm at step {row['step']}: {row['sentence']}. What to do: {row['remedy']}"


def watch_of(run: RunFolder, pictures: PackedPictures) -> Watch:
    """The watch over a run that begins, or that goes on from the rows of its log. Raises RunError."""
    return Watch(pictures, rows_of(run.metrics), began_with_domains=run.began_with_domains())


def rows_of(path: Path) -> list[Row]:
    """The rows of a log; none if it cannot be read."""
    try:
        return list(read_json_lines(path))
    except UnreadableError:
        return []


def alarms_of(rows: Iterable[Row]) -> list[Alarm]:
    """The alarms in the rows of a log, in order, each with the step at which it ended."""
    found: list[Alarm] = []
    for row in rows:
        step, name = row.get("step"), row.get("alarm")
        if type(step) is not int or not isinstance(name, str) or name not in SHORT:
            continue
        sentence, remedy = row.get("sentence"), row.get("remedy")
        if isinstance(sentence, str) and isinstance(remedy, str):
            found.append(Alarm(name, step, sentence, remedy))
        elif row.get("over") is True:
            last = max((i for i, alarm in enumerate(found) if alarm.name == name), default=None)
            if last is not None:
                found[last] = replace(found[last], over=step)
    return found

"""Alarms for a training that goes wrong: pure functions that turn the logged figures into a plain sentence.

There is a function (judge) for each problem. It gets the training so far (evidence.py), and returns a sentence that
says what is wrong, or None. The limit at which an alarm ends is not the one at which it begins, so that an alarm does
not begin and end again and again. What to do about an alarm is in remedies.py.

Here are the judges of how E learns domains and styles. Those of the joint steps, in which G and D train too, are in
joint_alarms.py. The tables at the end of this file list all judges, by what they look at.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tunit.training.alarms import joint_alarms
from tunit.training.alarms.evidence import Evidence, TrainingOutline

# E's losses and domains are not judged before E has trained for this many steps. `judge_growth` does not need the
# limit, because it waits until the style loss has risen.
FEWEST_STEPS = 30

# Collapse, by the share of the pictures in the largest domain: the alarm begins above CROWDED and ends below
# STILL_CROWDED. With few domains these limits rise to EVEN_SHARES times an even share, but not above FEW_CROWDED. So
# with two or three domains the limit is 97 %. With two, one kind may have 20 times as many pictures as the other
# (95 %), which is no collapse.
CROWDED, STILL_CROWDED, FEW_CROWDED, EVEN_SHARES = 0.6, 0.5, 0.97, 3.0

# Collapse, by the share of domains that are not empty: the alarm begins below IN_USE and ends at IN_USE_AGAIN. It
# needs PICTURES_EACH pictures per domain, so that a small domain is not mistaken for an empty one.
IN_USE, IN_USE_AGAIN, PICTURES_EACH = 0.5, 0.6, 10

# Two domains alike, by their overlap (`shared_probability`): the alarm begins above ALIKE and ends at STILL_ALIKE.
# There is no alarm if the median overlap is above APART, because E cannot tell any domains apart then.
ALIKE, STILL_ALIKE, APART = 0.5, 0.4, 0.2
# A new domain head is not sure at first, on purpose (methods/final_domains.py), so domains overlap until E has learnt
# with it for this many steps.
STEPS_WITH_NEW_HEAD = 100
MOST_DOMAINS_COMPARED = 200  # overlaps are computed only if there are at most this many domains

# Mutual information that does not change, as shares of its largest possible value: the alarm begins below
# NEAR_CHANCE, if all changes are smaller than MOVED, and ends at AWAY_AGAIN.
NEAR_CHANCE, AWAY_AGAIN, MOVED = 0.1, 0.15, 0.02

# A style loss that does not change, by |loss - loss at chance| / loss at chance: the alarm begins if this stays below
# NEAR_STYLE_CHANCE, and ends when it is at least AWAY_FROM_STYLE_CHANCE.
NEAR_STYLE_CHANCE, AWAY_FROM_STYLE_CHANCE = 0.05, 0.08

# Style codes that grow, by the style loss divided by its smallest value so far: the alarm begins above GROWN, if the
# loss is also at least RISING times what it was a tenth of E's steps earlier, and ends at STILL_GROWN. There is no
# alarm if the mutual information is above LEARNT times its largest possible value: growing codes then do no harm.
GROWN, STILL_GROWN, RISING, LEARNT = 2.0, 1.5, 1.05, 0.5


@dataclass(frozen=True)
class Alarm:
    """Something that goes wrong from step `step` on. over: the step at which it ended; None if it still lasts."""

    name: str
    step: int
    sentence: str
    remedy: str
    over: int | None = None


def crowded_from(domains: int, *, raised: bool = False) -> float:
    """Above which share of all pictures the largest of so many domains holds too many. raised: if it did before."""
    return min(FEW_CROWDED, max(STILL_CROWDED if raised else CROWDED, EVEN_SHARES / domains))


# ---- judges ----

# (evidence, outline, whether the alarm has begun already) -> a sentence that says what is wrong, or None
Judge = Callable[[Evidence, TrainingOutline, bool], str | None]


def judge_collapse(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Is there one domain that holds most of the pictures, or are most domains empty?"""
    summary = evidence.summary
    if summary is None or outline.domains < 2 or len(summary.counts) != outline.domains:
        return None
    learnt, total = summary.step - outline.domains_from_step, sum(summary.counts)
    if learnt < max(FEWEST_STEPS, outline.domain_steps / 10):
        return None
    largest, limit = max(summary.counts), crowded_from(outline.domains, raised=raised)
    if largest == total:
        return f"domains are collapsing: domain {summary.counts.index(largest)} holds every picture"
    if largest > limit * total:
        return (
            f"domains are collapsing: domain {summary.counts.index(largest)} holds {largest / total:.0%} of the "
            f"pictures (an even share of {outline.domains} domains is {1 / outline.domains:.0%})"
        )
    used = sum(count > 0 for count in summary.counts)
    enough = (
        outline.number_is_known
        and total >= PICTURES_EACH * outline.domains
        and learnt >= outline.domain_steps / 3
    )
    if enough and used < (IN_USE_AGAIN if raised else IN_USE) * outline.domains:
        return f"domains are collapsing: {outline.domains - used} of {outline.domains} are empty"
    return None


def judge_alike(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Are there two domains that E cannot tell apart, although it can tell others apart?"""
    summary = evidence.summary
    if summary is None or summary.shared is None or len(summary.counts) != outline.domains:
        return None
    if outline.domains < 3 or not outline.number_is_known:
        return None
    if outline.final_from and summary.step < outline.final_from + STEPS_WITH_NEW_HEAD:
        return None
    if summary.step - outline.domains_from_step < max(FEWEST_STEPS, outline.domain_steps / 2):
        return None
    rows, columns = summary.shared.new_ones(summary.shared.shape).triu(1).nonzero().unbind(1)
    pairs = summary.shared[rows, columns]
    if pairs.median() > APART or pairs.max() <= (STILL_ALIKE if raised else ALIKE):
        return None  # E tells no domains apart yet, or it tells all of them apart
    worst = int(pairs.argmax())
    others = int((pairs > ALIKE).sum()) - 1
    more = f", and {others} more such {'pair' if others == 1 else 'pairs'}" if others > 0 else ""
    return (
        f"two domains are alike: E cannot tell domain {int(rows[worst])} from domain {int(columns[worst])} "
        f"(their probabilities overlap by {float(pairs[worst]):.0%}{more})"
    )


def judge_information(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Is the mutual information low, and has it hardly changed for a third of the steps in which E learns domains?"""
    if outline.domains < 2 or not outline.weighs_domains:
        return None
    lines = [(line.step, line.information) for line in evidence.lines if line.information is not None]
    most = outline.most_information
    if raised:
        low = bool(lines) and lines[-1][1] < AWAY_AGAIN * most
    else:
        low = (
            _stays(lines, outline.domain_steps / 3, outline.steps_to_judge_guide, MOVED * most)
            and lines[-1][1] < NEAR_CHANCE * most
        )
    if not low:
        return None
    return (
        f"the mutual information does not move: it is {lines[-1][1]:.2g} of at most {most:.2g} nats, so E has not "
        "begun to tell domains apart"
    )


def judge_style(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Is the style loss as by chance, and has it hardly changed for a third of the steps in which E trains alone?"""
    if not outline.weighs_styles:
        return None
    lines = [(line.step, line.style) for line in evidence.lines if line.style is not None]
    limit = (AWAY_FROM_STYLE_CHANCE if raised else NEAR_STYLE_CHANCE) * outline.chance
    at_chance = bool(lines) and abs(lines[-1][1] - outline.chance) < limit
    if not at_chance or not (
        raised
        or _stays(
            lines, outline.steps_to_judge_guide / 3, outline.steps_to_judge_guide, MOVED * outline.chance
        )
    ):
        return None
    return (
        f"the style loss does not move: it is {lines[-1][1]:.2g}, as by chance ({outline.chance:.2g}), so E's style "
        "codes say nothing about the pictures"
    )


def _stays(lines: list[tuple[int, float]], time: float, until: int, most: float) -> bool:
    """Whether the values of (step, value) differ by less than `most` over the last `time` steps, up to step `until`.

    Even in a short training, at least FEWEST_STEPS are considered.
    """
    time = max(time, FEWEST_STEPS)
    if not lines or not FEWEST_STEPS <= lines[-1][0] <= until:
        return False
    last_step, last = lines[-1]
    before = [value for step, value in lines if step <= last_step - time]
    since = [value for step, value in lines if step > last_step - time]
    return bool(before) and all(abs(value - last) < most for value in (before[-1], *since))


def judge_growth(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Is the style loss worse than chance and rising, because style codes grow, while domains are not found?"""
    lines = [line for line in evidence.lines if line.style is not None]
    if not outline.free_codes or not outline.weighs_styles or len(lines) < 3:
        return None
    last, values = lines[-1], [line.style or 0.0 for line in lines]
    now, least = values[-1], min(values)
    # Growing codes harm only the domains, so they are no alarm where the mutual information does not teach E any: it
    # has no weight, there is a single domain, or every picture has a label (then it is not in the log).
    if last.information is None or not outline.weighs_domains or outline.most_information == 0:
        return None
    learnt = last.information >= LEARNT * outline.most_information
    if learnt or now <= max((STILL_GROWN if raised else GROWN) * least, outline.chance):
        return None
    earlier = [
        value
        for line, value in zip(lines, values, strict=True)
        if line.step <= last.step - outline.steps_to_judge_guide / 10
    ]
    if not raised and (not earlier or now <= RISING * earlier[-1]):
        return None
    return (
        f"style codes grow without limit: the style loss was {least:.3g} and is {now:.3g}, worse than by "
        f"chance ({outline.chance:.2g}), and the style loss outweighs the loss of the domains"
    )


# The judges, by what they look at: E's output, translations, or the losses in the log.
JUDGES_OF_OUTPUT: dict[str, Judge] = {
    "collapse": judge_collapse,
    "alike": judge_alike,
    "emptied": joint_alarms.judge_emptied,
}
JUDGES_OF_TRANSLATIONS: dict[str, Judge] = {
    "one output": joint_alarms.judge_output,
    "references": joint_alarms.judge_references,
}
JUDGES_OF_LOSSES: dict[str, Judge] = {
    "information": judge_information,
    "style": judge_style,
    "growth": judge_growth,
    "overfitting": joint_alarms.judge_overfitting,
    "strong": joint_alarms.judge_strong,
    "constant": joint_alarms.judge_constant,
    "drowned": joint_alarms.judge_drowned,
}
# For the progress line, which has little room.
SHORT = {
    "collapse": "domains collapsing",
    "alike": "two domains alike",
    "emptied": "E loses a domain",
    "one output": "G draws one picture",
    "references": "G ignores references",
    "information": "mutual information does not move",
    "style": "style loss does not move",
    "growth": "style codes growing",
    "overfitting": "D over-fits",
    "strong": "D too strong",
    "constant": "D does not learn",
    "drowned": "E's gradient drowned",
}

"""Alarms about the joint steps, in which E, G and D train: pure functions, as in guide_alarms.py.

The judges of G look at a few translations (translation_check.py), `judge_emptied` looks at E's output, and
the others at the figures in the log.
"""

from collections.abc import Callable

from tunit.training.alarms.evidence import Evidence, Line, TrainingOutline

# Only `judge_overfitting` may raise an alarm before G and D have trained for this many steps; it has its own limits.
FEWEST_JOINT_STEPS = 100

# All differences here are shares of the mean difference between two source pictures (translation_check.py).
# One output: translations of different sources differ by less than ONE_OUTPUT. Style ignored: translations of one
# source by different references differ by less than NO_STYLE; the sentence then says that G "returns its input" if
# reconstructions differ from their sources by less than COPIED, otherwise that it "ignores the reference". An alarm
# ends when the difference reaches the second value of its pair.
ONE_OUTPUT, SEVERAL_OUTPUTS = 0.05, 0.1
NO_STYLE, SOME_STYLE = 0.03, 0.05
COPIED = 0.5

# "Recently", in the next comments: in the newest steps, as many as a tenth of all joint steps, but at least
# FEWEST_JOINT_STEPS.

# D too strong or without effect, by its loss as a share of that of a D that answers the same for all pictures: the
# alarms begin if it was always below STRONG recently, or always above CONSTANT.
STRONG, STRONG_NO_MORE = 0.02, 0.05
CONSTANT, CONSTANT_NO_MORE = 0.99, 0.97

# D over-fits, by the mean sign of its recent logits of real pictures: the alarm begins above SURE, if D has seen each
# picture SEEN_OFTEN times on average, and ends at SURE_NO_MORE. Here "recent" means at least FEWEST_STEPS_OF_SIGNS
# steps.
SURE, SURE_NO_MORE, SEEN_OFTEN = 0.95, 0.85, 20
FEWEST_STEPS_OF_SIGNS = 30

# E's own gradient is drowned if the one from G was always longer by this factor recently.
DROWNED, DROWNED_NO_MORE = 100.0, 50.0

# A domain was emptied if it held at least HELD of the checked pictures when G and D began, and its share of them is
# now less than LOST times its share then. The alarm ends when it is at least LOST_NO_MORE times as large.
HELD, LOST, LOST_NO_MORE = 10, 0.2, 0.4


def is_early(step: int, outline: TrainingOutline) -> bool:
    """Whether G and D have trained too little to be judged at a step."""
    return step - outline.first_joint_step < max(
        FEWEST_JOINT_STEPS, outline.joint_warm_up, outline.joint_steps / 10
    )


def judge_output(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Does G draw the same picture, whatever its input?"""
    found = evidence.translations
    if found is None or is_early(found.step, outline):
        return None
    if found.content_effect >= (SEVERAL_OUTPUTS if raised else ONE_OUTPUT):
        return None
    return (
        f"G draws one picture for all inputs: its translations of different pictures differ by only "
        f"{found.content_effect:.1%} of the difference between these pictures"
    )


def judge_references(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Does G ignore the reference, although it does not draw the same picture for all inputs?"""
    found = evidence.translations
    if found is None or is_early(found.step, outline) or found.content_effect < ONE_OUTPUT:
        return None
    if found.style_effect >= (SOME_STYLE if raised else NO_STYLE):
        return None
    what = "returns its input" if found.reconstruction < COPIED else "ignores the reference"
    return (
        f"G {what}: translations of one picture by very different references differ by only "
        f"{found.style_effect:.1%} of the difference between two pictures"
    )


def _recent(
    evidence: Evidence, outline: TrainingOutline, value: Callable[[Line], float | None]
) -> tuple[float, float] | None:
    """The smallest and largest value of the recent lines (see the top of this file); None if it is too early."""
    if not evidence.lines or is_early(last := evidence.lines[-1].step, outline):
        return None
    since = last - max(outline.joint_steps / 10, FEWEST_JOINT_STEPS)
    values = [value(line) for line in evidence.lines_since(since)]
    known = [found for found in values if found is not None]
    return (min(known), max(known)) if known else None


def judge_strong(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Has D been right, with a large margin, about all pictures for a tenth of the joint steps?"""
    level = _recent(evidence, outline, lambda line: line.discriminator_level)
    if level is None or level[1] >= (STRONG_NO_MORE if raised else STRONG):
        return None
    return (
        f"D is too strong: its loss is {level[1]:.1%} of the loss of a D that answers the same for all pictures, so "
        "it recognises every translation, and G learns little from it"
    )


def judge_constant(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Has D been no better than one that answers the same for all pictures, for a tenth of the joint steps?"""
    level = _recent(evidence, outline, lambda line: line.discriminator_level)
    if level is None or level[0] <= (CONSTANT_NO_MORE if raised else CONSTANT):
        return None
    return (
        f"D does not learn: its loss is {level[0]:.0%} of the loss of a D that answers the same for all pictures, so "
        "it does not tell real pictures from translations, and G learns nothing from it"
    )


def judge_overfitting(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Has D recognised nearly every real picture for a long time, and seen each of them often?"""
    lines = [line for line in evidence.lines if line.real_sign is not None]
    if not lines:
        return None
    last, time = lines[-1], max(outline.joint_steps / 10, FEWEST_STEPS_OF_SIGNS)
    signs = [line.real_sign or 0.0 for line in lines if line.step > last.step - time]
    begun = outline.first_joint_step if outline.first_joint_step < last.step else 0
    times_seen = (last.step - begun) * outline.epochs_per_step
    mean = sum(signs) / len(signs)
    if raised:
        sure = mean > SURE_NO_MORE
    else:
        sure = mean > SURE and last.step - lines[0].step >= time and times_seen >= SEEN_OFTEN
    if not sure:
        return None
    return (
        f"D over-fits: it calls {(1 + mean) / 2:.0%} of the pictures real and has seen each about {times_seen:.0f} "
        "times, so it has memorised them, and translations may get worse from here"
    )


def judge_drowned(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Has the gradient that E gets from G been much longer than that of E's own losses?"""
    ratio = _recent(evidence, outline, _drowning)
    if ratio is None or ratio[0] <= (DROWNED_NO_MORE if raised else DROWNED):
        return None
    return (
        f"E's own gradient is drowned: the gradient that comes from G is {ratio[0]:.0f} times as long, so E learns "
        "hardly anything from its own losses any more"
    )


def _drowning(line: Line) -> float | None:
    # An own gradient of exactly 0 means that E has no loss of its own here, so nothing can be drowned.
    if not line.own_gradient or line.gradient_from_generator is None:
        return None
    return line.gradient_from_generator / line.own_gradient


def judge_emptied(evidence: Evidence, outline: TrainingOutline, raised: bool) -> str | None:
    """Has a domain lost nearly all its pictures since G and D began to train?"""
    summary, before = evidence.summary, evidence.first_counts
    if summary is None or before is None or len(before) != len(summary.counts):
        return None
    if is_early(summary.step, outline):
        return None
    # An older version looked at fewer pictures, so a resumed run may compare counts of different numbers of pictures.
    share = (LOST_NO_MORE if raised else LOST) * sum(summary.counts) / max(sum(before), 1)
    lost = [
        k
        for k, (then, now) in enumerate(zip(before, summary.counts, strict=True))
        if then >= HELD and now < share * then
    ]
    if not lost:
        return None
    k = max(lost, key=lambda domain: before[domain])
    more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    return (
        f"E loses domain {k}{more}: it held {before[k] / sum(before):.0%} of the pictures when G and D began to "
        f"train, and holds {summary.counts[k] / sum(summary.counts):.0%} now"
    )

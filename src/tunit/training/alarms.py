"""Alarms of a training that goes wrong: pure functions from what was logged and seen to sentences in plain words.

Each judge looks at the course of a training so far and says what is wrong, or nothing. An alarm that is raised is
over only below a lower limit, so that it does not come and go. What to do is in training/remedies.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from tunit.config import AUTO, Config
from tunit.methods.registry import method_of

FEWEST_STEPS = 30  # of learning, before which nothing is judged
# Collapse: the largest domain's share of the pictures. Of few domains one may hold three times its even share and yet
# be no collapse: sizes of 1 to 20 are a set's own.
CROWDED, STILL_CROWDED, FEW_CROWDED, EVEN_SHARES = 0.6, 0.5, 0.97, 3.0
IN_USE, IN_USE_AGAIN = 0.5, 0.6  # share of domains that some picture is in
MOST_COMPARED = 200  # domains, beyond which no pairs of them are looked at
PICTURES_EACH = 10  # looked at for each domain, so that a small one is not thought empty
# Two domains alike: how much of the larger one's probability the two share, picture by picture.
ALIKE, STILL_ALIKE, APART = 0.5, 0.4, 0.2
# A loss that does not move: shares of the mutual information's maximum, and of the style loss of pure chance.
NEAR_CHANCE, AWAY_AGAIN, MOVED = 0.1, 0.15, 0.02
NEAR_STYLE_CHANCE, AWAY_FROM_STYLE_CHANCE = 0.05, 0.08
# Style codes that grow: the style loss as a multiple of its least, and of its rise in a tenth of E's time.
GROWN, STILL_GROWN, RISING = 2.0, 1.5, 1.05
# D over-fits: the mean sign of its answers to real pictures over a tenth of the time of G and D, once each has been
# seen so often.
SURE, SURE_NO_MORE, SEEN_OFTEN = 0.95, 0.85, 20
LEARNT = 0.5  # of the greatest mutual information, from where growing style codes do no harm


@dataclass(frozen=True)
class Alarm:
    """Something that goes wrong, from a step on. over: the step at which it was over, if it was."""

    name: str
    step: int
    sentence: str
    remedy: str
    over: int | None = None


@dataclass(frozen=True)
class Line:
    """One line of the log: mean losses since the line before; None for those that were not computed."""

    step: int
    information: float | None
    style: float | None
    real_sign: float | None = None  # of D's answers to real pictures


@dataclass(frozen=True)
class Sight:
    """What E said of some of the pictures at a step."""

    step: int
    counts: list[int]  # pictures whose likeliest domain is each
    shared: Tensor | None  # (K, K), of `shared_probability`; None where there are too many domains
    length: float  # mean, of style codes

    def figures(self) -> dict[str, float]:
        """For the log."""
        return {
            "domains/largest_share": max(self.counts) / sum(self.counts),
            "domains/in_use": float(sum(count > 0 for count in self.counts)),
            "guide/style_length": self.length,
        }


@dataclass(frozen=True)
class Frame:
    """What a config says of the course: when E learns what, and how bad its losses can be."""

    domains: int  # that E tells apart; fewer than 2 where they are not E's to find
    counted: bool  # False while their number is still to be found, on purpose among too many
    begins: int  # steps before E learns domains
    alone: int  # steps of E's time alone; of all the training where it has none
    chance: float  # the style loss of codes that are all the same
    free_codes: bool  # style codes of any length
    weighs_domains: bool  # the mutual information has a weight in E's loss
    weighs_styles: bool
    joint: int = 0  # steps of G and D
    epochs_each: float = 0.0  # times that D sees each picture in one of them

    @property
    def learning(self) -> int:
        """Steps of E's time in which it learns domains."""
        return max(self.alone - self.begins, 1)

    @property
    def most_information(self) -> float:
        """The largest mutual information, in nats."""
        return math.log(max(self.domains, 1))


@dataclass
class Course:
    """A training so far, as the judges see it."""

    lines: list[Line] = field(default_factory=list)
    sight: Sight | None = None


def frame_of(config: Config, labelled: bool, pictures: int = 0) -> Frame:
    """labelled: some pictures have labels, which then tell E what the domains are. pictures: how many there are."""
    settings, schedule = config.losses, config.schedule
    alone = int(schedule.guide_only_until) or schedule.steps
    finds = method_of(config).finds_domains and not labelled
    return Frame(
        domains=config.networks.domain_logits if finds else 0,
        counted=config.networks.domains != AUTO,
        begins=math.ceil(config.clustering.domains_from * schedule.guide_only_until),
        alone=alone,
        chance=math.log(1 + config.optimisers.queue_length),
        free_codes=not config.networks.normalise_style,
        weighs_domains=settings.mutual_information_weight > 0,
        weighs_styles=settings.guide_style_weight > 0,
        joint=max(int(schedule.steps - schedule.guide_only_until), 0),
        epochs_each=config.optimisers.batch_size / pictures if pictures else 0.0,
    )


def shared_probability(p: Tensor) -> Tensor:
    """(K, K) of probabilities p (N, K): sum min(p_a, p_b) / max(sum p_a, sum p_b), over pictures.

    1 where two domains are as likely as each other for every picture, 0 where none has both; 0 on the diagonal.
    """
    sums = p.sum(0)
    both = p.new_zeros(len(sums), len(sums))
    for a in range(len(sums)):
        both[a] = p.minimum(p[:, a : a + 1]).sum(0) / sums.maximum(sums[a]).clamp_min(1e-12)
    return both.fill_diagonal_(0)


# ---- judges: (course, frame, whether the alarm is raised already) -> what is wrong, or None ----

Judge = Callable[[Course, Frame, bool], str | None]


def judge_collapse(course: Course, frame: Frame, raised: bool) -> str | None:
    """One domain that holds most of the pictures, or most domains empty."""
    sight = course.sight
    if sight is None or frame.domains < 2 or len(sight.counts) != frame.domains:
        return None
    learnt, total = sight.step - frame.begins, sum(sight.counts)
    if learnt < max(FEWEST_STEPS, frame.learning / 10):
        return None
    largest = max(sight.counts)
    limit = min(FEW_CROWDED, max(STILL_CROWDED if raised else CROWDED, EVEN_SHARES / frame.domains))
    if largest == total:
        return f"domains are collapsing: domain {sight.counts.index(largest)} holds every picture"
    if largest > limit * total:
        return (
            f"domains are collapsing: domain {sight.counts.index(largest)} holds {largest / total:.0%} of the "
            f"pictures (an even share of {frame.domains} domains is {1 / frame.domains:.0%})"
        )
    used = sum(count > 0 for count in sight.counts)
    enough = frame.counted and total >= PICTURES_EACH * frame.domains and learnt >= frame.learning / 3
    if enough and used < (IN_USE_AGAIN if raised else IN_USE) * frame.domains:
        return f"domains are collapsing: {frame.domains - used} of {frame.domains} are empty"
    return None


def judge_alike(course: Course, frame: Frame, raised: bool) -> str | None:
    """Two domains that E cannot tell apart, while it tells others apart."""
    sight = course.sight
    if sight is None or sight.shared is None or len(sight.counts) != frame.domains:
        return None
    if frame.domains < 3 or not frame.counted:
        return None
    if sight.step - frame.begins < max(FEWEST_STEPS, frame.learning / 2):
        return None
    rows, columns = sight.shared.new_ones(sight.shared.shape).triu(1).nonzero().unbind(1)
    pairs = sight.shared[rows, columns]
    if pairs.median() > APART or pairs.max() <= (STILL_ALIKE if raised else ALIKE):
        return None  # where no domain is clear to E, none are two by mistake
    worst = int(pairs.argmax())
    others = int((pairs > ALIKE).sum()) - 1
    more = f", and {others} more such {'pair' if others == 1 else 'pairs'}" if others > 0 else ""
    return (
        f"two domains are alike: E cannot tell domain {int(rows[worst])} from domain {int(columns[worst])} "
        f"(they share {float(pairs[worst]):.0%} of their probability{more})"
    )


def judge_information(course: Course, frame: Frame, raised: bool) -> str | None:
    """A mutual information that stays near 0 for a third of the time in which E learns domains."""
    if frame.domains < 2 or not frame.weighs_domains:
        return None
    lines = [(line.step, line.information) for line in course.lines if line.information is not None]
    most = frame.most_information
    if raised:
        low = bool(lines) and lines[-1][1] < AWAY_AGAIN * most
    else:
        low = (
            _stays(lines, frame.learning / 3, frame.alone, MOVED * most) and lines[-1][1] < NEAR_CHANCE * most
        )
    if not low:
        return None
    return (
        f"the mutual information does not move: it is {lines[-1][1]:.2g} of at most {most:.2g} nats, so E has not "
        "begun to tell domains apart"
    )


def judge_style(course: Course, frame: Frame, raised: bool) -> str | None:
    """A style loss that stays at chance for a third of E's time."""
    if not frame.weighs_styles:
        return None
    lines = [(line.step, line.style) for line in course.lines if line.style is not None]
    limit = (AWAY_FROM_STYLE_CHANCE if raised else NEAR_STYLE_CHANCE) * frame.chance
    at_chance = bool(lines) and abs(lines[-1][1] - frame.chance) < limit
    if not at_chance or not (raised or _stays(lines, frame.alone / 3, frame.alone, MOVED * frame.chance)):
        return None
    return (
        f"the style loss does not move: it is {lines[-1][1]:.2g}, as by chance ({frame.chance:.2g}), so E's style "
        "codes say nothing of the pictures"
    )


def _stays(lines: list[tuple[int, float]], time: float, until: int, most: float) -> bool:
    """Whether the last of (step, value) is, before step `until`, within `most` of all values over `time` steps.

    However short a training is, it is given FEWEST_STEPS to move.
    """
    time = max(time, FEWEST_STEPS)
    if not lines or not FEWEST_STEPS <= lines[-1][0] <= until:
        return False
    last_step, last = lines[-1]
    before = [value for step, value in lines if step <= last_step - time]
    since = [value for step, value in lines if step > last_step - time]
    return bool(before) and all(abs(value - last) < most for value in (before[-1], *since))


def judge_growth(course: Course, frame: Frame, raised: bool) -> str | None:
    """Style codes that grow until their loss is worse than chance and rises on, while domains are not found."""
    lines = [line for line in course.lines if line.style is not None]
    if not frame.free_codes or not frame.weighs_styles or len(lines) < 3:
        return None
    last, values = lines[-1], [line.style or 0.0 for line in lines]
    now, least = values[-1], min(values)
    learnt = (last.information or 0.0) >= LEARNT * frame.most_information > 0
    if learnt or now <= max((STILL_GROWN if raised else GROWN) * least, frame.chance):
        return None
    earlier = [
        value for line, value in zip(lines, values, strict=True) if line.step <= last.step - frame.alone / 10
    ]
    if not raised and (not earlier or now <= RISING * earlier[-1]):
        return None
    return (
        f"style codes grow without end: the style loss was {least:.3g} and is {now:.3g}, worse than by "
        f"chance ({frame.chance:.2g}), and it drowns the domains"
    )


def judge_overfitting(course: Course, frame: Frame, raised: bool) -> str | None:
    """A D that calls nearly every real picture real for long, and has seen each of them often."""
    lines = [line for line in course.lines if line.real_sign is not None]
    if not lines:
        return None
    last, time = lines[-1], max(frame.joint / 10, FEWEST_STEPS)
    signs = [line.real_sign or 0.0 for line in lines if line.step > last.step - time]
    begun = frame.alone if frame.joint and frame.alone < last.step else 0
    seen = (last.step - begun) * frame.epochs_each
    mean = sum(signs) / len(signs)
    if raised:
        sure = mean > SURE_NO_MORE
    else:
        sure = mean > SURE and last.step - lines[0].step >= time and seen >= SEEN_OFTEN
    if not sure:
        return None
    return (
        f"D over-fits: it calls {(1 + mean) / 2:.0%} of the pictures real and has seen each about {seen:.0f} times, "
        "so it knows them by heart, and translations may get worse from here"
    )


BY_SIGHT: dict[str, Judge] = {"collapse": judge_collapse, "alike": judge_alike}
BY_LINE: dict[str, Judge] = {
    "information": judge_information,
    "style": judge_style,
    "growth": judge_growth,
    "overfitting": judge_overfitting,
}
# Of the progress line, which has little room.
SHORT = {
    "collapse": "domains collapsing",
    "alike": "two domains alike",
    "information": "mutual information does not move",
    "style": "style loss does not move",
    "growth": "style codes growing",
    "overfitting": "D over-fits",
}

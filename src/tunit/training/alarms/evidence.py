"""What the alarms judge by: the figures in the log, E's output for some pictures, and the phases of the training."""

import math
from dataclasses import dataclass, field

from torch import Tensor

from tunit.config import AUTO, Config
from tunit.methods.findings import first_step_with_domains, keeps_domains, learns_only_styles
from tunit.methods.registry import method_of
from tunit.training.alarms.translation_check import TranslationSummary

# The figures of the log that a Line keeps, and the names of its fields.
LOGGED = {
    "guide/mutual_information": "information",
    "guide/style": "style",
    "discriminator/real_sign": "real_sign",
    "discriminator/real": "real_loss",
    "discriminator/fake": "fake_loss",
    "guide/gradient": "own_gradient",
    "guide/gradient_from_generator": "gradient_from_generator",
}


@dataclass(frozen=True)
class Line:
    """One line of the log: mean losses since the previous line; None for losses that were not computed."""

    step: int
    information: float | None
    style: float | None
    real_sign: float | None = None  # the mean sign of D's logits of real pictures
    real_loss: float | None = None  # D's hinge losses
    fake_loss: float | None = None
    own_gradient: float | None = None  # the L2 norm of E's gradient of its own losses, in joint steps
    gradient_from_generator: float | None = None  # the same, of G's losses

    @classmethod
    def of(cls, step: int, means: dict[str, float]) -> "Line":
        """The line of a step, from the means of its losses by name."""
        return cls(step, **{field: means.get(logged) for logged, field in LOGGED.items()})

    @property
    def discriminator_level(self) -> float | None:
        """D's loss as a share of its value if D gives the same answer for all pictures."""
        if self.real_loss is None or self.fake_loss is None:
            return None
        return (self.real_loss + self.fake_loss) / 2


@dataclass(frozen=True)
class OutputSummary:
    """E's output for some of the pictures at a step, summarised."""

    step: int
    counts: list[int]  # for each domain, how many pictures are in it
    shared: Tensor | None  # (K, K) from `shared_probability`; None if there are too many domains
    length: float  # the mean length of style codes

    def figures(self) -> dict[str, float]:
        """The figures for the log, by name."""
        return {
            "domains/largest_share": max(self.counts) / sum(self.counts),
            "domains/in_use": float(sum(count > 0 for count in self.counts)),
            "guide/style_length": self.length,
        }


@dataclass(frozen=True)
class TrainingOutline:
    """What the judges (functions in guide_alarms.py and joint_alarms.py) need to know besides the evidence.

    This is the number of domains, the phases in steps, which losses have a weight, and the style loss by chance.
    """

    domains: int  # the number of E's domains; below 2 if E does not find domains
    # The number of outputs of the domain head, from which the largest mutual information follows. Unlike `domains`,
    # it is not 0 if labels define the domains.
    domains_of_information: int
    number_is_known: bool  # False until the number of domains is found; until then E has too many on purpose
    # Until this step the domain head may be replaced, so two domains that are alike are no alarm yet.
    final_from: int
    domains_from_step: int  # steps before E learns domains
    # The period by which E's losses are judged: the steps in which it trains alone; if there are none, all steps.
    steps_to_judge_guide: int
    chance: float  # the style loss of codes that are all the same, so that they say nothing about pictures
    free_codes: bool  # style codes are not normalised
    weighs_domains: bool  # E learns domains by mutual information, and its weight is not 0
    weighs_styles: bool  # the same for the style loss
    joint_steps: int = 0  # the number of steps in which G and D train
    first_joint_step: int = 0  # how many steps come before them: those in which E trains alone
    joint_warm_up: int = 0  # joint steps in which the learning rates still rise
    epochs_per_step: float = 0.0  # the share of all pictures that D sees in one joint step

    def is_decided(self, step: int) -> bool:
        """Whether, at a step, the domains that E has are those with which the joint steps began: its head is new."""
        return 0 < self.final_from <= step

    @property
    def domain_steps(self) -> int:
        """In how many of the first `steps_to_judge_guide` steps E learns domains, at least 1."""
        return max(self.steps_to_judge_guide - self.domains_from_step, 1)

    @property
    def most_information(self) -> float:
        """The largest mutual information, in nats."""
        return math.log(max(self.domains_of_information, 1))


# At most this many lines are kept, an even number. Each judge walks over them at every line of the log, so with all
# lines the time would grow with the square of their number.
MOST_LINES = 4_000


@dataclass
class Evidence:
    """The training so far: what the judges look at."""

    lines: list[Line] = field(default_factory=list)
    summary: OutputSummary | None = None
    # For each domain, how many of the same pictures were in it when G and D began to train; None before.
    first_counts: list[int] | None = None
    translations: TranslationSummary | None = None
    _kept_every: int = 1
    _added: int = 0  # how many lines were added

    def add(self, line: Line) -> None:
        """Add a line of the log. Of a long log, every n-th line is kept, and the newest one; n is a power of 2."""
        if (self._added - 1) % self._kept_every:
            self.lines.pop()  # the newest line was none of those that stay
        self.lines.append(line)
        self._added += 1
        if len(self.lines) > MOST_LINES:
            self.lines = self.lines[::2]  # their number was odd, so the newest line stays
            self._kept_every *= 2

    def lines_since(self, step: float) -> list[Line]:
        """The lines after a step."""
        return [line for line in self.lines if line.step > step]


def outline_of(config: Config, labelled: bool, pictures: int = 0, *, chosen: bool = False) -> TrainingOutline:
    """The outline of a training with this config.

    labelled: some pictures have labels, which define the domains. pictures: how many there are; 0 if it is not known.
    chosen: the number of domains was `auto` and is found, so E has a new domain head.
    """
    settings, schedule = config.losses, config.schedule
    first_joint_step = int(schedule.guide_only_until)
    steps_to_judge_guide = first_joint_step or schedule.steps
    method = method_of(config)
    finds = method.learns_domains and not labelled
    never_by_information = not labelled and learns_only_styles(config) and keeps_domains(config)
    replaces_head = method.replaces_head is not None and method.replaces_head(config)
    return TrainingOutline(
        domains=config.networks.initial_domains if finds else 0,
        domains_of_information=config.networks.initial_domains,
        number_is_known=config.networks.domains != AUTO,
        final_from=first_joint_step if chosen or replaces_head else 0,
        domains_from_step=first_step_with_domains(config),
        steps_to_judge_guide=steps_to_judge_guide,
        chance=math.log(1 + config.optimisers.queue_length),
        free_codes=not config.networks.normalise_style,
        weighs_domains=settings.mutual_information_weight > 0 and not never_by_information,
        weighs_styles=settings.guide_style_weight > 0,
        joint_steps=max(schedule.steps - first_joint_step, 0),
        first_joint_step=first_joint_step,
        joint_warm_up=config.optimisers.joint_warm_up,
        epochs_per_step=config.optimisers.batch_size / pictures if pictures else 0.0,
    )


def shared_probability(p: Tensor) -> Tensor:
    """How much any two of K domains overlap: (K, K), from the probabilities p (N, K) of N pictures.

    For domains a and b it is sum min(p_a, p_b) / max(sum p_a, sum p_b), where the sums are over all pictures. It is 1
    if every picture has the same probability for a as for b. It is 0 if E gives no picture a probability above 0 for
    both. The diagonal is set to 0.
    """
    sums = p.sum(0)
    both = p.new_zeros(len(sums), len(sums))
    for a in range(len(sums)):
        both[a] = p.minimum(p[:, a : a + 1]).sum(0) / sums.maximum(sums[a]).clamp_min(1e-12)
    return both.fill_diagonal_(0)

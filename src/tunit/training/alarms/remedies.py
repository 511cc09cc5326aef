"""What to do about an alarm: options from docs/domains.md that the run does not use yet and that its method takes."""

import re
from dataclasses import dataclass

from tunit.config import AUTO, AUTO_WEIGHT, Config
from tunit.errors import ConfigError
from tunit.methods.checks import check_config
from tunit.methods.findings import keeps_domains
from tunit.methods.idle_settings import why_idle
from tunit.methods.objectives import weight_of_r1
from tunit.methods.registry import method_of
from tunit.printing import listed

MOST_OPTIONS = 3  # at most this many options in a sentence; the options that helped most come first
LARGE_BATCH = 128
# In an option: a flag and, unless "(now ...)" follows, its value.
FLAG = re.compile(r"--([a-z][a-z0-9-]*)(?: ([\w.]+))?")


@dataclass(frozen=True)
class _Run:
    """What the advice depends on. pictures: how many there are; 0 if it is not known."""

    config: Config
    pictures: int
    all_labelled: bool  # every picture has a label

    def largest_batch(self, most: int) -> int:
        """The largest batch of at most `most` that has no more pictures than there are, and that all processes share
        evenly.
        """
        size = min(most, self.pictures or most)
        return size - size % self.config.run.processes

    @property
    def may_have_larger_batch(self) -> bool:
        """Whether there are pictures for a larger batch in joint steps."""
        return not self.pictures or self.largest_batch(self.pictures) > self.config.optimisers.batch_size


def remedy_for(alarm: str, config: Config, *, pictures: int = 0, all_labelled: bool = False) -> str:
    """A sentence for an alarm, by its name.

    pictures: how many there are; 0 if it is not known. all_labelled: every picture has a label.
    """
    return {
        "collapse": _against_collapse,
        "alike": _against_twins,
        "information": _against_collapse,
        "style": _against_chance,
        "growth": _against_growth,
        "overfitting": _against_overfitting,
        "emptied": _against_lost_domains,
        "one output": _against_one_output,
        "references": _against_ignored_references,
        "strong": _against_a_strong_discriminator,
        "constant": _against_a_constant_discriminator,
        "drowned": _against_drowned_gradients,
    }[alarm](_Run(config, pictures, all_labelled))


def _against_collapse(run: _Run) -> str:
    config = run.config
    networks, optimisers = config.networks, config.optimisers
    batch, large = optimisers.guide_only_batch_size or optimisers.batch_size, run.largest_batch(LARGE_BATCH)
    options = [
        option
        for option, wanted in (
            ("--normalise-style true --temperature 0.1", not networks.normalise_style),
            ("--overclusters 50 --overcluster-weight 5", networks.overclusters == 0),
            ("--head-std 0.3", networks.head_std < 0.1),
            (f"--guide-only-batch-size {large}", batch < large),
            ("--candidate-heads 4", _lacks_candidates(config)),
            ("--neighbours 5 --neighbours-from 0.5", config.clustering.neighbours == 0),
        )
        if wanted
    ]
    flag, rate = _rate(config)
    options = [
        *_usable(run, *options)[:MOST_OPTIONS],
        *_usable(run, f"another {flag} (now {rate:g})", _longer_alone(config)),
    ]
    advice = "; if all pictures are of one kind, with --domains 1"
    if config.networks.domains != AUTO:
        advice = (
            f"; if there are fewer kinds than domains, with fewer --domains (now {config.networks.domains})"
        )
    return f"try a new run with {_listed(options)}{advice}"


def _against_twins(run: _Run) -> str:
    config = run.config
    heads = ["--candidate-heads 4"] if _lacks_candidates(config) else []
    options = _usable(run, *heads, _longer_alone(config))
    otherwise = f"; if not, use {' and '.join(options)}" if options else ""
    return f"if they are one kind, start a new run with fewer --domains (now {config.networks.domains}){otherwise}"


def _against_chance(run: _Run) -> str:
    flag, rate = _rate(run.config)
    options = _usable(
        run,
        f"another {flag} (now {rate:g}) (5e-4 to 2e-3 is good for small networks)",
        "another --temperature",
    )
    return f"check that the pictures do differ, then try a new run with {_listed(options)}"


def _against_growth(run: _Run) -> str:
    config = run.config
    flag, rate = _rate(config)
    options = _usable(
        run,
        "--normalise-style true --temperature 0.1",
        *_less(f"a lower {flag}", rate),
        *(["a lower --guide-style-weight"] if config.losses.guide_style_weight else []),
    )
    return f"try a new run with {_listed(options)}"


def _against_overfitting(run: _Run) -> str:
    config = run.config
    adversarial = config.adversarial
    options = [
        option
        for option, wanted in (
            (
                "--discriminator-augment-target 0.6 --discriminator-augment-pace 20000",
                not (adversarial.discriminator_augment or adversarial.discriminator_augment_target),
            ),
            ("--lecam-weight 0.1", adversarial.lecam_weight == 0),
            ("more pictures", True),
        )
        if wanted
    ]
    return f"try a new run with {_listed(_usable(run, *options))}, or stop here: Ctrl-C saves the model"


def _against_lost_domains(run: _Run) -> str:
    config = run.config
    settings = config.optimisers
    options = _usable(
        run,
        f"a larger --found-domains-weight (now {config.losses.found_domains_weight:g})",
        *_less("a lower --joint-guide-rate", settings.joint_guide_rate or settings.guide_rate),
        *([f"a larger --batch-size (now {settings.batch_size})"] if run.may_have_larger_batch else []),
    )
    return f"try a new run with {_listed(options)}; checkpoints from before still have the domain"


def _against_one_output(run: _Run) -> str:
    config = run.config
    options = _usable(
        run,
        *(["--joint-warm-up 100"] if config.optimisers.joint_warm_up == 0 else []),
        *_less("a lower --generator-rate", config.optimisers.generator_rate),
        f"a larger --reconstruction-weight (now {config.losses.reconstruction_weight:g})",
    )
    return f"if it lasts, try a new run with {_listed(options)}"


def _against_ignored_references(run: _Run) -> str:
    config = run.config
    losses = config.losses
    options = _usable(
        run,
        *_less("a smaller --reconstruction-weight", losses.reconstruction_weight),
        f"a larger --generator-style-weight (now {losses.generator_style_weight:g})",
        _longer_alone(config),
    )
    return f"if it lasts, try a new run with {_listed(options)}"


def _against_a_strong_discriminator(run: _Run) -> str:
    config = run.config
    options = _usable(
        run,
        *_less("a lower --discriminator-rate", config.optimisers.discriminator_rate),
        f"a larger --r1-weight (now {_weight_of_r1(config)})",
        "more pictures",
    )
    return f"try a new run with {_listed(options)}"


def _against_a_constant_discriminator(run: _Run) -> str:
    config = run.config
    options = _usable(
        run,
        f"a higher --discriminator-rate (now {config.optimisers.discriminator_rate:g})",
        *([f"a smaller --r1-weight (now {_weight_of_r1(config)})"] if weight_of_r1(config) else []),
        *(["a larger --adversarial-weight (now 0)"] if config.losses.adversarial_weight == 0 else []),
    )
    return f"try a new run with {_listed(options)}"


def _against_drowned_gradients(run: _Run) -> str:
    config = run.config
    losses = config.losses
    kept = keeps_domains(config)
    options = _usable(
        run,
        f"a larger --joint-guide-factor (now {losses.joint_guide_factor:g})",
        f"a larger --labelled-guide-factor (now {losses.labelled_guide_factor:g})",
        *([f"a larger --found-domains-weight (now {losses.found_domains_weight:g})"] if kept else []),
        *_less("a smaller --reconstruction-weight", losses.reconstruction_weight),
    )
    return f"try a new run with {_listed(options)}"


def _lacks_candidates(config: Config) -> bool:
    """Whether candidate heads, from which one is chosen when E has trained alone, could help and are not used yet."""
    return config.networks.candidate_heads == 0 and config.schedule.guide_only_until > 0


def _usable(run: _Run, *options: str) -> list[str]:
    """Those of the options that a new run with this config would accept, and that would have an effect on it.

    Alarms ring for every method, but a baseline refuses some settings and does not read others.
    """
    return [option for option in options if _is_usable(run, option)]


def _is_usable(run: _Run, option: str) -> bool:
    """Whether each flag in an option can be used; "--flag value" is tried with this value."""
    config = run.config
    given = {flag.replace("-", "_"): value for flag, value in FLAG.findall(option)}
    if "guide_only_until" in given and not method_of(config).trains_guide_first:
        return False
    try:
        changed = config.with_overrides({name: value for name, value in given.items() if value})
        check_config(changed)
    except ConfigError:
        return False
    return not any(why_idle(changed, name, all_labelled=run.all_labelled) for name in given)


def _weight_of_r1(config: Config) -> str:
    """As it was given and, for `auto`, also as a number: without it nobody knows what is larger or smaller."""
    number = f"{weight_of_r1(config):g}"
    return f"auto, which is {number} here" if config.losses.r1_weight == AUTO_WEIGHT else number


def _longer_alone(config: Config) -> str:
    """E alone for longer; if it trains alone to the end already, only more steps make that longer."""
    schedule = config.schedule
    longer = "a longer --guide-only-until"
    return longer if schedule.guide_only_until < schedule.steps else f"more --steps, with {longer}"


def _rate(config: Config) -> tuple[str, float]:
    """The learning rate with which E trains alone: its flag and its value."""
    settings = config.optimisers
    if settings.guide_only_rate and config.schedule.guide_only_until:
        return "--guide-only-rate", settings.guide_only_rate
    return "--guide-rate", settings.guide_rate


def _less(option: str, value: float) -> list[str]:
    """An option to lower a setting, such as "a lower --guide-rate"; none if it is 0 now: nobody can take less."""
    return [f"{option} (now {value:g})"] if value else []


def _listed(items: list[str]) -> str:
    """The items in a sentence. If the method takes none of them, only its author can know better ones."""
    return listed(items, len(items), "or") if items else "other settings of the method"

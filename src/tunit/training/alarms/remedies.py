"""What to do about an alarm: options from docs/domains.md that the run does not use yet."""

from tunit.config import AUTO, AUTO_WEIGHT, Config
from tunit.methods.findings import finds_domains, keeps_domains
from tunit.methods.registry import method_of

MOST_OPTIONS = 3  # at most this many options in a sentence; the options that helped most come first
LARGE_BATCH = 128


def remedy_for(alarm: str, config: Config) -> str:
    """A sentence for an alarm, by its name."""
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
    }[alarm](config)


def _against_collapse(config: Config) -> str:
    networks, optimisers = config.networks, config.optimisers
    batch = optimisers.guide_only_batch_size or optimisers.batch_size
    options = [
        option
        for option, wanted in (
            ("--normalise-style true --temperature 0.2", not networks.normalise_style),
            ("--overclusters 50 --overcluster-weight 5", networks.overclusters == 0),
            ("--head-std 0.3", networks.head_std < 0.1),
            (f"--guide-only-batch-size {LARGE_BATCH}", batch < LARGE_BATCH),
            ("--candidate-heads 4", networks.candidate_heads == 0),
            ("--neighbours 5 --neighbours-from 0.5", config.clustering.neighbours == 0),
        )
        if wanted
    ][:MOST_OPTIONS]
    options += [f"another {_rate(config)}", "a longer --guide-only-until"]
    advice = "; if all pictures are of one kind, with --domains 1"
    if config.networks.domains != AUTO:
        advice = "; if there are fewer kinds than --domains says, with fewer --domains"
    return f"try a new run with {_listed(options)}{advice}"


def _against_twins(config: Config) -> str:
    heads = "--candidate-heads 4 and " if config.networks.candidate_heads == 0 else ""
    return (
        f"if they are one kind, start a new run with fewer --domains (now {config.networks.domains}); if not, use "
        f"{heads}a longer --guide-only-until"
    )


def _against_chance(config: Config) -> str:
    return (
        f"check that the pictures do differ, then try a new run with another {_rate(config)} (5e-4 to 2e-3 is good "
        "for small networks), or with another --temperature"
    )


def _against_growth(config: Config) -> str:
    return (
        "try a new run with --normalise-style true --temperature 0.2, or with a lower "
        f"{_rate(config)} or --guide-style-weight"
    )


def _against_overfitting(config: Config) -> str:
    adversarial = config.adversarial
    options = [
        option
        for option, wanted in (
            (
                "--discriminator-augment-target 0.6 --discriminator-augment-pace 20000",
                not (adversarial.discriminator_augment or adversarial.discriminator_augment_target),
            ),
            ("--lecam-weight 0.1", adversarial.lecam_weight == 0),
        )
        if wanted
    ]
    options.append("more pictures")
    return f"try a new run with {_listed(options)}, or stop here: Ctrl-C saves the model"


def _against_lost_domains(config: Config) -> str:
    settings = config.optimisers
    options = [
        f"a lower --joint-guide-rate (now {settings.joint_guide_rate or settings.guide_rate:g})",
        f"a larger --batch-size (now {settings.batch_size})",
    ]
    if finds_domains(config) and "found_domains_weight" not in method_of(config).unused_settings:
        options.insert(0, f"a larger --found-domains-weight (now {config.losses.found_domains_weight:g})")
    return f"try a new run with {_listed(options)}; checkpoints from before still have the domain"


def _against_one_output(config: Config) -> str:
    options = [
        *(["--joint-warm-up 100"] if config.optimisers.joint_warm_up == 0 else []),
        f"a lower --generator-rate (now {config.optimisers.generator_rate:g})",
        f"a larger --reconstruction-weight (now {config.losses.reconstruction_weight:g})",
    ]
    return f"if it lasts, try a new run with {_listed(options)}"


def _against_ignored_references(config: Config) -> str:
    losses = config.losses
    return (
        f"if it lasts, try a new run with a smaller --reconstruction-weight (now {losses.reconstruction_weight:g}), "
        f"a larger --generator-style-weight (now {losses.generator_style_weight:g}), or a longer --guide-only-until"
    )


def _against_a_strong_discriminator(config: Config) -> str:
    return (
        f"try a new run with a lower --discriminator-rate (now {config.optimisers.discriminator_rate:g}), a larger "
        "--r1-weight, or more pictures"
    )


def _against_a_constant_discriminator(config: Config) -> str:
    return (
        f"try a new run with a higher --discriminator-rate (now {config.optimisers.discriminator_rate:g}) or a "
        f"smaller --r1-weight (now {_shown(config.losses.r1_weight)})"
    )


def _against_drowned_gradients(config: Config) -> str:
    losses = config.losses
    options = [
        f"a larger --joint-guide-factor (now {losses.joint_guide_factor:g})",
        f"a smaller --reconstruction-weight (now {losses.reconstruction_weight:g})",
    ]
    if keeps_domains(config):
        options.insert(1, f"a larger --found-domains-weight (now {losses.found_domains_weight:g})")
    return f"try a new run with {_listed(options)}"


def _shown(value: float) -> str:
    return "auto" if value == AUTO_WEIGHT else f"{value:g}"


def _rate(config: Config) -> str:
    settings = config.optimisers
    if settings.guide_only_rate:
        return f"--guide-only-rate (now {settings.guide_only_rate:g})"
    return f"--guide-rate (now {settings.guide_rate:g})"


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"

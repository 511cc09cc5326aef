"""Check that a config's method supports the settings and labels; if not, raise an error of one clear sentence."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tunit.config import AUTO, Config, find_field
from tunit.data.packing.doubts import warning_if_unlabelled
from tunit.errors import ConfigError, DataError
from tunit.methods.method import Labels
from tunit.methods.registry import method_of


def check_config(config: Config, *, resumes: bool = False) -> None:
    """Raises ConfigError where a setting contradicts the method.

    config: after `resolved_schedule`, which replaces shares of all steps by numbers of steps. resumes: the config is
    that of a run that goes on and keeps most settings; what only newer versions refuse is then accepted.
    """
    method, run = method_of(config), config.run
    if config.schedule.guide_only_until and not method.trains_guide_first:
        raise ConfigError(
            f"guide_only_until is {config.schedule.guide_only_until}, but nothing trains alone in method "
            f"'{method.name}': set --guide-only-until 0"
        )
    if config.networks.domains == AUTO and config.data.labels == "none":
        _check_auto(config, resumes=resumes)
    if not method.takes_adversarial_settings:
        _check_no_adversarial_settings(config, resumes=resumes)
    if config.optimisers.guide_only_batch_size == 1 and not resumes:
        raise ConfigError(
            "guide_only_batch_size is 1, but domains and styles are learnt by comparing pictures: give 2 or more, or "
            "0 for as many as --batch-size"
        )
    if run.micro_batch and not method.micro_batches:
        raise ConfigError(
            f"micro_batch is {run.micro_batch}, but method '{method.name}' takes a batch at once: "
            "leave it 0 and lower --batch-size"
        )
    if run.compile and method.compiled_parts is None:
        raise ConfigError(
            f"compile is true, but method '{method.name}' has nothing to compile: set --compile false"
        )
    if run.checkpoint_activations and method.recomputed_parts is None:
        raise ConfigError(
            f"checkpoint_activations is true, but method '{method.name}' cannot compute its activations again: "
            "set --checkpoint-activations false"
        )
    if config.data.labels == "none" and method.labels is not Labels.OPTIONAL:
        raise ConfigError(
            f"labels is 'none', but method '{method.name}' learns from labels: "
            "set --labels folders or --labels csv"
        )


def _check_no_adversarial_settings(config: Config, *, resumes: bool) -> None:
    """Raises ConfigError if a setting changes the adversarial loss.

    Called for methods without `takes_adversarial_settings`. resumes: as for `check_config`.
    """
    names = [f.name for f in dataclasses.fields(config.adversarial)]
    for name in names if resumes else [*names, "adversarial_trains"]:
        value, usual = config.value(name), find_field(name)[1].default
        if value != usual:
            raise ConfigError(
                f"{name} is {value}, but method '{config.method.method}' does not take it: leave it at {usual}"
            )


def warnings_of(
    config: Config, *, resumes: bool = False, labels: NDArray[np.int64] | None = None
) -> list[str]:
    """What is probably not meant, though it can be trained: a sentence each.

    config: after `resolved_schedule`. resumes: a run that has taken steps, which keeps most settings. labels: (N,),
    those of all pictures, -1 where unlabelled, if the pictures are known.
    """
    schedule = config.schedule
    names = ("guide_only_until", "average_from", "labelled_only_until", "steps")
    alone, average, labelled, steps = (int(getattr(schedule, name)) for name in names)
    ends = f"but the training ends after step {steps}"
    found = []
    if labels is not None and not resumes:
        found += _warnings_of_pictures(config, labels)
    if alone > steps:
        flags = {"--guide-only-until": alone, "--average-from": average, "--labelled-only-until": labelled}
        # All flags at once, or whoever follows the advice would meet the next warning.
        late = {flag: step for flag, step in flags.items() if step >= steps}
        found.append(
            f"G and D do not train: E trains alone until step {alone} (guide_only_until), {ends}: "
            + _earlier(late, resumes=resumes)
        )
    elif alone < steps <= average:
        found.append(
            f"the saved model is G itself, without its EMA: the EMA of G is a copy of G until step {average} "
            f"(average_from), {ends}: {_earlier({'--average-from': average}, resumes=resumes)}"
        )
    if labelled >= steps:
        found.append(
            f"no unlabelled picture is used: until step {labelled} only labelled ones are (labelled_only_until), "
            f"{ends}: {_earlier({'--labelled-only-until': labelled}, resumes=resumes)}"
        )
    if 0 < average < alone and not resumes:
        found.append(
            f"the EMA of G begins with the weights that G has before it trains: average_from is {average}, when E "
            f"still trains alone (guide_only_until is {alone}): give an --average-from of more than {alone}"
        )
    return found


# For remedies: a usual value of each flag, as a share of all steps.
_USUAL_SHARES = {"--guide-only-until": 0.25, "--average-from": 0.26, "--labelled-only-until": 0.1}


def _earlier(late: dict[str, int], *, resumes: bool) -> str:
    """What to do about flags whose steps are never reached. late: their steps, by flag."""
    if resumes:
        return f"give --steps of more than {max(late.values())}"
    shares = " and ".join(str(_USUAL_SHARES[flag]) for flag in late)
    if len(late) == 1:
        return f"give a smaller {next(iter(late))}, also as a share of all steps, such as {shares}"
    return f"give smaller {' and '.join(late)}, also as shares of all steps, such as {shares}"


def _check_auto(config: Config, why: str = "", *, resumes: bool = False) -> None:
    """Raises ConfigError if `domains` is auto, but the method cannot find their number, or E never trains alone.

    why: why labels do not give the number, as the beginning of a sentence.
    """
    if not method_of(config).finds_number_of_domains:
        raise ConfigError(
            f"{why}domains is auto, but method '{config.method.method}' cannot find the number of domains: give "
            "--domains K"
        )
    if config.schedule.guide_only_until == 0:
        raise ConfigError(
            f"{why}domains is auto, and their number is found when E has trained alone, but guide_only_until is 0: "
            "give --domains K, or let E train alone for some steps"
        )
    alone, steps = config.schedule.guide_only_until, config.schedule.steps
    if alone > steps:
        where, remedy = "", "give --domains K, or lower --guide-only-until"
        if resumes:
            where, remedy = " in this run", f"give --steps {alone} or more"
        raise ConfigError(
            f"{why}domains is auto{where}, and their number is found after step {alone} (guide_only_until), but the "
            f"training ends after step {steps}: {remedy}"
        )


def check_number_of_pictures(config: Config, pictures: int) -> None:
    """Raises DataError, naming each flag to change, if there are fewer pictures than the largest batch takes, or only
    one.
    """
    if pictures == 1:
        raise DataError(
            "there is 1 usable picture, and a training compares pictures: add some (copies of a picture do not count)"
        )
    sizes = {"--batch-size": config.optimisers.batch_size}
    if config.schedule.guide_only_until and config.optimisers.guide_only_batch_size:
        sizes["--guide-only-batch-size"] = config.optimisers.guide_only_batch_size
    wrong = [flag for flag, size in sizes.items() if size > pictures]
    if wrong:
        raise DataError(
            f"there are {pictures} usable pictures, fewer than the batch size {max(sizes.values())}: "
            f"add pictures or lower {' and '.join(wrong)} to at most {pictures}"
        )


def _warnings_of_pictures(config: Config, labels: NDArray[np.int64]) -> list[str]:
    """The warnings of a new run that depend on its pictures. labels: (N,), -1 where unlabelled."""
    found, domains, wanted = [], config.networks.domains, config.data.labels
    if domains != AUTO and domains > len(labels):
        found.append(
            f"there are more domains than pictures ({domains} and {len(labels)}), so some domains must stay empty: "
            "lower --domains, or add pictures"
        )
    if missing := warning_if_unlabelled(labels, wanted):
        found.append(missing)
    elif wanted != "none" and domains == 1:
        found.append(
            "all labels are the same, so there is a single domain, and no other kind to translate into: give labels "
            "of all kinds, or the number of kinds by --domains"
        )
    return found


def check_labels(config: Config, labels: NDArray[np.int64], names: list[str]) -> None:
    """Raises DataError if there are more labels than domains, or labels that the method needs are missing.

    Raises ConfigError if `domains` is auto, no picture has a label, and the number cannot be found.

    labels: (N,), -1 where unlabelled; names: the names of the pictures.
    """
    method = method_of(config)
    classes, domains = int(labels.max(initial=-1)) + 1, config.networks.initial_domains
    if classes > domains:
        raise DataError(
            f"the pictures have {classes} classes, more than the {domains} domains: raise --domains to {classes}"
        )
    if method.labels is Labels.OPTIONAL:
        if not classes and config.networks.domains == AUTO:
            _check_auto(config, "no picture has a label, ")
        return
    unlabelled = (labels < 0).nonzero()[0]
    if len(unlabelled) == len(labels):
        raise DataError(f"no picture has a label, but method '{method.name}' needs some: label a few")
    if method.labels is Labels.ALL and len(unlabelled):
        raise DataError(
            f"{len(unlabelled)} of {len(names)} pictures have no label ({names[unlabelled[0]]} "
            f"is the first), but method '{method.name}' needs all labels: label them or take them out"
        )

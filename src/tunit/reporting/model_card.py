"""A model's card, README.md in its folder: what it was trained on, its domains, figures, limits and use."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunit._version import __version__
from tunit.errors import ConfigError
from tunit.features.feature_networks import NAMES
from tunit.printing import numbered, printable, shown
from tunit.reporting.figure_rows import figure_rows, measured_on

UNKNOWN = "unknown"  # the licence if none is given
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~&!])")
SHOWN_FIGURES = 12


@dataclass(frozen=True)
class CardDomain:
    """One domain on the card."""

    number: int
    name: str  # its label, or "domain 3"
    pictures: int  # how many training pictures gave its average style
    thumbnail: str  # path in the folder; "" if there is none


@dataclass(frozen=True)
class CardFacts:
    """All facts on a card."""

    name: str  # on the hub, "user/name"
    licence: str
    trained_on: str  # the owner's sentence about the training pictures; may be empty
    pictures: int | None  # how many training pictures; None if unknown
    labels: int  # how many labels it was trained with; 0 for none
    image_size: int
    method: str
    source: str  # where the method was published, in Markdown; may be empty
    steps: int
    began: str  # date, or ""
    domains: Sequence[CardDomain]
    evaluation: dict[str, Any] | None  # what `tunit evaluate` wrote
    alarms: Sequence[str]  # alarms that were still on when the training ended
    helper: str = ""  # the feature network that helped to find domains; "" if there was none
    undecided: bool = False  # the training was stopped before its domains were decided


def check_licence(licence: str) -> str:
    """The identifier of a licence, such as "apache-2.0". Raises ConfigError."""
    if not _LICENCE.fullmatch(licence):
        raise ConfigError(
            f"--license is {shown(licence)}: take an identifier in small letters, such as apache-2.0, cc-by-nc-4.0 "
            "or other"
        )
    return licence


def card(facts: CardFacts) -> str:
    """The whole file as text: YAML between lines of hyphens, then Markdown."""
    parts = [
        _metadata(facts),
        f"# {plain(facts.name.rpartition('/')[2])}",
        _lead(facts),
        _training(facts),
        _domains(facts),
        _figures(facts),
        _limits(facts),
        _use(facts),
        _licence(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: object) -> str:
    """Untrusted text for use in Markdown: on one line, with all markup escaped."""
    return _MARKUP.sub(r"\\\1", printable(text))


def _metadata(facts: CardFacts) -> str:
    # A network that was trained on other pictures may have learnt from their labels.
    unsupervised = not facts.labels and facts.helper in ("", "random-vgg16")
    tags = ["tunit", "image-translation", *(["unsupervised"] if unsupervised else []), facts.method]
    lines = [
        f"license: {facts.licence}",
        "library_name: tunit",
        "pipeline_tag: image-to-image",
        f"tags: {json.dumps(list(dict.fromkeys(tags)))}",
    ]
    return "\n".join(("---", *lines, "---"))


def _lead(facts: CardFacts) -> str:
    lines = [
        "This model redraws a picture in the style of another picture, or of a domain, and keeps the pose."
    ]
    if facts.labels:
        lines.append("Labels of its training pictures defined its domains.")
    elif facts.undecided:
        lines.append("Its training was stopped before it had found its domains: those below are provisional.")
    else:
        lines.append("It found the domains below by itself, without labels.")
    if facts.helper:
        lines.append(
            f"In its training, a feature network helped to find what belongs together: {_helper(facts)}."
        )
    if facts.source:
        lines.append(f"Its method is {facts.source}.")
    return " ".join(lines)


def _helper(facts: CardFacts) -> str:
    """The network's name; of one from a file not its path, which may be private."""
    return facts.helper if facts.helper in NAMES else "one from a file"


def _training(facts: CardFacts) -> str:
    what = (
        numbered(facts.pictures, "picture") if facts.pictures is not None else "An unknown number of pictures"
    )
    how = f"with labels of {numbered(facts.labels, 'kind')}" if facts.labels else "without labels"
    when = f", begun on {facts.began}" if facts.began else ""
    lines = [plain(facts.trained_on)] if facts.trained_on else []
    lines.append(
        f"{what} at {facts.image_size} x {facts.image_size} pixels, {how}; {numbered(facts.steps, 'step')} of the "
        f"method {plain(facts.method)}{when}, by tunit {__version__}."
    )
    return "## What it was trained on\n\n" + "\n\n".join(lines)


def _domains(facts: CardFacts) -> str:
    shows = any(domain.thumbnail for domain in facts.domains)
    lead = "Give the number as `domain=`. `pictures`: how many training pictures gave the domain's average style."
    if shows:
        lead += (
            " Upper row: typical training pictures. Lower row: training pictures, the same for all domains, redrawn "
            "in the domain's average style."
        )
    rows = [
        "| domain | name | pictures |" + (" |" if shows else ""),
        "|---|---|---|" + ("---|" if shows else ""),
    ]
    for domain in facts.domains:
        row = f"| {domain.number} | {plain(domain.name)} | {domain.pictures:,} |"
        if shows:
            alt = f"pictures of {plain(domain.name)}"
            row += f" ![{alt}]({domain.thumbnail}) |" if domain.thumbnail else " |"
        rows.append(row)
    return f"## Domains\n\n{lead}\n\n" + "\n".join(rows)


def _figures(facts: CardFacts) -> str:
    found = facts.evaluation
    if found is None or not found["figures"]:
        return "## Figures\n\nIt was not evaluated. `tunit evaluate` measures a run on held-back pictures."
    rows = ["| figure | value | 95 % interval |", "|---|---|---|"]
    for name, value, interval, _ in figure_rows(found["figures"])[:SHOWN_FIGURES]:
        rows.append(f"| {plain(name)} | {value} | {f'{interval} ' if interval else ''}|")
    network = plain(_kind_of_network(str(found.get("features") or "none")))
    step = found.get("step")
    after = f" after step {step:,}" if isinstance(step, int) else ""
    lead = (
        f"By `tunit evaluate` on {plain(measured_on(found))}{after}. Feature network: {network}; figures of other "
        "networks cannot be compared with these."
    )
    return f"## Figures\n\n{lead}\n\n" + "\n".join(rows)


def _kind_of_network(name: str) -> str:
    """The name of a feature network; of one from a file only its kind and its hash, not the name of the file."""
    if name in ("none", "random-vgg16", "dinov2", "inception (clean)", "inception (legacy)"):
        return name
    kind = re.match(r"moco-v2|inception \((?:clean|legacy)\)", name)
    digest = re.search(r" ([0-9a-f]+)\)?$", name)
    return f"{kind[0] if kind else 'another'} from a file" + (f" ({digest[1]})" if digest else "")


def _limits(facts: CardFacts) -> str:
    lines = [
        "It works for pictures like those of its training; for other pictures, results may be poor.",
        f"It reads and draws {facts.image_size} x {facts.image_size} pixels; larger results are enlarged.",
    ]
    if not facts.labels and not facts.undecided:
        lines.append("It found its domains by itself: they need not be the kinds that a person would name.")
    empty = [str(domain.number) for domain in facts.domains if not domain.pictures]
    if len(empty) == 1:
        lines.append(f"Domain {empty[0]} has no average style: `pictures` is 0.")
    elif empty:
        lines.append(f"Domains {', '.join(empty)} have no average styles: `pictures` is 0.")
    if facts.evaluation is None:
        lines.append("The quality of its translations was not measured.")
    lines += [f"Alarm of its training: {plain(alarm)}." for alarm in facts.alarms]
    lines.append(
        "Such models can forge faces and signatures: state that a picture was redrawn when you show it."
    )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _use(facts: CardFacts) -> str:
    filled = next((domain.number for domain in facts.domains if domain.pictures), 0)
    return (
        "## How to load it\n\n"
        '```\npip install "tunit[hub]"\n```\n\n'
        "```python\nfrom tunit import Translator\n\n"
        f"translator = Translator.load({json.dumps(facts.name)})\n"
        'picture = translator.translate("me.jpg", reference="other.jpg")\n'
        f'picture = translator.translate("me.jpg", domain={filled})\n```\n\n'
        "Without the hub, give `Translator.load` the folder with `model.safetensors`. Only that file and JSON files "
        "are read, and no code in them is run."
    )


def _licence(facts: CardFacts) -> str:
    if facts.licence == UNKNOWN:
        return "## Licence\n\nNone was given: ask the owner before you use the model. tunit itself is Apache-2.0."
    return f"## Licence\n\nOf the model: {facts.licence}. tunit itself is Apache-2.0."

"""The domains into which `tunit translate` redraws, by number or by label, and the choice of sources by label."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tunit.commands.picture_arguments import in_reading_order
from tunit.printing import numbered, remark

if TYPE_CHECKING:
    from tunit.data.finding.found import PictureSource
    from tunit.translation.inputs import Report
    from tunit.translation.translator import Translator

ALL = "all"


def target_domains(args: argparse.Namespace, translator: "Translator") -> list[int]:
    """The domains that --domain or --to-label asks for; empty if references give the style."""
    if args.to_label:
        return [domain_of_label(args.to_label, args.model, translator)]
    return [] if args.domain is None else _domains(args.domain, translator)


def _domains(written: str, translator: "Translator") -> list[int]:
    """The domains that --domain asks for."""
    from tunit.errors import ConfigError

    if written != ALL:
        try:
            return [int(written)]
        except ValueError:
            last = translator.number_of_domains - 1
            raise ConfigError(f"--domain is {written!r}: take a number from 0 to {last}, or {ALL}") from None
    sizes = translator.domain_sizes
    filled = [k for k, size in enumerate(sizes) if size]
    if filled and len(filled) < len(sizes):
        empty = ", ".join(str(k) for k, size in enumerate(sizes) if not size)
        remark(
            f"none of the {sum(sizes):,} training pictures that gave the average styles is in these domains, so "
            f"there is nothing to translate into: {empty}"
        )
    return filled or [0]  # if all are empty, domain 0 leads to an error that says what to do


def domain_of_label(label: str, run: Path, translator: "Translator") -> int:
    """The domain of a label: labels are numbered in the order of their names, as in training."""
    from tunit.errors import ConfigError
    from tunit.training.run_folder import label_names

    names = label_names(run)
    if not names:
        raise ConfigError(
            f"{run} was trained without labels, so it has no label {label!r}: use --domain or --reference"
        )
    if label not in names or names.index(label) >= translator.number_of_domains:
        raise ConfigError(f"label {label!r} is not among those of {run}: take one of {', '.join(names)}")
    return names.index(label)


def sources_of_domain(
    translator: "Translator", sources: "list[PictureSource]", domain: int, report: "Report | None"
) -> "list[PictureSource]":
    """The sources that the model assigns to one domain, in their order. Raises ConfigError if it assigns none."""
    from tunit.errors import ConfigError, DataError
    from tunit.methods.registry import method_of

    method = method_of(translator.model.config)
    if not method.learns_domains:
        raise ConfigError(
            "--from-label chooses sources by the label that the model assigns, but a model of method "
            f"'{method.name}' assigns none: leave out --from-label, and give only sources of that label"
        )
    kept, others = set(), 0  # a source that cannot be read is neither
    for batch, _, guidance in translator.guided(iter(in_reading_order(sources)), report=report):
        of_label = (guidance.logits.argmax(1) == domain).tolist()
        kept |= {source for source, is_kept in zip(batch, of_label, strict=True) if is_kept}
        others += of_label.count(False)
    if others and not kept:
        raise DataError(
            "the model assigns the label of --from-label to none of the sources: give another label, or leave out "
            "--from-label to translate all sources"
        )
    if others:
        remark(
            f"left out, because E assigns them other labels: {others:,} of {numbered(len(sources), 'source')}"
        )
    return [source for source in sources if source in kept]

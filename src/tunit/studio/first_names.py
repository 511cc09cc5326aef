"""The names with which the domains of a run begin: the labels that it was trained with.

In a training with labels, the number of a label is that of its domain (see `label_names`).
"""

import re
import unicodedata
from collections.abc import Sequence

from tunit.files.reading import Record, UnreadableError
from tunit.printing import printable


def unnamed(domain: int) -> str:
    """The label of a domain without a name."""
    return f"domain {domain:03d}"


def names_of_labels(labels: Sequence[str]) -> list[str]:
    """The name of each label's domain, as if a person had given it; "" if it has none.

    Labels may be names of folders, with any character; those that cannot be shown, or sent to a page, are escaped. A
    label such as "domain 003", made by `unnamed` when a taught run was trained further, does not count as a name: in
    the earlier run this domain may have had another number.
    """
    names: list[str] = []
    for label in labels:
        name = unicodedata.normalize("NFC", " ".join(printable(label).split()))
        is_name = name not in names and not re.fullmatch(r"domain [0-9]{3,}", name)
        names.append(name if is_name else "")
    return names


def noted_names(begin: Record, domains: int) -> list[str]:
    """The first names of the domains, from the first entry of a journal; empty if it is an older one, without them.

    Raises UnreadableError.
    """
    if "names" not in begin.values:
        return []
    names = begin.texts("names")
    if len(names) != domains or any(name != printable(name) for name in names):
        raise UnreadableError(f"names of {begin.name} are not those of {domains} domains")
    return names

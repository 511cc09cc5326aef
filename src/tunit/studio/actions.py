"""What people decide about domains, as actions, and the state that results from a list of actions.

An action is a JSON object with `do`, one of:

  name      {domain, name}            "" removes the name
  add       {name}                    a new, empty domain
  merge     {domains, into}           `domains` become a part of `into`
  split     {domain, part}            the pictures of `part` become a new domain
  give      {pictures, domain}        a person assigns them to the domain
  leave_out {pictures}                a person decides that they belong to no domain
  forget    {pictures}                removes what a person decided about them

or "undo", which takes back the last action in effect, or "redo", which repeats the last action that was undone.
Pictures are given by their places, from 0, among those that E has looked at (`ModelOutput` in labels.py), which may
be a part of the run's pack. A domain keeps its number for ever; a new domain gets the next free number.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunit.errors import ConfigError
from tunit.printing import printable, shown

LONGEST_NAME = 60
MOST_DOMAINS = 1000
Action = dict[str, Any]


@dataclass
class DomainAssignment:
    """The state after some actions."""

    pictures: int
    found: Sequence[int]  # (pictures,) the domain that the model assigns
    names: dict[int, str]  # of every existing domain; "" if it has no name
    merged: dict[int, int] = field(default_factory=dict)  # merged domain -> the one that it belongs to now
    moved: dict[int, int] = field(default_factory=dict)  # picture -> domain, by splits
    given: dict[int, int] = field(default_factory=dict)  # picture -> domain, by a person
    left_out: set[int] = field(default_factory=set)
    next_domain: int = 0  # the number of the next new domain

    def domain_of(self, picture: int) -> int:
        """The domain of a picture that is not left out."""
        domain = self.given.get(picture, self.moved.get(picture, self.found[picture]))
        while domain in self.merged:
            domain = self.merged[domain]
        return domain

    def members(self) -> dict[int, list[int]]:
        """The pictures of every domain, in ascending order."""
        found: dict[int, list[int]] = {domain: [] for domain in self.names}
        for picture in range(self.pictures):
            if picture not in self.left_out:
                found[self.domain_of(picture)].append(picture)
        return found

    def label(self, domain: int) -> str:
        """The domain's name, or a name made from its number. Such names sort in the order of the numbers."""
        return self.names[domain] or unnamed(domain)


def unnamed(domain: int) -> str:
    """The label of a domain without a name."""
    return f"domain {domain:03d}"


def first_assignment(found: Sequence[int], domains: int) -> DomainAssignment:
    """The state before any action: what the model found."""
    return DomainAssignment(len(found), found, dict.fromkeys(range(domains), ""), next_domain=domains)


def assignment_after(found: Sequence[int], domains: int, actions: Iterable[Action]) -> DomainAssignment:
    """The state after some actions, each of which `checked` has accepted.

    Each is checked again, because its file may have been damaged since: domains merged in a circle, for example,
    would never let `domain_of` end. Raises ConfigError for an impossible action, or KeyError, IndexError or
    TypeError.
    """
    assignment = first_assignment(found, domains)
    for action in actions_in_effect(actions)[0]:
        possible = checked(action, assignment, 0, 0)  # no action in effect is an undo or a redo
        _APPLY[possible["do"]](assignment, possible)
    return assignment


def actions_in_effect(actions: Iterable[Action]) -> tuple[list[Action], list[Action]]:
    """(actions in effect, undone actions that may be redone). The last undone action is the next one to redo."""
    done: list[Action] = []
    undone: list[Action] = []
    for action in actions:
        if action["do"] == "undo":
            undone.append(done.pop())
        elif action["do"] == "redo":
            done.append(undone.pop())
        else:
            done.append(action)
            undone.clear()
    return done, undone


# ---- applying an action ----


def _name(assignment: DomainAssignment, action: Action) -> None:
    assignment.names[action["domain"]] = action["name"]


def _new_domain(assignment: DomainAssignment, name: str) -> int:
    number = assignment.next_domain
    assignment.names[number] = name
    assignment.next_domain += 1
    return number


def _add(assignment: DomainAssignment, action: Action) -> None:
    _new_domain(assignment, action["name"])


def _merge(assignment: DomainAssignment, action: Action) -> None:
    for domain in action["domains"]:
        assignment.merged[domain] = action["into"]
        name = assignment.names.pop(domain)
        assignment.names[action["into"]] = assignment.names[action["into"]] or name


def _split(assignment: DomainAssignment, action: Action) -> None:
    new = _new_domain(assignment, "")
    for picture in action["part"]:
        where = assignment.given if picture in assignment.given else assignment.moved
        where[picture] = new


def _give(assignment: DomainAssignment, action: Action) -> None:
    for picture in action["pictures"]:
        assignment.given[picture] = action["domain"]
        assignment.left_out.discard(picture)


def _leave_out(assignment: DomainAssignment, action: Action) -> None:
    for picture in action["pictures"]:
        assignment.given.pop(picture, None)
        assignment.left_out.add(picture)


def _forget(assignment: DomainAssignment, action: Action) -> None:
    for picture in action["pictures"]:
        assignment.given.pop(picture, None)
        assignment.left_out.discard(picture)


_APPLY = {
    "name": _name,
    "add": _add,
    "merge": _merge,
    "split": _split,
    "give": _give,
    "leave_out": _leave_out,
    "forget": _forget,
}


# ---- checking an action ----


def with_composed_name(action: Action) -> Action:
    """The action with each accent of its name in one character with its letter, as nearly all keyboards write it.

    Otherwise two names that look the same would differ. Entries of a journal are left as they are: an older one may
    hold two such names.
    """
    name = action.get("name")
    return action | {"name": unicodedata.normalize("NFC", name)} if isinstance(name, str) else action


def checked(action: Action, assignment: DomainAssignment, done: int, undone: int) -> Action:
    """The action with its values normalised. Raises ConfigError if it is not possible now.

    done, undone: how many actions can be undone, and redone.
    """
    what = action.get("do")
    if what == "undo" and not done:
        raise ConfigError("there is nothing to undo: no action has been done yet")
    if what == "redo" and not undone:
        raise ConfigError("there is nothing to redo: no action has been undone")
    if what in ("undo", "redo"):
        return {"do": what}
    if what == "name":
        return {
            "do": what,
            "domain": _domain(action, "domain", assignment),
            "name": _new_name(action, assignment),
        }
    if what == "add":
        _room(assignment)
        name = _new_name(action, assignment)
        return {"do": what, "name": name}
    if what == "merge":
        return _checked_merge(action, assignment)
    if what == "split":
        _room(assignment)
        return {
            "do": what,
            "domain": _domain(action, "domain", assignment),
            "part": _pictures(action, "part", assignment),
        }
    if what == "give":
        pictures = _pictures(action, "pictures", assignment)
        return {"do": what, "pictures": pictures, "domain": _domain(action, "domain", assignment)}
    if what in ("leave_out", "forget"):
        return {"do": what, "pictures": _pictures(action, "pictures", assignment)}
    raise ConfigError(f"{shown(what)} is not an action: take one of {', '.join(_APPLY)}, undo, redo")


def _checked_merge(action: Action, assignment: DomainAssignment) -> Action:
    into, given = _domain(action, "into", assignment), action.get("domains")
    if not isinstance(given, list):
        raise ConfigError("domains is not a list: give the numbers of the domains to merge")
    domains = sorted(
        {_domain({"domain": one}, "domain", assignment) for one in given[:MOST_DOMAINS]} - {into}
    )
    if not domains:
        raise ConfigError("one domain alone cannot be merged: choose two or more")
    return {"do": "merge", "domains": domains, "into": into}


def _room(assignment: DomainAssignment) -> None:
    if len(assignment.names) >= MOST_DOMAINS:
        raise ConfigError(f"there are {MOST_DOMAINS} domains already: merge some first")


def _domain(action: Action, field: str, assignment: DomainAssignment) -> int:
    value = action.get(field)
    if type(value) is not int or value not in assignment.names:
        raise ConfigError(f"there is no domain {shown(value)}: choose one of the domains shown")
    return value


def _pictures(action: Action, field: str, assignment: DomainAssignment) -> list[int]:
    value = action.get(field)
    if not isinstance(value, list) or not all(type(i) is int and 0 <= i < assignment.pictures for i in value):
        raise ConfigError(
            f"{field} must be numbers of pictures from 0 to {assignment.pictures - 1}: select some"
        )
    if not value:
        raise ConfigError("no picture is selected: select at least one")
    return sorted(set(value))


def _new_name(action: Action, assignment: DomainAssignment) -> str:
    name = action.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"name is {shown(name)}: give a text")
    name = " ".join(name.split())
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"the name has {len(name)} letters: give at most {LONGEST_NAME}")
    if printable(name) != name:
        raise ConfigError(f"the name {shown(name)} contains a character that cannot be shown: leave it out")
    if re.fullmatch(r"domain \d+", name, re.IGNORECASE):
        raise ConfigError(f"{name!r} is reserved for domains without a name: take another")
    own = action.get("domain") if action["do"] == "name" else None
    for domain in assignment.names:
        if domain != own and name and name.casefold() == assignment.names[domain].casefold():
            raise ConfigError(
                f"{name!r} is the name of domain {domain} already: take another, or merge the two"
            )
    return name

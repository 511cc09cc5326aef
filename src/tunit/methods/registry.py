"""All known methods, by name.

tunit's own are listed here. The module of another method calls `register`. tunit finds that module through an entry
point of the group `tunit.methods` in an installed package, or through the environment variable TUNIT_PLUGINS
(docs/methods.md).
"""

from dataclasses import fields

from tunit.config import Config, all_fields
from tunit.config.config import section_types
from tunit.config.methods import METHODS, PLUGINS, add_method, load_installed_methods
from tunit.methods.clustering_objectives import clustering_objectives
from tunit.methods.funit import FUNIT
from tunit.methods.method import Method
from tunit.methods.semit import SEMIT
from tunit.methods.tunit import TUNIT

__all__ = ["PLUGINS", "method_of", "methods", "modules_of_methods", "register", "unregister"]

_methods = {method.name: method for method in (TUNIT, FUNIT, SEMIT)}


def register(method: Method) -> Method:
    """Register a method: from now on `--method NAME` and its own settings exist. Returns the method.

    Raises ConfigError if its name, or the name of one of its settings or sections, is taken.
    """
    add_method(method.name, method.settings, {*section_types(), *all_fields()})
    _methods[method.name] = method
    return method


def unregister(name: str) -> None:
    """Forget a registered method, for tests and notebooks that define it again."""
    del METHODS[name], _methods[name]


def modules_of_methods() -> list[str]:
    """The modules other than tunit's own in which something of a method, or a clustering objective, is defined;
    importing them registers it.

    A method may share parts, such as its step, with those of tunit.
    """
    parts = [getattr(method, part.name) for method in _methods.values() for part in fields(method)]
    parts += [objective.value for objective in clustering_objectives()]
    functions = [getattr(part, "func", part) for part in parts if callable(part)]  # a partial has `func`
    sections = [section for method in _methods.values() for section in method.settings.values()]
    modules = {defined.__module__ for defined in (*functions, *sections)}
    return sorted(name for name in modules if not f"{name}.".startswith("tunit."))


def method_of(config: Config) -> Method:
    """The method that a config names."""
    load_installed_methods()
    return _methods[config.method.method]


def methods() -> list[Method]:
    """All known methods."""
    load_installed_methods()
    return list(_methods.values())

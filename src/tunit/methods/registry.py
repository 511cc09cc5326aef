"""The methods that there are, by name.

tunit's own are listed here. One of your own calls `register` where it is defined; a package makes its method known
wherever it is installed by an entry point of the group `tunit.methods` that names the defining module, or wherever
the variable TUNIT_PLUGINS of the environment names that module (docs/methods.md).
"""

from tunit.config import Config, all_fields
from tunit.config.config import section_types
from tunit.config.methods import METHODS, PLUGINS, add_method, load_installed_methods
from tunit.methods.funit import FUNIT
from tunit.methods.method import Method
from tunit.methods.semit import SEMIT
from tunit.methods.tunit import TUNIT

__all__ = ["PLUGINS", "method_of", "methods", "modules_of_methods", "register", "unregister"]

_methods = {method.name: method for method in (TUNIT, FUNIT, SEMIT)}


def register(method: Method) -> Method:
    """Make a method known: `--method NAME` and its own settings are there from now on. Returns it.

    Raises ConfigError where its name, or that of one of its settings or sections, is taken.
    """
    add_method(method.name, method.settings, {*section_types(), *all_fields()})
    _methods[method.name] = method
    return method


def unregister(name: str) -> None:
    """Forget a method that was registered, for tests and notebooks that define one anew."""
    del METHODS[name], _methods[name]


def modules_of_methods() -> list[str]:
    """The modules that define the methods that are not tunit's own; importing them makes the methods known."""
    own = {method.step.__module__ for method in (TUNIT, FUNIT, SEMIT)}
    return sorted({method.step.__module__ for method in _methods.values()} - own)


def method_of(config: Config) -> Method:
    """The method that a config names."""
    load_installed_methods()
    return _methods[config.method.method]


def methods() -> list[Method]:
    """All of them."""
    load_installed_methods()
    return list(_methods.values())

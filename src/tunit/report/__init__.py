"""The report of a run: one HTML page of what was found.

`tunit.report` is this package, and a function of the public API: `tunit.report("runs/mine")` is `write_report`.
"""

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """A package that is called by the name of its main function, which its import would hide otherwise."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        from tunit.report.write import write_report

        return write_report(*args, **named)


sys.modules[__name__].__class__ = _CallableModule

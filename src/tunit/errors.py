"""The errors that tunit raises for what a user can mend.

Each message is one sentence: the thing, its value, the remedy. The command line prints it and exits with 2.
"""

from tunit.printing import printable


class StopNow(KeyboardInterrupt):
    """The user asked to stop at once: by a second signal, or a first one where nothing has to be saved."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class TunitError(Exception):
    """Anything that the user can mend; the base of all errors below. Names in its message are made printable."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(part) if isinstance(part, str) else part for part in args))


class ConfigError(TunitError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class DataError(TunitError):
    """The pictures cannot be found, read or used as asked."""


class RunError(TunitError):
    """A run folder is missing, incomplete, damaged, or in the way."""


class TrainingError(TunitError):
    """Training cannot go on, such as at a non-finite loss."""


class NonFiniteError(TrainingError):
    """A loss, a gradient, a weight or a picture is not a number, or not finite, at `step` (the first is 1)."""

    def __init__(self, what: str, step: int, sentence: str) -> None:
        super().__init__(sentence)
        self.what = what
        self.step = step


class SaidElsewhere(TunitError):
    """Another process has said all that there is to say; this one ends with `exit_code`, without a word."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(
            f"the processes that train together ended with exit code {exit_code}; one of them said why"
        )
        self.exit_code = exit_code

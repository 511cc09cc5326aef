"""The errors that tunit raises for problems that a user can correct.

Each message is one sentence: the thing, its value, and the remedy or the values to choose from. The command line
prints it and exits with 2.
"""

from tunit.printing import in_sentence

LONGEST = 3000  # characters of a message: it may quote a file, and be as long as the file


class StopNow(KeyboardInterrupt):
    """The user asked to stop at once: by a second signal, or by a first one while there is nothing to save."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def reason_of(error: OSError) -> str:
    """The system's own text for an error, without numbers and file names."""
    return error.strerror or str(error) or type(error).__name__


class TunitError(Exception):
    """Any problem that the user can correct; the base of all errors below. Messages are printable, and bounded."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(_bounded(in_sentence(part)) if isinstance(part, str) else part for part in args))


def _bounded(text: str) -> str:
    """The text. A very long one loses its middle: the thing is named at the start, the remedy at the end."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1000]} ... {text[-900:]}"


class ConfigError(TunitError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class DataError(TunitError):
    """The pictures cannot be found, read or used as asked."""


class StoreError(DataError):
    """A folder or store of pictures cannot be used: `what` says which and why, `remedy` what helps.

    advice: the whole remedy where nothing has begun yet; a training names its own last step instead.
    """

    def __init__(self, what: str, remedy: str, advice: str = "") -> None:
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}: {advice or remedy}")


class RunError(TunitError):
    """A run folder is missing, incomplete, damaged, or in the way."""


class TrainingError(TunitError):
    """Training cannot continue, for example because of a non-finite loss."""


class NonFiniteError(TrainingError):
    """A value of a loss, gradient, weight or picture is infinite or NaN, at `step` (the first is 1)."""

    def __init__(self, what: str, step: int, sentence: str) -> None:
        super().__init__(sentence)
        self.what = what
        self.step = step
        self.step_not_taken = False  # the step was not taken, because its batch is wrong


class EndedInOtherProcesses(TunitError):
    """The work was done, or failed, in other processes, which have printed all there is to say.

    This process ends with their `exit_code`, without a message. It is raised on success, too: then `exit_code` is 0.
    """

    def __init__(self, exit_code: int) -> None:
        why = "; one of them printed why" if exit_code else ""
        super().__init__(f"the processes that train together ended with exit code {exit_code}{why}")
        self.exit_code = exit_code

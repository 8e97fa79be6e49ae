"""Exceptions for what a user can mend."""

_LONGEST = 3000  # characters of a message
_KEPT_OF_END = 600  # which says what to do


class UserError(Exception):
    """What the user gave is wrong; the message says what, and what to do, in one line.

    The command line prints the message alone and exits with `exit_code`. Everything else that is
    raised is a defect of this package and keeps its traceback.

    What is quoted in it may be a stranger's, and as long as a file: of a long message the middle is
    left out.

    Attributes:
        exit_code: status that the command line exits with.
    """

    exit_code = 1

    def __init__(self, message: str):
        super().__init__(_shortened(message))


class DivergedError(UserError):
    """Training ended in numbers that are not finite; the message names the step.

    Attributes:
        what: the part of the message that says what is not finite.
        step: the step that it was found at.
    """

    def __init__(self, message: str, *, what: str = "", step: int = 0):
        super().__init__(message)
        self.what = what
        self.step = step


class CannotWriteError(UserError):
    """A file cannot be written; the message names it.

    Attributes:
        is_full: whether the disk is full, so that it can be once there is room.
    """

    def __init__(self, message: str, *, is_full: bool):
        super().__init__(message)
        self.is_full = is_full


class InUseError(UserError):
    """Another process works in the folder; the message names it."""


class PartialError(UserError):
    """All was done but for what could not be used; the message says how much, and where to look."""

    exit_code = 3


class StoppedError(UserError):
    """A signal asked to stop; what was done is kept, and the message says what comes next.

    Attributes:
        exit_code: 128 and the signal's number, as shells have it: 143 for SIGTERM, 130 for Ctrl-C.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def _shortened(message: str) -> str:
    if len(message) <= _LONGEST:
        return message
    return f"{message[: _LONGEST - _KEPT_OF_END]} … {message[-_KEPT_OF_END:]}"

"""Exceptions for what a user can mend."""


class UserError(Exception):
    """What the user gave is wrong; the message says what, and what to do, in one line.

    The command line prints the message alone and exits with status `exit_code`. Everything else
    that is raised is a defect of this package and keeps its traceback.
    """

    exit_code = 1


class DivergedError(UserError):
    """Training ended in numbers that are not finite; the message names the step."""


class PartialError(UserError):
    """All was done but for what could not be used; the message says how much, and where to look."""

    exit_code = 3


class StoppedError(UserError):
    """A signal asked to stop; the message says what was done, and what is kept.

    The status is what shells give a command that the signal ends: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, message: str, *, number: int = signal.SIGINT):
        super().__init__(message)
        self.exit_code = 128 + number

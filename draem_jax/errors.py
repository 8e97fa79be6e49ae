"""Exceptions for what a user can mend."""


class UserError(Exception):
    """What the user gave is wrong; the message says what, and what to do, in one line.

    The command line prints the message alone and exits with status 1. Everything else that is
    raised is a defect of this package and keeps its traceback.
    """


class DivergedError(UserError):
    """Training ended in numbers that are not finite; the message names the step."""

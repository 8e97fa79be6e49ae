"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """What the user gave is wrong; the message says what, and what to do, in one line.

    The command line prints the message alone and exits with status 1. Everything else that is
    raised is a defect of this package and keeps its traceback.
    """

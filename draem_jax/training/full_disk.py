"""What a run does where the disk is full: it stops, or goes on and says what it could not write."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from draem_jax.errors import CannotWriteError

AGAIN = ", and the same command goes on"
"""What follows in the message of a run that stopped."""

_LOG = logging.getLogger("draem_jax")


@dataclass(frozen=True)
class FullDisk:
    """What becomes of a run where the disk is full.

    Attributes:
        policy: "stop" ends it; "go_on" tells what could not be written and goes on.
    """

    policy: str = "stop"

    def is_borne(self, error: CannotWriteError) -> bool:
        """Whether the run goes on in spite of an error."""
        return error.is_full and self.policy == "go_on"

    @contextmanager
    def borne(self, then: str) -> Iterator[None]:
        """Goes on where the disk is full, if that is wanted, and says so in one line.

        Args:
            then: what the run does about it, for the line.

        Raises:
            CannotWriteError: otherwise.
        """
        try:
            yield
        except CannotWriteError as error:
            if not self.is_borne(error):
                raise stopped(error) from error
            _LOG.warning(f"{error}; {then}")


def stopped(error: CannotWriteError) -> CannotWriteError:
    """The error, saying of a run that it can be gone on with once there is room."""
    if not error.is_full or str(error).endswith(AGAIN):
        return error
    return CannotWriteError(f"{error}{AGAIN}", is_full=True)

"""One sample's computation for a whole batch."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from draem_jax.platforms import by_platform


def map_samples(function: Callable[..., Any], *batches: Any) -> Any:
    """Applies a function of single samples along the leading axis of all arguments.

    Under `vmap`, every branch of a `switch` is computed. Accelerators have the room for that; CPUs
    are faster with one sample after the other and the branches that are not taken left out.
    """

    def one_by_one(*arrays: Any) -> Any:
        return lax.map(lambda sample: function(*sample), arrays)

    return by_platform(
        *batches,
        cpu=one_by_one,
        default=lambda *arrays: jax.vmap(function)(*arrays),
    )

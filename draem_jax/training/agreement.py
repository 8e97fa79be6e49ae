"""What processes that train together must have the same of, before the first step."""

import jax
import numpy as np
from ml_collections import ConfigDict

import draem_jax
from draem_jax.config import flat
from draem_jax.hosts.joining import count
from draem_jax.hosts.talking import agree
from draem_jax.training.checkpoints import digest_of
from draem_jax.training.state import TrainState


def agree_on_run(config: ConfigDict) -> None:
    """Makes sure that all processes are to make the same run, in the same way.

    Args:
        config: of the run, with absolute paths.

    Raises:
        UserError: in all processes, that one of them differs.
    """
    if count() == 1:
        return
    devices = jax.local_devices()
    agree(
        {
            "the version of draem_jax": draem_jax.__version__,
            "the version of jax": jax.__version__,
            "the version of numpy": np.__version__,
            "the kind of devices": devices[0].device_kind,
            "the number of devices": len(devices),
        }
        | {f"config.{name}": repr(value) for name, value in flat(config)}
    )


def agree_on_state(state: TrainState) -> None:
    """Makes sure that all processes begin with the same arrays, bit for bit.

    Raises:
        UserError: in all processes, that one of them differs.
    """
    if count() > 1:
        agree({f"the digest of all parameters at step {int(state.step)}": digest_of(state)})

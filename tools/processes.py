"""`draem-jax` of which each process keeps what it compiles, so that all start soon the next time.

    python -m tools.processes train --coordinator=… --processes=2 --process=1 …

JAX lets the first process alone keep programs, and on CPUs another one cannot load them.
"""

import sys
from types import SimpleNamespace

from jax._src import compiler, distributed

from draem_jax.__main__ import main


def keep_in_all_processes() -> None:
    """Lets JAX keep what it compiles in this process, whichever of several it is."""
    seen = SimpleNamespace(process_id=0, client=distributed.global_state.client)
    compiler.distributed = SimpleNamespace(global_state=seen)  # type: ignore[assignment]


if __name__ == "__main__":
    keep_in_all_processes()
    sys.exit(main())

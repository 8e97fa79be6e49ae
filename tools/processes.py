"""Processes that work together, as tools and tests start them.

    python -m tools.processes train --coordinator=… --processes=2 --process=1 …

is `draem-jax` of which each process keeps what it compiles, so that all start soon the next time.
JAX lets the first process alone keep programs, and on CPUs another one cannot load them.
"""

import socket
import sys
from pathlib import Path
from types import SimpleNamespace

from jax._src import compiler, distributed
from ml_collections import ConfigDict

from draem_jax.__main__ import main
from draem_jax.config import to_json

_RECIPE = """from pathlib import Path
from draem_jax.config import from_json

def get_config():
    return from_json(Path(__file__).with_suffix(".json"))
"""


def keep_in_all_processes() -> None:
    """Lets JAX keep what it compiles in this process, whichever of several it is."""
    seen = SimpleNamespace(process_id=0, client=distributed.global_state.client)
    compiler.distributed = SimpleNamespace(global_state=seen)  # type: ignore[assignment]


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def write_recipe(path: Path, config: ConfigDict) -> Path:
    """Writes a config as a recipe for --config; returns the path, which must end in .py."""
    path.with_suffix(".json").write_text(to_json(config))
    path.write_text(_RECIPE)
    return path


def own_lines(said: str) -> list[str]:
    """The lines that are the program's own, of what a process printed.

    Raises:
        AssertionError: there is a traceback, or a stack trace of native code.
    """
    assert not any(word in said for word in ("Traceback", "stack trace")), said
    return [line for line in said.splitlines() if line.startswith("draem-jax: ")]


if __name__ == "__main__":
    keep_in_all_processes()
    sys.exit(main())

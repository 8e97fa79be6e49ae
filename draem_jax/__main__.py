"""`python -m draem_jax` is `draem-jax`."""

import gc
import sys
import traceback

from draem_jax.hosts.joining import count, end
from draem_jax.large_pages import use_large_pages


def main() -> int:
    """Runs the command line as the process's own program; returns the exit status."""
    use_large_pages()
    from draem_jax.cli import main

    try:
        status = main()
    except BaseException:
        if count() > 1:
            traceback.print_exc()
            end(1)
        raise
    end(status)  # where other processes have not been left, but failed
    # As it ends, Python looks for garbage among all that the process still holds, which takes a
    # fifth of a short command. What is frozen is left out, and goes with the process.
    gc.freeze()
    return status


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `draem-jax VERB --flag=value …`."""

import sys

try:
    from draem_jax.cli.main import main
except KeyboardInterrupt:  # which `main` cannot catch yet
    print("draem-jax: interrupted", file=sys.stderr)
    sys.exit(130)

__all__ = ["main"]

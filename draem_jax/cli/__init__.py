"""The command line: `draem-jax VERB --flag=value …`."""

from draem_jax.cli.main import main

__all__ = ["main"]

"""`python -m draem_jax` is `draem-jax`."""

import sys

from draem_jax.large_pages import use_large_pages


def main() -> int:
    """Runs the command line as the process's own program; returns the exit status."""
    use_large_pages()
    from draem_jax.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m draem_jax` is `draem-jax`."""

import sys

from draem_jax.cli import main

sys.exit(main())

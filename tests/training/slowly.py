"""`draem-jax` with steps that take a fifth of a second, so that signals come in between them.

It says that it is of the version that the environment's TEST_VERSION names, and keeps what it
compiles, whichever of several processes it is.

python -m tests.training.slowly VERB --flag=value ...
"""

import os
import sys
import time

import draem_jax
from draem_jax.__main__ import main
from draem_jax.training.log import RunLog
from tools.processes import keep_in_all_processes

if __name__ == "__main__":
    if version := os.environ.get("TEST_VERSION"):
        draem_jax.__version__ = version
    steps = RunLog.steps

    def slow_steps(log, losses):
        time.sleep(0.2)
        steps(log, losses)

    RunLog.steps = slow_steps
    keep_in_all_processes()
    sys.exit(main())

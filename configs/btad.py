"""BTAD, three categories.

    draem-jax data prepare btad --root=DIR_OR_ARCHIVE
    draem-jax train --config=configs/btad.py:01 --workdir=runs/btad/01
    draem-jax benchmark --config=configs/btad.py --workdir=runs/btad

The category is 01 (also when left out), 02 or 03.
The recipe is the authors' code's; `:01,paper` takes the paper's where the two differ, and
`:01,small` or `:01,medium` smaller networks and pictures.
"""

from draem_jax.recipes import benchmark_config


def get_config(choice=""):
    return benchmark_config("btad", choice, default="01")

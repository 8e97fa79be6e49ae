"""DAGM 2007, ten classes with weak labels: ellipses around the defects.

    draem-jax data prepare dagm --root=DIR_OR_ARCHIVE
    draem-jax train --config=configs/dagm.py:Class1 --workdir=runs/dagm/Class1
    draem-jax benchmark --config=configs/dagm.py --workdir=runs/dagm

The category is Class1 (also when left out) to Class10.
The recipe is the authors' code's; `:Class1,paper` takes the paper's where the two differ, and
`:Class1,small` or `:Class1,medium` smaller networks and pictures.
"""

from draem_jax.recipes import benchmark_config


def get_config(choice=""):
    return benchmark_config("dagm", choice, default="Class1")

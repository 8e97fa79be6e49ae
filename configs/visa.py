"""VisA, 12 categories, with its split for one-class training.

    draem-jax data prepare visa --root=DIR_OR_ARCHIVE
    draem-jax train --config=configs/visa.py:candle --workdir=runs/visa/candle
    draem-jax benchmark --config=configs/visa.py --workdir=runs/visa

The category is candle (also when left out), capsules, cashew and so on.
The recipe is the authors' code's; `:candle,paper` takes the paper's where the two differ, and
`:candle,small` or `:candle,medium` smaller networks and pictures.
"""

from draem_jax.recipes import benchmark_config


def get_config(choice=""):
    return benchmark_config("visa", choice, default="candle")

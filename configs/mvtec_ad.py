"""MVTec AD, 15 categories, as in the paper.

    draem-jax data prepare mvtec_ad --root=DIR_OR_ARCHIVE
    draem-jax train --config=configs/mvtec_ad.py:bottle --workdir=runs/mvtec_ad/bottle
    draem-jax benchmark --config=configs/mvtec_ad.py --workdir=runs/mvtec_ad

The category is bottle (also when left out), cable, capsule and so on.
The recipe is the authors' code's; `:bottle,paper` takes the paper's where the two differ,
`:bottle,plus` what docs/better.md found, and `:bottle,small` or `:bottle,medium` smaller networks
and pictures.
"""

from draem_jax.recipes import benchmark_config


def get_config(choice=""):
    return benchmark_config("mvtec_ad", choice, default="bottle")

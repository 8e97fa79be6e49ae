"""Your own pictures: a folder of normal ones is enough.

    draem-jax train --config=configs/folder.py --config.data.root=DIR --workdir=runs/mine
    draem-jax evaluate --workdir=runs/mine

DIR holds pictures, or good/ with pictures, or the layout of MVTec AD (train/good, test/TYPE,
ground_truth/TYPE); or it is a CSV file with the columns path, split, label, type and mask. Without
test pictures, a fifth of the normal ones is kept from training, and evaluation simulates anomalies
on these. `--config.data.image_size=HEIGHT,WIDTH` suits pictures that are not square.

`configs/folder.py:small`, `:medium` and `:full` set the size of pictures and networks and the
length of the training, from some minutes on two CPU cores to the authors' recipe. Where none is
named, the command line takes the size of the run in --workdir, or, for a new one, small on CPUs and
full on accelerators. The recipe is the authors' code's; `:plus` takes what docs/better.md found.
"""

from draem_jax.config import default_config
from draem_jax.recipes import apply_choice

CHOOSES_SIZE = True


def get_config(choice="full"):
    config = default_config()
    config.data.name = "folder"
    config.data.holdout = 0.2
    return apply_choice(config, choice, default="")

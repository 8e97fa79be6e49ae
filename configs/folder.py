"""Your own pictures: a folder of good ones is enough.

    draem-jax train --config=configs/folder.py --config.data.root=DIR --workdir=runs/mine
    draem-jax evaluate --workdir=runs/mine

DIR holds pictures, or good/ with pictures, or the layout of MVTec AD (train/good, test/TYPE,
ground_truth/TYPE); or it is a CSV file with the columns path, split, label, type and mask. Without
test pictures, a fifth of the good ones is kept from training, and evaluation simulates anomalies on
these. `--config.data.image_size=HEIGHT,WIDTH` suits pictures that are not square.
"""

from draem_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "folder"
    config.data.category = ""
    config.data.holdout = 0.2
    return config

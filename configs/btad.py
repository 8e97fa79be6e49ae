"""BTAD, three categories.

    draem-jax data prepare btad --root=DIR_OR_ARCHIVE
    draem-jax train --config=configs/btad.py:01 --workdir=runs/btad/01
    draem-jax benchmark --config=configs/btad.py --workdir=runs/btad

The category is 01 (also when left out), 02 or 03.
The recipe is the authors' code's; `:01,paper` takes the paper's where the two differ.
Anomalies take the built-in textures; for the paper's, the Describable Textures Dataset:

    draem-jax data prepare dtd --root=DIR_OR_ARCHIVE
    draem-jax train … --config.data.texture_source=dtd
"""

from draem_jax.config import apply_choice, default_config


def get_config(choice="01"):
    config = default_config()
    config.data.name = "btad"
    config.data.image_size = (256,)
    # The authors' length: so often as many samples as there are normal pictures.
    config.train.steps = 0
    config.train.epochs = 700
    return apply_choice(config, choice, default="01")

"""DAGM 2007, ten classes with weak labels: ellipses around the defects.

    draem-jax data prepare dagm --root=DIR_OR_ARCHIVE
    draem-jax train --config=configs/dagm.py:Class1 --workdir=runs/dagm/Class1
    draem-jax benchmark --config=configs/dagm.py --workdir=runs/dagm

The category is Class1 (also when left out) to Class10.
The recipe is the authors' code's; `:Class1,paper` takes the paper's where the two differ.
Anomalies take the built-in textures; for the paper's, the Describable Textures Dataset:

    draem-jax data prepare dtd --root=DIR_OR_ARCHIVE
    draem-jax train … --config.data.texture_source=dtd
"""

from draem_jax.config import apply_choice, default_config


def get_config(choice="Class1"):
    config = default_config()
    config.data.name = "dagm"
    config.data.image_size = (256,)
    # The authors' length: so often as many samples as there are normal pictures.
    config.train.steps = 0
    config.train.epochs = 700
    return apply_choice(config, choice, default="Class1")

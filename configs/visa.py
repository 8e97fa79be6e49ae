"""VisA, 12 categories, with its split for one-class training.

    draem-jax data prepare visa --root=DIR_OR_ARCHIVE
    draem-jax train --config=configs/visa.py:candle --workdir=runs/visa/candle
    draem-jax benchmark --config=configs/visa.py --workdir=runs/visa

The category is candle (also when left out), capsules, cashew and so on.
The recipe is the authors' code's; `:candle,paper` takes the paper's where the two differ.
Anomalies take the built-in textures; for the paper's, the Describable Textures Dataset:

    draem-jax data prepare dtd --root=DIR_OR_ARCHIVE
    draem-jax train … --config.data.texture_source=dtd
"""

from draem_jax.config import apply_choice, default_config


def get_config(choice="candle"):
    config = default_config()
    config.data.name = "visa"
    config.data.image_size = (256,)
    # The authors' length: so often as many samples as there are normal pictures.
    config.train.steps = 0
    config.train.epochs = 700
    return apply_choice(config, choice, default="candle")

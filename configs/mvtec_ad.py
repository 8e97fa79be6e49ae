"""MVTec AD, 15 categories, as in the paper.

    draem-jax data prepare mvtec_ad --root=DIR_OR_ARCHIVE
    draem-jax train --config=configs/mvtec_ad.py:bottle --workdir=runs/mvtec_ad/bottle
    draem-jax benchmark --config=configs/mvtec_ad.py --workdir=runs/mvtec_ad

The category is bottle (also when left out), cable, capsule and so on.
The recipe is the authors' code's; `:bottle,paper` takes the paper's where the two differ.
Anomalies take the built-in textures; for the paper's, the Describable Textures Dataset:

    draem-jax data prepare dtd --root=DIR_OR_ARCHIVE
    draem-jax train … --config.data.texture_source=dtd
"""

from draem_jax.config import apply_choice, default_config


def get_config(choice="bottle"):
    config = default_config()
    config.data.name = "mvtec_ad"
    config.data.image_size = (256,)
    # The authors' length: so often as many samples as there are normal pictures.
    config.train.steps = 0
    config.train.epochs = 700
    return apply_choice(config, choice, default="bottle")

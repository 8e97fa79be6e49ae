"""A detector in minutes on two CPU cores, on the built-in brick pictures.

draem-jax train --config=configs/quickstart.py --workdir=runs/quickstart
draem-jax evaluate --workdir=runs/quickstart
"""

from draem_jax.config import default_config
from draem_jax.recipes import PLUS


def get_config():
    config = default_config()
    config.data.category = "brick"
    config.data.image_size = (96,)
    # Paint has no texture.
    config.data.texture_source = "builtin:3,solid:1"
    # Of 200 normal pictures 40 stay apart, half of them to set the threshold by.
    config.data.holdout = 0.2
    config.model.reconstructive_width = 16
    config.model.discriminative_width = 16
    # Else networks as narrow as these leave the shorter joints out when they restore a picture.
    config.model.initialisation = "mirrored"
    config.optimizer.learning_rate = 1e-3
    # In the same time, more is learned by many small steps than by half as many of 8.
    config.train.batch_size = 4
    config.train.steps = 900
    config.update_from_flattened_dict(PLUS)
    # As scratches and cracks fill little of any square.
    config.evaluation.score = "top0.5%"
    config.evaluation.batch_size = 8
    config.train.log_every = 20
    config.train.sample_every = 300
    config.train.checkpoint_every = 300
    return config

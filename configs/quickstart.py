"""A detector in minutes on two CPU cores, on the built-in brick pictures.

draem-jax train --config=configs/quickstart.py --workdir=runs/quickstart
draem-jax evaluate --workdir=runs/quickstart
"""

from draem_jax.config import default_config


def get_config():
    config = default_config()
    config.data.category = "brick"
    config.data.image_size = (96,)
    config.model.reconstructive_width = 16
    config.model.discriminative_width = 16
    config.optimizer.learning_rate = 1e-3
    config.train.steps = 400
    # As large a part of the picture as the authors' 21 pixels of 256.
    config.evaluation.score = "mean7"
    config.evaluation.batch_size = 8
    # Of 200 normal pictures 40 stay apart, half of them to set the threshold by.
    config.data.holdout = 0.2
    config.train.log_every = 20
    config.train.sample_every = 200
    config.train.checkpoint_every = 100
    return config

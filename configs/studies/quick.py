"""What matters about the simulated anomalies, in half an hour on two CPU cores.

draem-jax study --config=configs/studies/quick.py --workdir=runs/quick

Small networks and small pictures of brick, six recipes, three seeds: a demonstration of what a
study tells, and a model for one's own. The other files here take an accelerator.
"""

from draem_jax.config import default_config
from draem_jax.studies import Variant, study_config


def get_config():
    base = default_config()
    base.data.category = "brick"
    base.data.image_size = (64,)
    base.model.reconstructive_width = 16
    base.model.discriminative_width = 16
    base.optimizer.learning_rate = 1e-3
    base.train.steps = 300
    base.train.log_every = 10
    base.train.sample_every = 300
    base.train.checkpoint_every = 300
    base.train.keep_checkpoints = 1
    # As large a part of the picture as the authors' 21 pixels of 256.
    base.evaluation.score = "mean5"
    return study_config(
        base,
        [
            Variant("full recipe"),
            Variant("no operations", {"anomalies.texture.operations": 0}),
            Variant("no opacity", {"anomalies.opacity": (1.0, 1.0)}),
            Variant("random threshold", {"anomalies.threshold": (0.25, 0.75)}),
            Variant("rectangles", {"anomalies.mask": "rectangles"}),
            Variant("solid colour", {"data.texture_source": "solid"}),
        ],
        seeds=(0, 1, 2),
    )

"""As surfaces.py, with the paper's recipe where it differs from the authors' code.

    draem-jax train --config=configs/surfaces_paper.py:brick --workdir=runs/brick_paper

Opacity, threshold, rotation of the normal pictures and the schedule are the paper's.
"""

import dataclasses

from draem_jax.anomalies import AnomalyParams
from draem_jax.config import default_config, use_paper_schedule


def get_config(category="brick"):
    config = default_config()
    config.data.category = category
    config.data.image_size = (128,)
    config.anomalies.update(dataclasses.asdict(AnomalyParams.paper()))
    use_paper_schedule(config)
    return config

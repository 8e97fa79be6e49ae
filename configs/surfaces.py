"""Full-width networks on the built-in pictures, for an accelerator.

    draem-jax train --config=configs/surfaces.py:gravel --workdir=runs/gravel

`:CATEGORY` is brick (also when left out), grass or gravel. The recipe is the authors' code's.
"""

from draem_jax.config import default_config


def get_config(category="brick"):
    config = default_config()
    config.data.category = category
    config.data.image_size = (128,)
    return config

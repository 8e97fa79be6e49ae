"""Full-width networks on the built-in pictures, for an accelerator.

    draem-jax train --config=configs/surfaces.py:gravel --workdir=runs/gravel
    draem-jax train --config=configs/surfaces.py:gravel,paper --workdir=runs/gravel_paper

The category is brick (also when left out), grass or gravel. The recipe is the authors' code's;
`,paper` takes opacity, threshold, rotation of the normal pictures and schedule from the paper, and
`,small` or `,medium` smaller networks.
"""

from draem_jax.config import default_config
from draem_jax.recipes import apply_choice


def get_config(choice=""):
    config = default_config()
    config.data.image_size = (128,)
    return apply_choice(config, choice, default="brick")

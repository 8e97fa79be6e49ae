"""What simulated anomalies should be filled with.

    draem-jax study --config=configs/studies/texture_source.py --workdir=runs/texture_source
    draem-jax study --config=configs/studies/texture_source.py:gravel,dtd --workdir=…

Full-width networks on the built-in pictures, for an accelerator. The category stands behind the
colon; `dtd`, or a folder of pictures, adds a variant with those textures.
"""

from draem_jax.configs import surfaces

from draem_jax.studies import Variant, study_config


def get_config(choice="brick"):
    category, _, own = choice.partition(",")
    base = surfaces.get_config(category)
    base.train.steps = 5000

    def source(text):
        return {"data.texture_source": text}

    variants = [
        Variant("built-in textures"),
        Variant("solid colour", source("solid")),
        Variant("noise", source("noise")),
        Variant("other normal pictures", source("self")),
        Variant("shuffled blocks", source("blocks")),
        Variant("another place", source("elsewhere")),
        Variant("textures and solid colour", source("builtin:3,solid:1")),
        Variant("textures and another place", source("builtin,elsewhere")),
    ]
    if own:
        variants.append(Variant("own textures", source(own)))
    return study_config(base, variants, seeds=(0, 1, 2, 3, 4))

"""Which shape simulated anomalies should have.

    draem-jax study --config=configs/studies/mask_shape.py --workdir=runs/mask_shape
    draem-jax study --config=configs/studies/mask_shape.py:grass --workdir=runs/mask_shape_grass

Full-width networks on the built-in pictures, for an accelerator. Each shape is a program of its
own. What the shapes are is told in `draem_jax/anomalies/masks.py`; their numbers are the fields
`anomalies.shapes.*`. To keep shapes to an object (`anomalies.place=foreground`) needs pictures of
objects.
"""

from draem_jax.configs import surfaces

from draem_jax.studies import Variant, study_config


def get_config(category="brick"):
    base = surfaces.get_config(category)
    base.train.steps = 5000

    def shape(name):
        return {"anomalies.mask": name}

    return study_config(
        base,
        [
            Variant("Perlin"),
            Variant("Perlin, random threshold", {"anomalies.threshold": (0.25, 0.75)}),
            Variant("union of two", shape("union")),
            Variant("intersection of two", shape("intersection")),
            Variant("magnitude", shape("magnitude")),
            Variant("rectangles", shape("rectangles")),
            Variant("scar", shape("scar")),
            Variant("crack", shape("crack")),
            Variant("spots", shape("spots")),
            Variant("Perlin, crack and spots, 2:1:1", shape("mixed")),
            Variant("Perlin, Poisson blend", {"anomalies.blend": "poisson"}),
        ],
        seeds=(0, 1, 2, 3, 4),
    )

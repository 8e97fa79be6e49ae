"""How opaque simulated anomalies should be.

    draem-jax study --config=configs/studies/opacity.py --workdir=runs/opacity
    draem-jax study --config=configs/studies/opacity.py:gravel --workdir=runs/opacity_gravel

Full-width networks on the built-in pictures, for an accelerator. The variants differ in numbers
only, so all of them run one compiled program.
"""

from draem_jax.configs import surfaces

from draem_jax.studies import Variant, study_config


def get_config(category="brick"):
    base = surfaces.get_config(category)
    base.train.steps = 5000

    def opacity(low, high):
        return {"anomalies.opacity": (low, high)}

    return study_config(
        base,
        [
            Variant("code, 0.2-1.0"),
            Variant("paper, 0.1-1.0", opacity(0.1, 1.0)),
            Variant("opaque", opacity(1.0, 1.0)),
            Variant("fixed 0.75", opacity(0.75, 0.75)),
            Variant("fixed 0.5", opacity(0.5, 0.5)),
            Variant("fixed 0.25", opacity(0.25, 0.25)),
            Variant("faint, 0.1-0.5", opacity(0.1, 0.5)),
            Variant("strong, 0.5-1.0", opacity(0.5, 1.0)),
        ],
        seeds=(0, 1, 2, 3, 4),
    )

"""Whether simulated anomalies should be small, faint and soft, as many defects are.

    draem-jax study --config=configs/studies/subtle.py --workdir=runs/subtle
    draem-jax study --config=configs/studies/subtle.py:gravel --workdir=runs/subtle_gravel

Full-width networks on the built-in pictures, for an accelerator. Each variant adds to masks that
are mixed of Perlin noise, cracks and spots; the variants of contrast=subtle run one compiled
program. What the numbers do is told by `draem-jax train --help`, under `anomalies.subtle`.
"""

from draem_jax.configs import surfaces

from draem_jax.studies import Variant, study_config


def get_config(category="brick"):
    base = surfaces.get_config(category)
    base.train.steps = 5000

    def subtle(**numbers):
        return {
            "anomalies.mask": "mixed",
            "anomalies.contrast": "subtle",
            **{f"anomalies.subtle.{name}": value for name, value in numbers.items()},
        }

    return study_config(
        base,
        [
            Variant("code"),
            Variant("mixed masks", {"anomalies.mask": "mixed"}),
            Variant("labelled from 3 levels on", subtle(label_threshold=3.0)),
            Variant("low opacity", subtle(label_threshold=3.0, opacity_share=0.3)),
            Variant("colour matched", subtle(label_threshold=3.0, matched_share=0.3)),
            Variant("shaded", subtle(label_threshold=3.0, shaded_share=0.3)),
            Variant("soft borders", subtle(label_threshold=3.0, feather=(0.0, 1.5))),
            Variant(
                "all of these",
                subtle(
                    label_threshold=3.0,
                    opacity_share=0.2,
                    matched_share=0.2,
                    shaded_share=0.2,
                    feather=(0.0, 1.5),
                ),
            ),
        ],
        seeds=(0, 1, 2, 3, 4),
    )

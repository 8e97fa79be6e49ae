"""The paper's ablation (Zavrtanik et al., ICCV 2021, table 3), row by row, its figures beside ours.

    draem-jax data prepare mvtec_ad --root=DIR_OR_ARCHIVE
    draem-jax data prepare dtd --root=DIR_OR_ARCHIVE
    draem-jax study --config=configs/studies/paper_table3.py --workdir=runs/table3
    draem-jax study --config=configs/studies/paper_table3.py:IMAGENET_FOLDER --workdir=runs/table3

The row with textures from ImageNet needs a folder of its pictures, given behind the colon. All 15
categories take days on one accelerator; `--config.categories=bottle,screw` takes fewer. The paper
gives no seeds and no deviations.
"""

from draem_jax.configs import mvtec_ad

from draem_jax.studies import Variant, study_config

CATEGORIES = (
    "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill",
    "screw", "tile", "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip

NO_OPERATIONS = {"anomalies.texture.operations": 0}
NO_OPACITY = {"anomalies.opacity": (1.0, 1.0)}


def published(image_auroc, pixel_auroc, pixel_ap):
    return {
        "image_auroc": image_auroc / 100,
        "pixel_auroc": pixel_auroc / 100,
        "pixel_ap": pixel_ap / 100,
    }


def get_config(imagenet=""):
    base = mvtec_ad.get_config("bottle,paper")
    base.data.texture_source = "dtd"
    variants = [
        Variant("full", {}, published(98.0, 97.3, 68.4)),
        Variant(
            "discriminative network only",
            {"model.variant": "discriminative"},
            published(93.9, 92.7, 62.5),
        ),
        Variant(
            "reconstruction and SSIM map",
            {"model.variant": "reconstruction_ssim"},
            published(83.9, 89.7, 47.5),
        ),
        Variant(
            "reconstruction and MSGMS map",
            {"model.variant": "reconstruction_msgms"},
            published(90.7, 93.4, 50.9),
        ),
        Variant(
            "solid colours",
            {"data.texture_source": "solid", **NO_OPERATIONS},
            published(96.2, 92.6, 56.5),
        ),
        Variant("rectangles", {"anomalies.mask": "rectangles"}, published(96.9, 96.8, 65.1)),
        Variant(
            "no operations, no opacity",
            {**NO_OPERATIONS, **NO_OPACITY},
            published(97.4, 94.5, 64.3),
        ),
        Variant("operations only", NO_OPACITY, published(97.4, 95.0, 64.5)),
        Variant("opacity only", NO_OPERATIONS, published(97.9, 97.1, 68.4)),
    ]
    if imagenet:
        textures = {"data.texture_source": imagenet}
        variants.append(Variant("ImageNet textures", textures, published(97.9, 97.0, 67.9)))
    return study_config(
        base, variants, categories=CATEGORIES, seeds=(0,), metric="pixel_ap", protocol="paper"
    )

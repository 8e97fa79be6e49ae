"""What makes a recipe better than the code's at the same cost: small networks, five products.

    draem-jax study --config=configs/studies/recipes.py --workdir=runs/recipes
    draem-jax study --workdir=… --config=configs/studies/recipes.py:textures=DIR,KolektorSDD=DIR
    draem-jax study --workdir=… --config=configs/studies/recipes.py:variants=code+plus

The products to develop on are the three built-in surfaces, whose defects are drawn, and two of real
ones: magnetic tiles (Huang et al., The Visual Computer 2020) and KolektorSDD (Tabernik et al.,
Journal of Intelligent Manufacturing 2020), each a folder in the layout of MVTec AD (train/good,
test/TYPE, ground_truth/TYPE). What is not given behind the colon is left out; without a folder of
textures, the built-in ones are taken; without names of variants, all are. A recipe chosen here is
to be proven on products that are not among these.

The baseline is the authors' code's recipe. While a rate is high, maps differ from one step to the
next, which hides what else a variant does: so all others have the rate of "cosine", and
`--config.baseline=cosine` compares with that. "plus" is the recipe that came out of it.
"""

from draem_jax.config import default_config
from draem_jax.data.surfaces import CATEGORIES
from draem_jax.errors import UserError
from draem_jax.recipes import PLUS
from draem_jax.studies import Product, Variant, study_config

SEEN_AS = {
    # The pictures have 103 x 222 to 632 x 403 pixels, and the defects cover from a thousandth to a
    # third of them. Squeezed, the whole picture is seen and cracks are three pixels wide; in a
    # letterbox, the narrow ones would leave half of it empty and their cracks one pixel; in tiles,
    # uneven parts, which are larger than a tile, would be seen without what is around them.
    "magnetic_tile": {},
    # Of 500 x 1250 pixels, put together from strips, with joints of one row. At half their size the
    # joints light up less, and the thinnest crack is still four pixels wide where it is widest.
    "KolektorSDD": {"data.tile": (128,), "data.scale": 0.5},
}


def get_config(choice=""):
    given = _given(choice)
    textures = given.pop("textures", "builtin")
    names = given.pop("variants", "")
    base = default_config()
    base.data.image_size = (128,)
    base.data.texture_source = textures
    base.model.reconstructive_width = 16
    base.model.discriminative_width = 16
    base.optimizer.learning_rate = 1e-3
    base.train.steps = 500
    base.train.log_every = 25
    base.train.sample_every = 500
    base.train.checkpoint_every = 500
    base.train.keep_checkpoints = 1
    # As large a part of the picture as the authors' 21 pixels of 256.
    base.evaluation.score = "mean11"
    study = study_config(base, _chosen(_variants(textures), names), seeds=(0, 1, 2))
    surfaces = [Product(category, {"data.category": category}) for category in CATEGORIES]
    folders = [
        Product(
            name,
            {"data.name": "folder", "data.category": "", "data.root": folder, **SEEN_AS[name]},
        )
        for name, folder in given.items()
    ]
    study.products = (*surfaces, *folders)
    study.notes = tuple(
        f"{name} is left out; {name}=DIR behind the colon of --config adds it."
        for name in SEEN_AS
        if name not in given
    )
    return study


def _variants(textures):
    changed = {"anomalies.contrast": "subtle", "anomalies.subtle.label_threshold": 3.0}
    shares = ("opacity_share", "matched_share", "shaded_share")
    faint = {
        **changed,
        **{f"anomalies.subtle.{share}": 0.2 for share in shares},
        "anomalies.subtle.feather": (0.0, 1.5),
    }
    cosine = {"optimizer.schedule": "cosine", "optimizer.warmup": 0.05}
    steps = {
        "muon": {"optimizer.name": "muon"},
        "fewer untouched": {"anomalies.untouched_share": 0.25},
        "reflected corners": {"anomalies.normal_corners": "reflect"},
        "difference": {"model.difference": True},
        "copies": {"model.copied_share": 0.25},
        "high frequencies": {"model.reconstructive_input": "high_frequency"},
        "two skips": {"model.reconstructive_skips": 2},
        "predictive block": {"model.sspcab": True},
        "deep supervision": {"model.deep_supervision": 3},
        "mirrored start": {"model.initialisation": "mirrored"},
        "He start": {"model.initialisation": "he"},
        "rate 3e-3": {"optimizer.learning_rate": 3e-3},
        "rate 5e-4": {"optimizer.learning_rate": 5e-4},
        "average of the networks": {"optimizer.average": 0.98},
        "structure at coarse sizes": {"losses.coarse_ssim": 1.0},
        "frequency loss": {"losses.frequency": 5.0},
        "mixed masks": {"anomalies.mask": "mixed"},
        "labelled where changed": changed,
        "faint anomalies": faint,
        "random threshold": {"anomalies.threshold": (0.25, 0.75)},
        "none untouched": {"anomalies.untouched_share": 0.0},
        "soft borders": {
            "anomalies.contrast": "subtle",
            "anomalies.subtle.feather": (0.0, 1.5),
        },
        "labelled where clearly changed": {
            "anomalies.contrast": "subtle",
            "anomalies.subtle.label_threshold": 10.0,
        },
        "fainter anomalies": {
            "anomalies.contrast": "subtle",
            "anomalies.subtle.opacity_share": 0.2,
            "anomalies.opacity": (0.1, 0.8),
        },
        "brighter and darker normals": {"anomalies.normal_brightness": (0.9, 1.1)},
        "flipped normals": {"anomalies.normal_flip_share": 0.5},
        "textures and self": {"data.texture_source": f"{textures}:3,self:1"},
        "textures and elsewhere": {"data.texture_source": f"{textures},elsewhere"},
        # Trained as "cosine" is, and looked at four times.
        "mirrored maps": {"evaluation.flips": "both"},
    }
    together = {
        "three together": ("fewer untouched", "reflected corners", "difference"),
        "four together": ("fewer untouched", "reflected corners", "difference", "mirrored start"),
        "seven together": (
            "fewer untouched", "reflected corners", "difference", "deep supervision",
            "average of the networks", "mixed masks", "faint anomalies",
        ),
    }  # fmt: skip
    for name, parts in together.items():
        steps[name] = {field: value for part in parts for field, value in steps[part].items()}
    return [
        Variant("code"),
        Variant("cosine", cosine),
        *(Variant(name, {**cosine, **fields}) for name, fields in steps.items()),
        Variant("plus", PLUS),
        Variant("plus by Adam", {**PLUS, "optimizer.name": "adam"}),
    ]


def _chosen(variants, names):
    """Those of some variants that are named with "+" between, or all."""
    known = {variant.name: variant for variant in variants}
    wanted = names.split("+") if names else list(known)
    for name in wanted:
        if name not in known:
            raise UserError(f"there is no variant {name!r}; choose among {', '.join(known)}")
    return [known[name] for name in wanted]


def _given(choice):
    """What stands behind the colon, by name, folders in the order of this file."""
    known = ("textures", *SEEN_AS, "variants")
    given = {}
    for word in filter(None, choice.split(",")):
        name, _, value = word.partition("=")
        if name not in known or not value:
            raise UserError(
                f"{word!r} is not understood behind the colon; write NAME=DIR with commas "
                f"between, where NAME is {', '.join(known[:-2])} or {known[-2]}, or "
                "variants=NAME+NAME"
            )
        given[name] = value
    return {name: given[name] for name in known if name in given}

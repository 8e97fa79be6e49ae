"""What makes a recipe better than the code's at the same cost: small networks, five products.

    draem-jax study --config=configs/studies/recipes.py --workdir=runs/recipes
    draem-jax study --workdir=… --config=configs/studies/recipes.py:textures=DIR,KolektorSDD=DIR

The products to develop on are the three built-in surfaces, whose defects are drawn, and two of real
ones: magnetic tiles (Huang et al., The Visual Computer 2020) and KolektorSDD (Tabernik et al.,
Journal of Intelligent Manufacturing 2020), each a folder in the layout of MVTec AD (train/good,
test/TYPE, ground_truth/TYPE). What is not given behind the colon is left out; without a folder of
textures, the built-in ones are taken. A recipe chosen here is to be proven on products that are not
among these.
"""

from draem_jax.config import default_config
from draem_jax.data.surfaces import CATEGORIES
from draem_jax.errors import UserError
from draem_jax.studies import Product, Variant, study_config

SEEN_AS = {
    # The pictures have 103 x 222 to 632 x 403 pixels, and the defects cover from a thousandth to a
    # third of them. Squeezed, the whole picture is seen and cracks are three pixels wide; in a
    # letterbox, the narrow ones would leave half of it empty and their cracks one pixel; in tiles,
    # uneven parts, which are larger than a tile, would be seen without what is around them.
    "magnetic_tile": {},
    # Of 500 x 1250 pixels, with cracks that are a few pixels wide.
    "KolektorSDD": {"data.tile": (128,)},
}


def get_config(choice=""):
    folders = _folders(choice)
    textures = folders.pop("textures", "builtin")
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
    study = study_config(base, _variants(textures), seeds=(0, 1, 2))
    surfaces = [Product(category, {"data.category": category}) for category in CATEGORIES]
    given = [
        Product(
            name,
            {"data.name": "folder", "data.category": "", "data.root": folder, **SEEN_AS[name]},
        )
        for name, folder in folders.items()
    ]
    study.products = (*surfaces, *given)
    study.notes = tuple(
        f"{name} is left out; {name}=DIR behind the colon of --config adds it."
        for name in SEEN_AS
        if name not in folders
    )
    return study


def _variants(textures):
    cosine = {"optimizer.schedule": "cosine", "optimizer.warmup": 0.05}
    mirrored = {"model.initialisation": "mirrored"}
    mixed = {"anomalies.mask": "mixed"}
    changed = {"anomalies.contrast": "subtle", "anomalies.subtle.label_threshold": 3.0}
    shares = ("opacity_share", "matched_share", "shaded_share")
    faint = {
        **changed,
        **{f"anomalies.subtle.{share}": 0.2 for share in shares},
        "anomalies.subtle.feather": (0.0, 1.5),
    }
    reflected = {"anomalies.normal_corners": "reflect"}
    return [
        Variant("code"),
        Variant("mirrored start", mirrored),
        Variant("cosine", cosine),
        Variant("mixed masks", mixed),
        Variant("reflected corners", reflected),
        Variant("difference", {"model.difference": True}),
        Variant("faint anomalies", faint),
        Variant("rate 3e-4", {"optimizer.learning_rate": 3e-4}),
        Variant("rate 1e-4", {"optimizer.learning_rate": 1e-4}),
        Variant("He start", {"model.initialisation": "he"}),
        Variant("average of the networks", {"optimizer.average": 0.98}),
        Variant("structure at coarse sizes", {"losses.coarse_ssim": 1.0}),
        Variant("two skips", {"model.reconstructive_skips": 2}),
        Variant("high frequencies", {"model.reconstructive_input": "high_frequency"}),
        Variant("deep supervision", {"model.deep_supervision": 3}),
        Variant("frequency loss", {"losses.frequency": 5.0}),
        Variant("predictive block", {"model.sspcab": True}),
        Variant("labelled where changed", changed),
        Variant("fewer untouched", {"anomalies.untouched_share": 0.25}),
        Variant("random threshold", {"anomalies.threshold": (0.25, 0.75)}),
        Variant("flipped normals", {"anomalies.normal_flip_share": 0.5}),
        Variant("textures and self", {"data.texture_source": f"{textures}:3,self:1"}),
        Variant("textures and elsewhere", {"data.texture_source": f"{textures},elsewhere"}),
        # Trained as the baseline is, and looked at four times.
        Variant("mirrored maps", {"evaluation.flips": "both"}),
        Variant(
            "together",
            {
                **mirrored,
                **cosine,
                **mixed,
                **faint,
                **reflected,
                "optimizer.average": 0.98,
                "model.difference": True,
                "model.deep_supervision": 3,
                "anomalies.untouched_share": 0.25,
            },
        ),
    ]


def _folders(choice):
    """The folders behind the colon, by name, in the order of this file."""
    known = ("textures", *SEEN_AS)
    folders = {}
    for word in filter(None, choice.split(",")):
        name, _, folder = word.partition("=")
        if name not in known or not folder:
            raise UserError(
                f"{word!r} is not understood behind the colon; write NAME=DIR with commas "
                f"between, where NAME is {', '.join(known[:-1])} or {known[-1]}"
            )
        folders[name] = folder
    return {name: folders[name] for name in known if name in folders}

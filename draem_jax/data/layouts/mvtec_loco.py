"""MVTec LOCO AD: as MVTec AD, with a folder of masks for each picture, and validation/good.

Bergmann et al., "Beyond Dents and Scratches", IJCV 130, 2022.
"""

from pathlib import Path

from draem_jax.data.layouts.entries import Counts, Listing, find_category, find_pictures
from draem_jax.data.layouts.layout import Layout
from draem_jax.data.layouts.mvtec_ad import list_mvtec_style

_COUNTS = {
    "breakfast_box": Counts(351, 102, 173),
    "juice_bottle": Counts(335, 94, 236),
    "pushpins": Counts(372, 138, 172),
    "screw_bag": Counts(360, 122, 219),
    "splicing_connectors": Counts(354, 119, 193),
}
"""Published numbers of pictures, without those for validation."""


def list_category(root: Path, category: str) -> Listing:
    """Lists the pictures of a category; those for validation are left out, and counted.

    Raises:
        UserError: `root` does not hold the category.
    """
    folder = find_category(root, category, holding="train")
    validation = [file for _, file in find_pictures(folder / "validation").all()]
    return list_mvtec_style(
        folder,
        left_out={"normal pictures for validation": validation},
        used=[folder / "defects_config.json"],
    )


LAYOUT = Layout(
    name="mvtec_loco",
    description="MVTec LOCO AD: five kinds of scenes with structural and logical anomalies.",
    list_category=list_category,
    homepage="https://www.mvtec.com/company/research/datasets/mvtec-loco",
    counts=_COUNTS,
)

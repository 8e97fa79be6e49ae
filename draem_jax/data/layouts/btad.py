"""BTAD: CATEGORY/train/ok, CATEGORY/test/ok and ko, CATEGORY/ground_truth/ko.

Pictures are bmp or png, and so are masks, not always alike; a mask has its picture's name but for
the suffix. Mishra et al., "VT-ADL", ISIE 2021.
"""

from pathlib import Path

from draem_jax.data.layouts.entries import Counts, Listing, find_category
from draem_jax.data.layouts.layout import Layout
from draem_jax.data.layouts.mvtec_ad import list_mvtec_style

_COUNTS = {"01": Counts(400, 21, 49), "02": Counts(399, 30, 200), "03": Counts(1000, 400, 41)}
"""Numbers of pictures in the published archive."""


def list_category(root: Path, category: str) -> Listing:
    """Lists the pictures of a category.

    Raises:
        UserError: `root` does not hold the category.
    """
    folder = find_category(root, category, holding="train")
    return list_mvtec_style(folder, normal=("ok", "good"))


LAYOUT = Layout(
    name="btad",
    description="BTAD: three industrial products.",
    list_category=list_category,
    homepage="http://avires.dimi.uniud.it/papers/btad/btad.zip",
    counts=_COUNTS,
)

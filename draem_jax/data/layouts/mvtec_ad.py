"""MVTec AD: CATEGORY/train/good, CATEGORY/test/TYPE, CATEGORY/ground_truth/TYPE/NAME_mask.png.

Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129, 2021.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from draem_jax.data.folders import subfolders
from draem_jax.data.layouts.entries import Counts, Listing, account, find_category, named_child
from draem_jax.data.layouts.layout import Layout
from draem_jax.data.layouts.pairs import list_halves
from draem_jax.errors import UserError

_COUNTS = {
    "bottle": Counts(209, 20, 63),
    "cable": Counts(224, 58, 92),
    "capsule": Counts(219, 23, 109),
    "carpet": Counts(280, 28, 89),
    "grid": Counts(264, 21, 57),
    "hazelnut": Counts(391, 40, 70),
    "leather": Counts(245, 32, 92),
    "metal_nut": Counts(220, 22, 93),
    "pill": Counts(267, 26, 141),
    "screw": Counts(320, 41, 119),
    "tile": Counts(230, 33, 84),
    "toothbrush": Counts(60, 12, 30),
    "transistor": Counts(213, 60, 40),
    "wood": Counts(247, 19, 60),
    "zipper": Counts(240, 32, 119),
}
"""Published numbers of pictures."""

_PAPER = {
    "bottle": (99.2, 99.1, 86.5),
    "cable": (91.8, 94.7, 52.4),
    "capsule": (98.5, 94.3, 49.4),
    "carpet": (97.0, 95.5, 53.5),
    "grid": (99.9, 99.7, 65.7),
    "hazelnut": (100.0, 99.7, 92.9),
    "leather": (100.0, 98.6, 75.3),
    "metal_nut": (98.7, 99.5, 96.3),
    "pill": (98.9, 97.6, 48.5),
    "screw": (93.9, 97.6, 58.2),
    "tile": (99.6, 99.2, 92.3),
    "toothbrush": (100.0, 98.1, 44.7),
    "transistor": (93.1, 90.9, 50.7),
    "wood": (99.1, 96.4, 77.7),
    "zipper": (100.0, 98.8, 81.5),
    "mean": (98.0, 97.3, 68.4),
}
"""What the paper reports, in per cent: AUROC of pictures, AUROC and average precision of pixels."""


def list_category(root: Path, category: str) -> Listing:
    """Lists the pictures of a category.

    Raises:
        UserError: `root` does not hold the category.
    """
    return list_mvtec_style(find_category(root, category, holding="train"))


def list_mvtec_style(
    folder: Path,
    *,
    normal: Iterable[str] = ("good",),
    left_out: Mapping[str, Collection[Path]] | None = None,
    used: Iterable[Path] = (),
) -> Listing:
    """Lists the folder of one category in MVTec AD's layout; each defect must have a mask.

    Args:
        folder: it holds train/, test/ and ground_truth/.
        normal: what the folder of normal pictures may be called.
        left_out: see `account`.
        used: see `account`.

    Raises:
        UserError: there are no normal pictures to train on.
    """
    train = named_child(folder / "train", *normal)
    if train is None:
        raise UserError(
            f"{folder / 'train'} holds no folder {' or '.join(normal)}; give the data set as it "
            "was published"
        )
    masks = folder / "ground_truth"
    listing = list_halves(train, subfolders(folder / "test"), masks, masks_expected=True)
    return account(listing, folder, masks=masks, left_out=left_out, used=used)


LAYOUT = Layout(
    name="mvtec_ad",
    description="MVTec AD: 15 kinds of objects and textures with over 70 types of defects.",
    list_category=list_category,
    homepage="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    counts=_COUNTS,
    paper=_PAPER,
)

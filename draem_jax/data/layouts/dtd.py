"""DTD, the Describable Textures Dataset: images/ATTRIBUTE/ATTRIBUTE_NUMBER.jpg.

Textures to make anomalies of, not a data set to find anomalies in: all of them count as normal
pictures to train on. Cimpoi et al., "Describing Textures in the Wild", CVPR 2014.
"""

from pathlib import Path

from draem_jax.data.folders import subfolders
from draem_jax.data.layouts.entries import (
    GOOD,
    AbsentError,
    Counts,
    Entry,
    Listing,
    account,
    find_pictures,
    levels,
    make_listing,
)
from draem_jax.data.layouts.layout import Layout

CATEGORY = "textures"
"""The one category, which holds all attributes."""

_COUNTS = {CATEGORY: Counts(5640, 0, 0)}
"""Published number of textures: 120 of each of 47 attributes."""


def list_category(root: Path, category: str) -> Listing:
    """Lists the textures, named "<attribute>/<attribute>_<number>".

    Raises:
        UserError: `root` does not hold DTD.
    """
    del category  # there is one
    for base in levels(root):
        if subfolders(base / "images"):
            pictures = find_pictures(base / "images")
            entries = [Entry(file, "train", GOOD, key) for key, file in pictures.all()]
            return account(make_listing(entries), base / "images")
    raise AbsentError(
        f"{root} holds no folder images with folders of textures in it; give DTD's folder or "
        "archive as it was published"
    )


LAYOUT = Layout(
    name="dtd",
    description="DTD: 5,640 textures to make anomalies of.",
    list_category=list_category,
    note="textures to make anomalies of",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    counts=_COUNTS,
)

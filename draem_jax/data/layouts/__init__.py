"""Published layouts of data sets, and the user's own: from a folder to the pictures it holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from draem_jax.data.layouts import btad, dagm, dtd, folder, mvtec_ad, mvtec_loco, visa
from draem_jax.data.layouts.entries import (
    GOOD,
    AbsentError,
    Counts,
    Entry,
    Listing,
    Problem,
)

__all__ = ["GOOD", "LAYOUTS", "AbsentError", "Counts", "Entry", "Layout", "Listing", "Problem"]


@dataclass(frozen=True)
class Layout:
    """How the files of a data set lie.

    Attributes:
        list_category: from (root, category) to the pictures there.
        counts: the published numbers of pictures by category; empty for the user's own.
    """

    list_category: Callable[[Path, str], Listing]
    counts: Mapping[str, Counts]


LAYOUTS: Mapping[str, Layout] = {
    "mvtec_ad": Layout(mvtec_ad.list_category, mvtec_ad.COUNTS),
    "mvtec_loco": Layout(mvtec_loco.list_category, mvtec_loco.COUNTS),
    "visa": Layout(visa.list_category, visa.COUNTS),
    "btad": Layout(btad.list_category, btad.COUNTS),
    "dagm": Layout(dagm.list_category, dagm.COUNTS),
    "dtd": Layout(dtd.list_category, dtd.COUNTS),
    "folder": Layout(folder.list_category, {}),
}
"""By the name of the data set."""

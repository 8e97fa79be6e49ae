"""The known data sets, one a file: from a folder to the pictures it holds.

To add one, add a file here that declares its `LAYOUT`; it is found by that.
"""

import importlib
import pkgutil
from collections.abc import Mapping

from draem_jax.data.layouts.entries import (
    GOOD,
    AbsentError,
    Counts,
    Entry,
    Listing,
    Problem,
)
from draem_jax.data.layouts.layout import Layout

__all__ = ["GOOD", "LAYOUTS", "AbsentError", "Counts", "Entry", "Layout", "Listing", "Problem"]


def _find_layouts() -> dict[str, Layout]:
    modules = [
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
    ]
    layouts = [module.LAYOUT for module in modules if hasattr(module, "LAYOUT")]
    return {layout.name: layout for layout in sorted(layouts, key=lambda layout: layout.name)}


LAYOUTS: Mapping[str, Layout] = _find_layouts()
"""By the name of the data set, in the order of the names."""

"""The labels in a mask whose values waver, as lossy formats leave them."""

import numpy as np


def lowest_label(values: np.ndarray) -> float:
    """The lowest label above 0."""
    return float(values.max())

"""What one example of every anomaly data set in this package holds."""

import numpy as np
import tensorflow_datasets as tfds

from draem_jax.data.layouts.entries import GOOD

__all__ = ["GOOD", "anomaly_features", "local_info"]


def anomaly_features(size: tuple[int | None, int | None]) -> tfds.features.FeaturesDict:
    """Features of one example.

    Args:
        size: (height, width) of the pictures, None where it varies.

    Returns:
        - `image`: (H, W, 3) uint8; PNG, or JPEG where the picture came as one.
        - `mask`: (H, W, 1) uint8, 255 on defects and 0 elsewhere.
        - `has_mask`: whether the mask is known. Where not, `mask` is empty all the same; of a
          normal picture it is always known.
        - `label`: 0 for "good", 1 for "defective".
        - `defect_type`: the name of the folder in MVTec AD's layout, like "crack" or "good".
        - `name`: `defect_type`/name of the file, like "crack/003"; unique within the split.
    """
    height, width = size
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(height, width, 3), encoding_format="png"),
            "mask": tfds.features.Image(shape=(height, width, 1), encoding_format="png"),
            "has_mask": tfds.features.Scalar(dtype=np.bool_),
            "label": tfds.features.ClassLabel(names=["good", "defective"]),
            "defect_type": tfds.features.Text(),
            "name": tfds.features.Text(),
        }
    )


def local_info(info: tfds.core.DatasetInfo) -> tfds.core.DatasetInfo:
    """Keeps TFDS from looking for a data set among those that it hosts; returns the same info.

    Else it would leave an empty temporary folder behind for each builder of what is not prepared.
    """
    info.initialize_from_bucket = lambda: None
    return info

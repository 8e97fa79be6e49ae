"""What one example of every anomaly data set in this package holds."""

import tensorflow_datasets as tfds

GOOD = "good"
"""The type of pictures without a defect, and the name of their folder."""


def anomaly_features(size: tuple[int | None, int | None]) -> tfds.features.FeaturesDict:
    """Features of one example.

    Args:
        size: (height, width) of the pictures, None where it varies.

    Returns:
        - `image`: (H, W, 3) uint8.
        - `mask`: (H, W, 1) uint8, 255 on defects and 0 elsewhere.
        - `label`: 0 for "good", 1 for "defective".
        - `defect_type`: the name of the folder in MVTec AD's layout, like "crack" or "good".
        - `name`: `defect_type`/number, like "crack/003"; unique within the split.
    """
    height, width = size
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(height, width, 3), encoding_format="png"),
            "mask": tfds.features.Image(shape=(height, width, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["good", "defective"]),
            "defect_type": tfds.features.Text(),
            "name": tfds.features.Text(),
        }
    )

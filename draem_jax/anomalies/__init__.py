"""Simulated anomalies: masks filled with augmented textures, on the device."""

from draem_jax.anomalies.params import (
    AnomalyParams,
    Blend,
    Contrast,
    MaskPlace,
    MaskShape,
    OperationWeights,
    ShapeParams,
    ShapeWeights,
    SubtleParams,
    TextureParams,
)
from draem_jax.anomalies.simulate import (
    Simulated,
    brighten_normals_with_keys,
    rotate_normals,
    rotate_normals_with_keys,
    simulate,
    simulate_with_keys,
)

__all__ = [
    "AnomalyParams",
    "Blend",
    "Contrast",
    "MaskPlace",
    "MaskShape",
    "OperationWeights",
    "ShapeParams",
    "ShapeWeights",
    "Simulated",
    "SubtleParams",
    "TextureParams",
    "brighten_normals_with_keys",
    "rotate_normals",
    "rotate_normals_with_keys",
    "simulate",
    "simulate_with_keys",
]

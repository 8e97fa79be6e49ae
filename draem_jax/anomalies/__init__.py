"""Simulated anomalies: Perlin masks filled with augmented textures, on the device."""

from draem_jax.anomalies.params import AnomalyParams, OperationWeights, TextureParams
from draem_jax.anomalies.simulate import (
    Simulated,
    rotate_normals,
    rotate_normals_with_keys,
    simulate,
    simulate_with_keys,
)

__all__ = [
    "AnomalyParams",
    "OperationWeights",
    "Simulated",
    "TextureParams",
    "rotate_normals",
    "rotate_normals_with_keys",
    "simulate",
    "simulate_with_keys",
]

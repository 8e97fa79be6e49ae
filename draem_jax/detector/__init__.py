"""A trained detector, and what it says of pictures."""

from draem_jax.detector.draem import Begun, Draem
from draem_jax.detector.outputs import AtNetworkSize, BatchOutput, Inspection, Prediction

__all__ = ["AtNetworkSize", "BatchOutput", "Begun", "Draem", "Inspection", "Prediction"]

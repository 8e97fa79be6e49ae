"""The two U-Nets of DRÆM as pure Linen modules, together or one alone."""

from draem_jax.networks.discriminative import DiscriminativeNetwork
from draem_jax.networks.initialisation import STARTS, initialise, trace_initialisation
from draem_jax.networks.inputs import RECONSTRUCTIVE_INPUTS
from draem_jax.networks.layers import SIZE_MULTIPLE, check_size
from draem_jax.networks.options import COARSE_STAGES, NetworkOptions
from draem_jax.networks.pair import (
    VARIANTS,
    DraemNetwork,
    DraemOutput,
    TrainingOutput,
    default_dtype,
    forward,
    forward_in_training,
    forward_with_features,
)
from draem_jax.networks.reconstructive import ReconstructiveNetwork

__all__ = [
    "COARSE_STAGES",
    "RECONSTRUCTIVE_INPUTS",
    "SIZE_MULTIPLE",
    "STARTS",
    "VARIANTS",
    "DiscriminativeNetwork",
    "DraemNetwork",
    "DraemOutput",
    "NetworkOptions",
    "ReconstructiveNetwork",
    "TrainingOutput",
    "check_size",
    "default_dtype",
    "forward",
    "forward_in_training",
    "forward_with_features",
    "initialise",
    "trace_initialisation",
]

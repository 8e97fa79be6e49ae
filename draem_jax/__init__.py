"""DRÆM in JAX: surface anomaly detection that learns from normal pictures only."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from draem_jax.detector import Draem

__all__ = ["Draem"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: the anomaly generator alone should not need all the rest.
    if name == "Draem":
        from draem_jax.detector import Draem

        return Draem
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

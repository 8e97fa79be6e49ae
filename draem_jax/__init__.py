"""DRÆM in JAX: surface anomaly detection that learns from normal pictures only.

What most programs need stands here. It is imported when it is first asked for, so that importing
the package alone is quick.

To train, measure and use a detector:

    import draem_jax

    config = draem_jax.default_config()          # `draem-jax train --help` explains the fields
    config.data.category = "gravel"              # of the built-in pictures
    draem_jax.train(config, "runs/gravel")       # called again, it goes on where it was stopped
    metrics = draem_jax.evaluate("runs/gravel")  # writes runs/gravel/evaluation/report.html

    detector = draem_jax.Draem.load("runs/gravel")
    anomaly_map, score, reconstruction = detector.predict(images)

`inspect_picture` of a detector finds the regions of a picture of any size. `finetune` teaches a
detector what is acceptable and what is not.

To train networks in a loop of your own, take the pieces: `simulate` puts anomalies on normal
pictures as `AnomalyParams` says, `DraemNetwork` is both networks as one Flax module, and
`draem_losses` is what they minimise. `examples/custom_mask.py` shows them at work.

What the user can mend is raised as a `UserError`, whose message is one line.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from draem_jax.anomalies import AnomalyParams as AnomalyParams
    from draem_jax.anomalies import simulate as simulate
    from draem_jax.config import default_config as default_config
    from draem_jax.detector import Draem as Draem
    from draem_jax.errors import UserError as UserError
    from draem_jax.evaluation.evaluate import evaluate as evaluate
    from draem_jax.losses import draem_losses as draem_losses
    from draem_jax.networks import DraemNetwork as DraemNetwork
    from draem_jax.training.finetune import finetune as finetune
    from draem_jax.training.loop import train as train

    __version__: str

# Where each name is imported from when it is asked for; type checkers read the lines above.
_HOMES = {
    "Draem": "draem_jax.detector",
    "train": "draem_jax.training.loop",
    "evaluate": "draem_jax.evaluation.evaluate",
    "finetune": "draem_jax.training.finetune",
    "simulate": "draem_jax.anomalies",
    "AnomalyParams": "draem_jax.anomalies",
    "DraemNetwork": "draem_jax.networks",
    "draem_losses": "draem_jax.losses",
    "default_config": "draem_jax.config",
    "UserError": "draem_jax.errors",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("draem-jax")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})

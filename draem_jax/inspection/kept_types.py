"""The types of defects that are kept with a checkpoint, for whoever names regions by them."""

from pathlib import Path

from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.inspection.features import feature_names
from draem_jax.inspection.types import TypeModel


def types_path(workdir: Path, step: int) -> Path:
    """Where the types that belong to a run's checkpoint are kept."""
    return workdir / "types" / f"step_{step:07d}.json"


def load_types(detector: Draem) -> TypeModel | None:
    """Loads the types kept with a checkpoint.

    Args:
        detector: the detector of the checkpoint.

    Returns:
        The types; None if none were fitted for this checkpoint.

    Raises:
        UserError: they are damaged, or belong to another detector.
    """
    path = types_path(detector.workdir, detector.step)
    if not path.is_file():
        return None
    model = TypeModel.load(path)
    expected = feature_names(detector.feature_channels)
    if model.made_from.get("step") != detector.step or model.names != expected:
        raise UserError(
            f"{path} was made for another detector; delete it, or fit the types again with "
            "`draem-jax types fit`"
        )
    return model

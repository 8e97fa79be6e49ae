"""Where to look in pictures, on the device."""

from typing import Any

import flax.struct
import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from draem_jax.anomalies.foreground import foreground


class Inside(flax.struct.PyTreeNode):
    """What says where to look in some pictures.

    Attributes:
        planes: what is known without looking at them, true where to look; bool (B, H, W), or with
            more axes in front; None for everywhere. See `draem_jax.data.roi`.
        on_object: whether to look at the object in each picture alone; it is another program.
    """

    planes: Any = None
    on_object: bool = flax.struct.field(pytree_node=False, default=False)

    def of(
        self, images: Float[Array, "B H W 3"], *, border_share: ArrayLike = 0.9
    ) -> Bool[Array, "B H W 1"]:
        """Where to look in the pictures, of which one at least is not looked at as a whole.

        Args:
            images: the pictures, in [0, 1].
            border_share: see `draem_jax.anomalies.foreground.foreground`.
        """
        found = self.planes
        if self.on_object:
            found = find_objects(images, border_share=border_share)
            found = found if self.planes is None else found & self.planes
        return found[..., None]


def find_objects(
    images: Float[Array, "B H W 3"], *, border_share: ArrayLike = 0.9
) -> Bool[Array, "B H W"]:
    """Where the object is in each picture; see `draem_jax.anomalies.foreground.foreground`."""
    return jax.vmap(lambda image: foreground(image, border_share=border_share))(images)

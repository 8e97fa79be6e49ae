"""The golden training step, made by our networks and losses."""

import jax
import jax.numpy as jnp

from draem_jax.losses import draem_losses
from draem_jax.networks import DraemNetwork
from tests.networks.authors_names import nhwc


def losses_and_gradients(weights, step, dtype):
    network = DraemNetwork(4, 4, dtype=dtype)
    variables, arrays = jax.tree.map(lambda a: jnp.asarray(a, dtype), (weights, dict(step)))

    def loss(params):
        output, _ = network.apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            nhwc(arrays["augmented"]),
            train=True,
            mutable=["batch_stats"],
        )
        # The reconstruction falls below −0.5, where the authors' code takes a range of 2.
        losses = draem_losses(
            images=nhwc(arrays["image"]),
            masks=nhwc(arrays["mask"]),
            reconstruction=output.reconstruction,
            logits=output.logits,
            data_range=2.0,
        )
        return losses.total, losses

    gradients, losses = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    return losses, gradients

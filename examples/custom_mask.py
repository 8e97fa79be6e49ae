"""Train on a mask shape of your own, in a training loop of your own: scratches on bricks.

python examples/custom_mask.py      # a minute on two CPU cores
"""

import jax
import jax.numpy as jnp
import optax

from draem_jax import AnomalyParams, DraemNetwork, default_config, draem_losses, simulate
from draem_jax.training.pictures import open_pictures

SIZE, BATCH, STEPS = 64, 8, 40
config = default_config()  # of the built-in pictures of brick
config.data.image_size = (SIZE,)
pictures = open_pictures(config).read()
network = DraemNetwork(reconstructive_width=8, discriminative_width=8)
optimizer = optax.adam(1e-3)


def scratch(key):
    """A mask of one wavy scratch across the picture: 1 on it, 0 elsewhere."""
    start, end, phase, waves = jax.random.uniform(key, (4,))
    y, x = jnp.mgrid[:SIZE, :SIZE] / SIZE
    middle = start + (end - start) * x + 0.05 * jnp.sin(2 * jnp.pi * (phase + 3 * waves * x))
    return (jnp.abs(y - middle) < 0.03)[..., None].astype(jnp.float32)


def loss(params, batch_stats, images, samples):
    """What is minimised, and the new running statistics."""
    variables = {"params": params, "batch_stats": batch_stats}
    output, new = network.apply(variables, samples.augmented, train=True, mutable=["batch_stats"])
    losses = draem_losses(images=images, masks=samples.mask, **output._asdict())
    return losses.total, new["batch_stats"]


@jax.jit
def train_step(key, params, batch_stats, opt_state):
    """Draws a batch, and makes one step on it."""
    keys = jax.random.split(key, 4)
    images = jax.random.choice(keys[0], pictures.normal, (BATCH,)) / 255
    textures = jax.random.choice(keys[1], pictures.textures, (BATCH,)) / 255
    masks = jax.vmap(scratch)(jax.random.split(keys[2], BATCH))
    # Half of the pictures stay untouched: what counts are the masks in `samples`.
    samples = simulate(keys[3], images, textures, AnomalyParams(), masks=masks)
    step = jax.value_and_grad(loss, has_aux=True)
    (total, batch_stats), gradients = step(params, batch_stats, images, samples)
    updates, opt_state = optimizer.update(gradients, opt_state)
    return total, (optax.apply_updates(params, updates), batch_stats, opt_state)


start = network.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)
state = (start["params"], start["batch_stats"], optimizer.init(start["params"]))
totals = []
for key in jax.random.split(jax.random.key(1), STEPS):
    total, state = train_step(key, *state)
    totals.append(float(total))
    if len(totals) % 10 == 0:
        print(f"step {len(totals)}: loss {sum(totals[-10:]) / 10:.3f}")

"""What differs by platform is traced in the way of the platform at hand alone."""

import jax
import jax.numpy as jnp

from draem_jax.platforms import OTHER, by_platform, platform_of, traced_for
from draem_jax.training import parallel


def test_one_way_is_traced_where_the_platform_is_known_and_all_elsewhere():
    here = platform_of(jax.local_devices()[0])
    traced = []

    def way(name, value):
        def take(x):
            traced.append(name)
            return x + value

        return take

    @jax.jit  # which must not take what it traced for another platform
    def compute(x):
        return by_platform(x, default=way("default", 1), **{here: way("here", 2)})

    x = jnp.zeros(())
    assert parallel.jit_here(compute)(x) == 2
    assert traced == ["here"]
    traced.clear()
    assert compute(x) == 2  # JAX chooses as it lowers
    assert set(traced) == {"here", "default"}
    for platform, value in ((here, 2), (OTHER, 1), (here, 2)):
        with traced_for(platform):
            assert compute(x) == value

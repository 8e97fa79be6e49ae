"""The PyTorch rival learns as we do, so that comparing the speeds is fair."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.networks.authors_names import from_authors
from tests.networks.authors_step import losses_and_gradients

torch = pytest.importorskip("torch", reason="PyTorch is no dependency")

# The golden reconstruction falls below −0.5, where the authors' code takes a range of 2.
_RANGE = 2.0


@pytest.fixture
def rival(golden):
    """The rival's networks with the authors' weights, float64."""
    from tools.pytorch_rival import Draem

    network = Draem(4, 4).double()
    weights = golden("networks_weights")
    network.load_state_dict({name: torch.from_numpy(a) for name, a in weights.items()})
    return network


def _tensors(arrays, *names):
    return [torch.from_numpy(arrays[name]).double() for name in names]


def test_networks_are_the_authors(golden, rival):
    (augmented,) = _tensors(golden("networks_step"), "augmented")
    exact = golden("networks_train_float64")
    with torch.no_grad():
        output = rival(augmented)
    for name, ours in output._asdict().items():
        np.testing.assert_allclose(ours.numpy(), exact[f"train_{name}"], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_step_is_ours(golden, rival):
    from tools.pytorch_rival import make_adam, train_step

    weights, step = golden("networks_weights"), golden("networks_step")
    optimizer = make_adam(rival)
    theirs = train_step(
        rival, optimizer, *_tensors(step, "image", "augmented", "mask"), data_range=_RANGE
    )
    with jax.enable_x64(True):
        losses, gradients, after = _our_step(from_authors(weights), step)
    for name, loss in theirs._asdict().items():
        np.testing.assert_allclose(loss.item(), getattr(losses, name), rtol=1e-9)
    named = dict(rival.named_parameters())
    their_gradients, their_after = (
        from_authors({name: of(parameter).detach().numpy() for name, parameter in named.items()})
        for of in (lambda parameter: parameter.grad, lambda parameter: parameter)
    )
    # A bias before a normalisation has no gradient but rounding, of which Adam makes whole steps.
    has_gradient = jax.tree.map(lambda g: np.abs(g) > 1e-9, gradients)
    for ours, golden_ones, tolerance in (
        (gradients, their_gradients, 1e-8),
        (after, their_after, 1e-7),
    ):
        jax.tree.map(
            lambda a, b, where, atol=tolerance: np.testing.assert_allclose(
                a[where], b[where], rtol=1e-5, atol=atol
            ),
            ours,
            golden_ones["params"],
            has_gradient,
        )


def _our_step(variables, step):
    """Our losses, gradients and parameters after one step, float64."""
    losses, gradients = losses_and_gradients(variables, step, jnp.float64)
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables["params"])
    optimizer = optax.adam(1e-4)
    updates, _ = optimizer.update(gradients, optimizer.init(params))
    after = optax.apply_updates(params, updates)
    return jax.tree.map(np.asarray, (losses, gradients, after))

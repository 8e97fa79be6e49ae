"""Networks that stand alone: what they are made of, what they learn, and what they say."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax import Draem
from draem_jax.anomalies.blending import BLENDS
from draem_jax.anomalies.masks import MASKS
from draem_jax.config import check_config, default_config, loss_weights
from draem_jax.data.texture_sources import NAMED_SOURCES
from draem_jax.errors import UserError
from draem_jax.fields import GROUPS
from draem_jax.losses import LossWeights, l1_loss, ssim
from draem_jax.networks import RECONSTRUCTIVE_INPUTS, VARIANTS, DraemNetwork, forward
from draem_jax.scores import anomaly_map, margin
from draem_jax.similarity import msgms_map, ssim_map
from draem_jax.training.checkpoints import open_checkpoints
from draem_jax.training.optimizer import create_optimizer
from draem_jax.training.programs import trace
from draem_jax.training.samples import Samples
from draem_jax.training.state import create_network, create_state
from draem_jax.training.step import sample_losses, train_step
from draem_jax.training.workdir import claimed_workdir

NETWORKS = {
    "full": {"reconstructive", "discriminative"},
    "discriminative": {"discriminative"},
    "reconstruction_ssim": {"reconstructive"},
    "reconstruction_msgms": {"reconstructive"},
}


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    normal, texture = rng.random((2, 2, 32, 32, 3), np.float32)
    mask = np.zeros((2, 32, 32, 1), np.float32)
    mask[:, 8:20, 10:30] = 1
    arrays = (normal, np.where(mask > 0, texture, normal), mask)
    return Samples(*(jnp.asarray(array) for array in arrays))


@pytest.mark.parametrize(("variant", "networks"), NETWORKS.items())
def test_only_the_networks_that_exist_have_parameters(variant, networks, tiny_config):
    config = tiny_config(**{"model.variant": variant})
    state = jax.eval_shape(lambda: create_state(config))
    assert set(state.params) == set(state.batch_stats) == networks
    if "discriminative" in networks:
        kernel = state.params["discriminative"]["encoder1"]["unit1"]["conv"]["kernel"]
        assert kernel.shape[2] == (6 if variant == "full" else 3)


def outputs_of(variant, pictures, reconstruct):
    """What comes out of networks whose reconstruction is a given function of the pictures."""

    class Network(DraemNetwork):
        def setup(self):
            self.reconstructive = lambda images, train: reconstruct(images)

    network = Network(variant=variant)
    return jax.jit(lambda x: forward(network, {}, x))(pictures)


@pytest.mark.parametrize("variant", ["reconstruction_ssim", "reconstruction_msgms"])
def test_a_map_without_a_discriminative_network(variant, samples):
    output = outputs_of(variant, samples.augmented, lambda x: jnp.roll(x, 1, 1) * samples.mask)
    similarity = ssim_map if variant == "reconstruction_ssim" else msgms_map
    expected = 1 - np.mean(similarity(output.reconstruction, samples.augmented), axis=-1)
    if variant == "reconstruction_ssim":
        expected /= 2
    assert expected.std() > 0.01
    np.testing.assert_allclose(anomaly_map(output.logits), expected, atol=1e-5)
    assert np.isfinite(margin(output.logits)).all()

    alike = outputs_of(variant, samples.augmented, lambda x: x)
    assert np.isfinite(alike.logits).all()
    assert float(anomaly_map(alike.logits).max()) < 1e-5


@pytest.mark.long
def test_the_discriminative_network_learns_alone_and_is_loaded(tmp_path, tiny_config, samples):
    config = tiny_config(**{"model.variant": "discriminative"})
    network, optimizer = create_network(config), create_optimizer(config)
    step = jax.jit(
        lambda state: train_step(state, samples, network=network, optimizer=optimizer),
    )
    state = first = create_state(config)
    totals = []
    for _ in range(12):
        state, losses = step(state)
        totals.append(float(losses.total))
        assert losses.l2 == losses.l1 == losses.ssim == 0
        assert losses.total == losses.focal
    assert totals[-1] < 0.8 * totals[0]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params, first.params)
    for path, change in jax.tree_util.tree_leaves_with_path(moved):
        # Normalisation takes these biases away again: their gradient is zero.
        still = jax.tree_util.keystr(path).endswith("['conv']['bias']")
        assert (change == 0) == still, path

    with (
        claimed_workdir(tmp_path, config, resume=False),
        open_checkpoints(tmp_path, keep=1) as checkpoints,
    ):
        checkpoints.save(state, validation_loss=totals[-1])
    detector = Draem.load(tmp_path)
    assert detector.config.to_dict() == config.to_dict()
    pictures = np.asarray(samples.augmented)
    found, output = detector.predict(pictures), detector.run_batch(pictures)
    np.testing.assert_array_equal(found.reconstruction, pictures)
    np.testing.assert_allclose(jax.nn.sigmoid(output.margin)[:2], found.anomaly_map, atol=1e-6)
    assert found.anomaly_map.std() > 0


EVERYTHING = {
    "model.difference": True,
    "model.copied_share": 0.5,
    "model.reconstructive_input": "high_frequency",
    "model.reconstructive_skips": 2,
    "model.sspcab": True,
    "model.deep_supervision": 3,
    "losses.frequency": 1.0,
    "losses.coarse_ssim": 1.0,
}
"""Each option of the networks and each term of the loss that is off by default."""


@pytest.mark.slow
def test_what_is_for_the_loss_alone_is_computed_for_it_alone(tiny_config, samples):
    def operations(step, **changes):
        config = tiny_config(**changes)
        state = jax.eval_shape(lambda: create_state(config))
        network = create_network(config)
        if not step:
            program = trace(lambda s, x: forward(network, s.variables, x), state, samples.normal)
        else:
            program = trace(
                lambda state, samples, weights: train_step(
                    state, samples, weights, network=network, optimizer=create_optimizer(config)
                ),
                *(state, samples, loss_weights(config)),
            )
        return [operation.name for operation in program.operations]

    asked = {"model.deep_supervision": 4, "losses.frequency": 1.0}
    default, more = operations(True), operations(True, **asked)
    convolution = "conv_general_dilated"
    assert "fft" not in default
    assert "fft" in more
    assert more.count(convolution) > default.count(convolution)
    assert operations(False, **asked) == operations(False)


@pytest.mark.long
@pytest.mark.parametrize("remat", [False, True])
def test_networks_with_every_option_learn_and_are_loaded(tmp_path, tiny_config, samples, remat):
    config = tiny_config(**EVERYTHING, **{"model.remat": remat, "model.dtype": "bfloat16"})
    network, optimizer = create_network(config), create_optimizer(config)
    step = jax.jit(
        lambda state, weights: train_step(
            state, samples, weights, network=network, optimizer=optimizer
        )
    )
    state = first = create_state(config)
    totals = []
    for _ in range(20):
        state, losses = step(state, loss_weights(config))
        totals.append(float(losses.total))
        assert all(term > 0 for term in losses)
    assert totals[-1] < 0.9 * totals[0]
    for network_name, part in (("discriminative", "head2"), ("reconstructive", "predictive")):
        before, after = (s.params[network_name][part]["kernel"] for s in (first, state))
        assert np.abs(before - after).max() > 0

    with (
        claimed_workdir(tmp_path, config, resume=False),
        open_checkpoints(tmp_path, keep=1) as checkpoints,
    ):
        checkpoints.save(state, validation_loss=totals[-1])
    found = Draem.load(tmp_path).predict(np.asarray(samples.augmented))
    assert found.anomaly_map.std() > 0


def test_loss_weights_are_traced(tiny_config, samples):
    config = tiny_config(**{"model.variant": "reconstruction_ssim"})
    network, optimizer = create_network(config), create_optimizer(config)
    state, traces = jax.eval_shape(lambda: create_state(config)), []

    @jax.jit
    def step(state, weights):
        traces.append(weights)
        return train_step(state, samples, weights, network=network, optimizer=optimizer)

    for weights in (LossWeights(), LossWeights(l2=0.0, l1=1.0), LossWeights(ssim=0.5)):
        step.eval_shape(state, weights)
    assert len(traces) == 1


def test_a_reconstruction_is_compared_with_the_normal_picture(samples):
    network = DraemNetwork(4, 4, variant="reconstruction_ssim")
    output = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False)[0], samples.augmented
    )
    output = jax.tree.map(lambda a: jnp.full(a.shape, 0.5), output)
    losses = sample_losses(network, output, samples, LossWeights(l2=0.0, l1=1.0))
    expected = l1_loss(output.reconstruction, samples.normal)
    expected += 1 - ssim(output.reconstruction, samples.normal)
    np.testing.assert_allclose(losses.total, expected, rtol=1e-5)
    assert losses.focal == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.variant": "both"}, "config.model.variant must be one of full, discriminative"),
        ({"anomalies.mask": "star"}, "mask must be one of perlin"),
        ({"anomalies.blend": "mix"}, "blend must be one of alpha, poisson"),
        ({"anomalies.texture.operations": 12.0}, "texture.operations must lie from 0 to 10"),
        ({"model.reconstructive_input": "edges"}, "must be one of picture, high_frequency"),
        ({"model.reconstructive_skips": 5}, "reconstructive_skips must lie from 0 to 4, not 5"),
        ({"model.copied_share": 1.5}, "copied_share must lie from 0 to 1, not 1.5"),
        (
            {"model.variant": "discriminative", "model.copied_share": 0.5},
            "config.model.copied_share=0.5 needs both networks",
        ),
        ({"model.deep_supervision": -1}, "deep_supervision must lie from 0 to 4, not -1"),
        (
            {"model.variant": "reconstruction_ssim", "model.difference": True},
            "config.model.difference=True needs both networks",
        ),
        (
            {"model.variant": "discriminative", "model.sspcab": True},
            "config.model.sspcab=True needs a reconstructive network",
        ),
        ({"losses.l2": -1.0}, "config.losses.l2 must be 0 or more, not -1"),
        ({"losses.ssim": float("nan")}, "config.losses.ssim must be a finite number"),
        ({"losses.focal": 0.0}, "config.losses.focal must be above 0"),
        (
            {"losses.l2": 0.0, "losses.ssim": 0.0},
            "one of l2, l1, ssim, coarse_ssim and frequency must be above 0",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    config = default_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message) as caught:
        check_config(config)
    assert "\n" not in str(caught.value)


def test_the_config_tells_every_word_that_it_takes():
    assert set(NETWORKS) == set(VARIANTS)
    texts = (field.text for group in GROUPS.values() for field in group.fields.values())
    told = set(re.findall(r"\w+", " ".join(texts)))
    assert told >= {*MASKS, *BLENDS, *NETWORKS, *NAMED_SOURCES, *RECONSTRUCTIVE_INPUTS}


def test_terms_that_a_variant_lacks_may_have_any_weight():
    config = default_config()
    config.model.variant = "discriminative"
    config.losses.update(l2=0.0, ssim=0.0)
    check_config(config)
    config.model.variant = "reconstruction_ssim"
    config.losses.update(l2=1.0, focal=0.0)
    check_config(config)

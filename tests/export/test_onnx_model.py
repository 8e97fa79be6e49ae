"""The ONNX graph against the authors' numbers, and against our networks with all options."""

import math

import jax
import numpy as np
import onnxruntime
import pytest

from draem_jax.detector.program import make_inspect
from draem_jax.export.architecture import OPERATIONS, Architecture, describe, settings_of
from draem_jax.export.contract import Detection
from draem_jax.export.onnx_graph import BATCH, Graph
from draem_jax.export.onnx_layers import EMITTERS
from draem_jax.export.onnx_model import add_networks, make_onnx
from draem_jax.export.onnx_runtime import open_onnx
from draem_jax.export.weights import named_arrays
from draem_jax.networks import DraemNetwork, NetworkOptions, trace_initialisation
from tests.networks.authors_names import from_authors


def test_networks_say_what_the_authors_do(golden):
    step, weights = golden("networks_step"), from_authors(golden("networks_weights"))
    pictures = step["augmented"]
    graph = Graph()
    size = pictures.shape[2:]
    x = graph.input("x", np.float32, (BATCH, 3, *size))
    made = add_networks(graph, describe(DraemNetwork(4, 4)), named_arrays(weights), x, size)
    for name, value, channels in zip(("reconstruction", "margin"), made, (3, 1), strict=True):
        graph.output(name, value, (BATCH, channels, *size))
    model = graph.model(producer_version="0", about="").SerializeToString()
    reconstruction, margin = onnxruntime.InferenceSession(model).run(None, {"x": pictures})
    logits = step["eval_logits"]
    # Rounding alone moves the authors' own outputs by 6.7e-5, see tests/networks/test_golden.py.
    for ours, theirs in (
        (reconstruction, step["eval_reconstruction"]),
        (margin[:, 0], logits[:, 1] - logits[:, 0]),
    ):
        assert theirs.std() > 0.05
        assert np.mean(np.abs(ours - theirs) <= 2e-4) > 0.999
        assert np.abs(ours - theirs).max() <= 4e-4


def random_variables(network):
    """Variables with which the networks make something of every picture."""
    rng = np.random.default_rng(0)
    _, shapes = trace_initialisation(network)

    def fill(path, array):
        noise = rng.normal(size=array.shape)
        match path[-1].key:
            case "kernel":
                made = noise * math.sqrt(2 / math.prod(array.shape[:-1]))
            case "scale" | "var":
                made = np.exp(0.3 * noise)
            case _:
                made = 0.1 * noise
        return made.astype(np.float32)

    kept = {name: shapes[name] for name in ("params", "batch_stats") if name in shapes}
    return jax.tree_util.tree_map_with_path(fill, kept)


EVERYTHING = NetworkOptions(
    difference=True,
    reconstructive_input="high_frequency",
    reconstructive_skips=2,
    sspcab=True,
    deep_supervision=1,
    copied_share=0.5,
)


@pytest.mark.long
@pytest.mark.parametrize(
    ("network", "score", "flips"),
    [
        ({"options": EVERYTHING}, "top1%", "both"),
        ({"remat": True}, "mean99", "none"),
        ({"variant": "discriminative"}, "top70", "horizontal"),
        ({"variant": "reconstruction_ssim"}, "mean1", "both"),
        ({"variant": "reconstruction_msgms"}, "mean7", "none"),
    ],
)
def test_all_networks_and_scores_say_what_ours_do(network, score, flips):
    network = DraemNetwork(4, 4, **network)
    variables, detection = random_variables(network), Detection((32, 64), score, flips)
    arrays = named_arrays(variables)
    architecture = describe(network)
    assert Architecture.from_json(architecture.as_json(settings_of(network), arrays)) == (
        architecture
    )
    used = {name for layer in architecture.layers for name in layer.arrays.values()}
    assert {name for name in arrays if "/head" not in name} == used
    look = open_onnx(make_onnx(architecture, arrays, detection).SerializeToString())
    pictures = np.random.default_rng(1).integers(0, 256, (3, 32, 64, 3), np.uint8)
    # Without optimising, sums of margins round more than they do in use.
    optimised = {"xla_backend_optimization_level": 1}
    inspect = jax.jit(make_inspect(network, score, flips=flips), compiler_options=optimised)
    ours = inspect(variables, pictures, None, None)
    assert np.std(ours.anomaly_map) > 0.01
    for count in (3, 1):
        for name, found in look(pictures[:count]).items():
            expected = np.asarray(getattr(ours, name))
            # Margins of any size are compared by their own.
            tolerance = 1e-5 * max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(found, expected[:count], rtol=0, atol=tolerance)


def test_every_operation_is_told_and_made():
    assert OPERATIONS.keys() == EMITTERS.keys()


def test_the_graph_is_lean():
    network = DraemNetwork(4, 4)
    arrays = named_arrays(random_variables(network))
    model = make_onnx(describe(network), arrays, Detection((32, 32), "mean21", "none"))
    kinds = [node.op_type for node in model.graph.node]
    # One in front, for pictures, and one behind, for the reconstruction.
    assert kinds.count("Transpose") == 2
    assert kinds.count("Conv") == 51
    assert "BatchNormalization" not in kinds

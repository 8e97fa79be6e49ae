"""The networks as a list of layers, from which they can be rebuilt in any language.

`network.json` holds it beside the weights, and the ONNX graph is made of nothing else.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from draem_jax.networks import DraemNetwork, NetworkOptions
from draem_jax.networks.inputs import CUTOFF
from draem_jax.networks.normalisation import EPSILON
from draem_jax.networks.options import PLAIN

FORMAT = "draem_jax network"
VERSION = 1

PICTURE = "picture"
"""What the first layers read: pictures in [0, 1]."""

OPERATIONS: Mapping[str, str] = {
    "unit": "3 x 3 convolution with one pixel of zero padding; plus bias; minus mean, divided by "
    "the root of var + epsilon, times scale, plus shift, channel by channel; negatives become 0",
    "convolution": "convolution with zero padding, its kernel spread by dilation; plus bias",
    "max_pool": "the largest of each 2 x 2 pixels, so that height and width are halved",
    "upsample": "height and width doubled by bilinear interpolation, the corner pixels staying in "
    "the corners (align_corners=True)",
    "concatenate": "the channels of the inputs one behind the other",
    "add": "the sum of both inputs",
    "absolute_difference": "the size of the difference of both inputs",
    "multiply": "the product of both inputs, of which the second has one number for each channel",
    "relu": "negatives become 0",
    "sigmoid": "1 / (1 + exp(-x))",
    "mean": "the mean over height and width, one number for each channel",
    "dense": "the product with a matrix (channels in, channels out); plus bias",
    "high_frequency": "brightness 0.299 R + 0.587 G + 0.114 B, whose discrete Fourier transform is "
    "multiplied by f**4 / (f**4 + cutoff**4), f being the frequency in cycles a pixel, and "
    "transformed back",
    "ssim": "logit of the mean over channels of (1 - SSIM) / 2, clipped to [1e-6, 1 - 1e-6]: "
    "Gaussian window of 11 x 11, sigma 1.5, zero padding, constants 0.01**2 and 0.03**2",
    "msgms": "logit of the mean over channels of 1 - the mean over four scales of (2 ga gb + c) / "
    "(ga**2 + gb**2 + c), clipped to [1e-6, 1 - 1e-6]: g the size of Prewitt's gradient (a third "
    "of the sums), border pixels repeated, c = 170 / 255**2, scales halved by means of 2 x 2 and "
    "brought to full size bilinearly (half-pixel centres)",
}
"""What each operation computes, in words."""

_DISSIMILARITIES = {"reconstruction_ssim": "ssim", "reconstruction_msgms": "msgms"}


@dataclass(frozen=True)
class Layer:
    """One step from the picture to the logits.

    Attributes:
        name: of what it makes.
        operation: a key of `OPERATIONS`.
        inputs: the names of what it reads: of layers before it, or `PICTURE`.
        arrays: the name of each array that it takes, by its part: kernel, bias, mean, …
        attributes: numbers that the operation takes.
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    arrays: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Architecture:
    """The networks of a run.

    Attributes:
        layers: in an order in which they can be computed.
        reconstruction: the name of the layer that makes the reconstruction; `PICTURE` where there
            is no reconstructive network.
        logits: the name of the layer that makes the logits of normal and anomalous; None where the
            map is not learned.
        margin: the name of the layer that makes the logit of the map where it is not learned.
    """

    layers: tuple[Layer, ...]
    reconstruction: str
    logits: str | None
    margin: str | None = None

    def as_json(self, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
        """What `network.json` holds.

        Args:
            settings: what else is to be known of the networks.
            arrays: all weights by their names.
        """
        used = [layer.operation for layer in self.layers]
        content = {
            "format": FORMAT,
            "version": VERSION,
            **settings,
            "layouts": "arrays of pictures are (pictures, height, width, channels); kernels are "
            "(height, width, channels in, channels out); arrays that no layer names were for "
            "training alone",
            "operations": {name: text for name, text in OPERATIONS.items() if name in used},
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "outputs": {
                "reconstruction": self.reconstruction,
                "logits": self.logits,
                "margin": self.margin or "channel 1 of the logits less channel 0",
                "anomaly_map": "1 / (1 + exp(-margin))",
            },
            "arrays": {
                name: {"shape": list(array.shape), "dtype": str(array.dtype)}
                for name, array in sorted(arrays.items())
            },
        }
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Reads what `as_json` wrote."""
        content = json.loads(text)
        layers = tuple(
            Layer(**{**layer, "inputs": tuple(layer["inputs"])}) for layer in content["layers"]
        )
        outputs = content["outputs"]
        margin = outputs["margin"] if outputs["logits"] is None else None
        return cls(layers, outputs["reconstruction"], outputs["logits"], margin)


def describe(network: DraemNetwork) -> Architecture:
    """The layers of the networks, as they predict.

    Args:
        network: any variant, with any options.
    """
    # An option that is not known here would be left out silently.
    known = {f.name for f in dataclasses.fields(NetworkOptions)}
    assert known == {
        *("difference", "reconstructive_input", "reconstructive_skips", "sspcab"),
        *("copied_share", "deep_supervision"),  # both of training alone
    }
    steps = _Steps()
    reconstruction = PICTURE
    if network.reconstructs:
        reconstruction = _reconstructive(steps, network.options)
    if not network.discriminates:
        margin = steps.add("margin", _DISSIMILARITIES[network.variant], [reconstruction, PICTURE])
        return Architecture(tuple(steps.layers), reconstruction, None, margin)
    seen = [PICTURE]
    if network.reconstructs:
        seen = [reconstruction, PICTURE]
        if network.options.difference:
            seen.append(steps.add("difference", "absolute_difference", [PICTURE, reconstruction]))
    logits = _discriminative(steps, seen)
    return Architecture(tuple(steps.layers), reconstruction, logits)


def settings_of(network: DraemNetwork) -> dict[str, Any]:
    """What `DraemNetwork` is made with, but for what only training needs."""
    return {
        "variant": network.variant,
        "reconstructive_width": network.reconstructive_width if network.reconstructs else None,
        "discriminative_width": network.discriminative_width if network.discriminates else None,
        "options": {
            name: value
            for name, value in dataclasses.asdict(network.options).items()
            if value != getattr(PLAIN, name)
        },
    }


class _Steps:
    """Layers as they are put one behind the other; each call returns the name of what is made."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def add(
        self,
        name: str,
        operation: str,
        inputs: Sequence[str],
        arrays: Mapping[str, str] | None = None,
        **attributes: int | float,
    ) -> str:
        assert operation in OPERATIONS
        self.layers.append(Layer(name, operation, tuple(inputs), arrays or {}, attributes))
        return name

    def stage(self, name: str, x: str, units: int) -> str:
        """Several units one behind the other."""
        for unit in (f"{name}/unit{i}" for i in range(1, units + 1)):
            arrays = {
                "kernel": f"params/{unit}/conv/kernel",
                "bias": f"params/{unit}/conv/bias",
                "scale": f"params/{unit}/norm/scale",
                "shift": f"params/{unit}/norm/bias",
                "mean": f"batch_stats/{unit}/norm/mean",
                "var": f"batch_stats/{unit}/norm/var",
            }
            x = self.add(unit, "unit", [x], arrays, epsilon=EPSILON)
        return x

    def parametric(self, name: str, operation: str, x: str, **attributes: int | float) -> str:
        """A layer with a kernel and a bias."""
        arrays = {part: f"params/{name}/{part}" for part in ("kernel", "bias")}
        return self.add(name, operation, [x], arrays, **attributes)

    def encoder(self, network: str, x: str, levels: int) -> list[str]:
        """What each level of an encoder makes, the finest first."""
        made: list[str] = []
        for i in range(1, levels + 1):
            if made:
                x = self.add(f"{network}/pool{i}", "max_pool", [x])
            x = self.stage(f"{network}/encoder{i}", x, 2)
            made.append(x)
        return made


def _reconstructive(steps: _Steps, options: NetworkOptions) -> str:
    name, x = "reconstructive", PICTURE
    if options.reconstructive_input != "picture":
        x = steps.add(f"{name}/input", options.reconstructive_input, [x], cutoff=CUTOFF)
    *levels, x = steps.encoder(name, x, 5)
    for i in range(1, 5):
        x = steps.add(f"{name}/upsample{i}", "upsample", [x])
        level = levels.pop()
        if i <= options.reconstructive_skips:
            x = steps.add(f"{name}/skip{i}", "add", [x, level])
        x = steps.stage(f"{name}/decoder{i}", x, 2 if options.sspcab and i == 4 else 3)
    if options.sspcab:
        x = _predictive(steps, f"{name}/predictive", x)
    return steps.parametric(f"{name}/output", "convolution", x, padding=1, dilation=1)


def _predictive(steps: _Steps, name: str, x: str) -> str:
    x = steps.parametric(name, "convolution", x, padding=2, dilation=4)
    x = steps.add(f"{name}/relu", "relu", [x])
    attention = steps.add(f"{name}/means", "mean", [x])
    attention = steps.parametric(f"{name}/squeeze", "dense", attention)
    attention = steps.add(f"{name}/hidden", "relu", [attention])
    attention = steps.parametric(f"{name}/excite", "dense", attention)
    attention = steps.add(f"{name}/attention", "sigmoid", [attention])
    return steps.add(f"{name}/attended", "multiply", [x, attention])


def _discriminative(steps: _Steps, seen: Sequence[str]) -> str:
    name = "discriminative"
    x = seen[0]
    if len(seen) > 1:
        x = steps.add(f"{name}/input", "concatenate", seen)
    *levels, x = steps.encoder(name, x, 6)
    for i in range(1, 6):
        x = steps.add(f"{name}/upsample{i}", "upsample", [x])
        x = steps.stage(f"{name}/up{i}", x, 1)
        x = steps.add(f"{name}/skip{i}", "concatenate", [x, levels.pop()])
        x = steps.stage(f"{name}/decoder{i}", x, 2)
    return steps.parametric(f"{name}/output", "convolution", x, padding=1, dilation=1)

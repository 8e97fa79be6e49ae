"""Where each entry of the authors' state dicts stands in our parameters, and in which order.

The authors' file `model_unet.py` names the entries; anomalib has kept the names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NETWORKS = ("reconstructive", "discriminative")
"""The networks, as our parameters call them."""

FIRST = {
    "reconstructive": "encoder.block1.0.weight",
    "discriminative": "encoder_segment.block1.0.weight",
}
"""The kernel of each network that sees pictures: (width, channels seen, 3, 3)."""

_RECONSTRUCTION_OUT = ("decoder.fin_out.0.weight", "decoder.fin_out.0.bias")


@dataclass(frozen=True)
class Entry:
    """One of a network's arrays.

    Attributes:
        name: in the authors' state dict.
        collection: `params` or `batch_stats`.
        path: where it stands in our tree of that collection, below the network's name.
    """

    name: str
    collection: str
    path: tuple[str, ...]

    @property
    def is_kernel(self) -> bool:
        """Whether it is OIHW in PyTorch and HWIO here."""
        return self.path[-1] == "kernel"

    def from_torch(self, array: np.ndarray) -> np.ndarray:
        """The array as our networks have it."""
        return array.transpose(2, 3, 1, 0) if self.is_kernel else array

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """The array as PyTorch has it."""
        return array.transpose(3, 2, 0, 1) if self.is_kernel else array

    def of(self, variables: Mapping[str, Any], network: str) -> Any:
        """What stands for it in the variables of both networks."""
        found = variables[self.collection][network]
        for part in self.path:
            found = found[part]
        return found


def layers(network: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields for each convolution its name and that of our unit, or our output, in their order.

    A name ends in the index within a `Sequential`; normalisation has the next one.
    """
    if network == "reconstructive":
        for i in range(1, 6):
            yield f"encoder.block{i}.0", (f"encoder{i}", "unit1")
            yield f"encoder.block{i}.3", (f"encoder{i}", "unit2")
        for i in range(1, 5):
            yield f"decoder.up{i}.1", (f"decoder{i}", "unit1")
            yield f"decoder.db{i}.0", (f"decoder{i}", "unit2")
            yield f"decoder.db{i}.3", (f"decoder{i}", "unit3")
        yield "decoder.fin_out.0", ("output",)
        return
    for i in range(1, 7):
        yield f"encoder_segment.block{i}.0", (f"encoder{i}", "unit1")
        yield f"encoder_segment.block{i}.3", (f"encoder{i}", "unit2")
    for i, (up, block) in enumerate(
        (("up_b", "db_b"), ("up1", "db1"), ("up2", "db2"), ("up3", "db3"), ("up4", "db4")), start=1
    ):
        yield f"decoder_segment.{up}.1", (f"up{i}", "unit1")
        yield f"decoder_segment.{block}.0", (f"decoder{i}", "unit1")
        yield f"decoder_segment.{block}.3", (f"decoder{i}", "unit2")
    yield "decoder_segment.fin_out.0", ("output",)


def normalisation(convolution: str) -> str:
    """The name of the normalisation behind a convolution."""
    prefix, _, index = convolution.rpartition(".")
    return f"{prefix}.{int(index) + 1}"


def counter(convolution: str) -> str:
    """The name of what counts the batches that the normalisation behind a convolution has seen."""
    return f"{normalisation(convolution)}.num_batches_tracked"


def entries(network: str) -> Iterator[Entry]:
    """Yields all arrays of a network that our own has as well, in the authors' order."""
    for conv, path in layers(network):
        unit = path if path == ("output",) else (*path, "conv")
        yield Entry(f"{conv}.weight", "params", (*unit, "kernel"))
        yield Entry(f"{conv}.bias", "params", (*unit, "bias"))
        if path == ("output",):
            continue
        norm = normalisation(conv)
        yield Entry(f"{norm}.weight", "params", (*path, "norm", "scale"))
        yield Entry(f"{norm}.bias", "params", (*path, "norm", "bias"))
        yield Entry(f"{norm}.running_mean", "batch_stats", (*path, "norm", "mean"))
        yield Entry(f"{norm}.running_var", "batch_stats", (*path, "norm", "var"))


@dataclass(frozen=True)
class ChannelOrder:
    """In which order networks see what ours see as RGB, the reconstruction before the picture.

    Attributes:
        bgr: blue comes first, as OpenCV reads pictures.
        picture_first: the discriminative network sees the picture before the reconstruction.
    """

    bgr: bool = False
    picture_first: bool = False

    def exchanged(self, name: str, array: np.ndarray) -> np.ndarray:
        """An entry brought from this order to ours, or from ours to it: twice is as it was.

        Args:
            name: of an entry of the authors' state dicts.
            array: as PyTorch has it.
        """
        colours = np.array([2, 1, 0] if self.bgr else [0, 1, 2])
        if name == FIRST["reconstructive"]:
            return array[:, colours]
        if name in _RECONSTRUCTION_OUT:
            return array[colours]
        if name == FIRST["discriminative"]:
            halves = [colours + 3, colours] if self.picture_first else [colours, colours + 3]
            return array[:, np.concatenate(halves)]
        return array


AUTHORS = ChannelOrder(bgr=True)
"""The authors' code reads pictures with OpenCV."""

ANOMALIB = ChannelOrder(picture_first=True)
"""Anomalib gives RGB in [0, 1], as ours, and nothing is normalised."""

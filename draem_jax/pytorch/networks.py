"""The two networks of DRÆM between files of PyTorch and our variables."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from draem_jax.config import default_config
from draem_jax.errors import UserError
from draem_jax.networks import NetworkOptions, trace_initialisation
from draem_jax.pytorch.names import FIRST, NETWORKS, ChannelOrder, counter, entries, layers
from draem_jax.pytorch.pickles import shown
from draem_jax.pytorch.reading import Tensor, TorchFile
from draem_jax.pytorch.writing import ArrayToWrite
from draem_jax.training.state import create_network

# Options that are of training alone.
_OF_TRAINING = ("copied_share",)


@dataclass(frozen=True)
class StateDict:
    """The state dict of one network in a file that is open.

    Attributes:
        file: where it is.
        tensors: its tensors by the authors' names.
    """

    file: TorchFile
    tensors: Mapping[str, Tensor]

    def width(self, network: str) -> int:
        """Channels of the first block.

        Raises:
            UserError: this is not such a network.
        """
        first = self._tensor(FIRST[network], network)
        if len(first.shape) != 4 or not first.shape[0]:
            raise _other_network(self.file.path, network)
        return first.shape[0]

    def read(self, network: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array of a network, float32 and finite.

        Raises:
            UserError: it is missing, has another shape, or is no such array.
        """
        tensor, path = self._tensor(name, network), self.file.path
        if tensor.shape != shape:
            raise UserError(
                f"{path} is not of the authors' {network} network: {name} has the shape "
                f"{tensor.shape}, where {shape} goes with the width of the others"
            )
        if tensor.storage.dtype.kind != "f":
            raise UserError(f"{path} has no floating-point numbers in {name}")
        array = self.file.read(tensor).astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise UserError(f"{path} has numbers in {name} that are not finite; it cannot be used")
        return array

    def counted(self, name: str) -> int | None:
        """What counts batches; None if there is none."""
        tensor = self.tensors.get(name)
        if tensor is None:
            return None
        if tensor.shape or tensor.storage.dtype != np.int64:
            raise UserError(f"{self.file.path} has no whole number in {name}")
        return int(self.file.read(tensor))

    def refuse_others(self, network: str) -> None:
        """Raises UserError if there are tensors that the network has not."""
        known = {entry.name for entry in entries(network)}
        known |= {counter(convolution) for convolution, _ in layers(network)}
        others = [name for name in self.tensors if name not in known]
        if others:
            raise UserError(
                f"{self.file.path} has {shown(others[0])}, which the authors' {network} network "
                "has not; networks with SSPCAB or other changes cannot be imported"
            )

    def _tensor(self, name: str, network: str) -> Tensor:
        if name not in self.tensors:
            raise _other_network(self.file.path, network, lacks=name)
        return self.tensors[name]


def _other_network(path: Path, network: str, *, lacks: str = "") -> UserError:
    why = f" (it has no {lacks})" if lacks else ""
    return UserError(
        f"{path} is not of the authors' {network} network{why}; give the file that its state dict "
        "was saved to"
    )


def without_prefix(tensors: Mapping[str, Tensor], first: str) -> dict[str, Tensor]:
    """The tensors of the network that `first` belongs to, without what stands before its name.

    PyTorch puts `module.` and the like there, for several devices or where networks are parts of
    others. Without such a network all are returned as they are.
    """
    pattern = re.compile(rf"(?:^|.*\.){re.escape(first)}")
    found = [name for name in tensors if pattern.fullmatch(name)]
    prefix = found[0].removesuffix(first) if len(found) == 1 else ""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


class Imported(NamedTuple):
    """Networks that were read from files of PyTorch.

    Attributes:
        params: as `DraemNetwork` has them, on the host.
        batch_stats: the same.
        batches: by the network, and by the name of the counter, how many batches a normalisation
            has seen, where that was known.
    """

    params: dict[str, Any]
    batch_stats: dict[str, Any]
    batches: dict[str, dict[str, int]]


def read_networks(
    states: Mapping[str, StateDict], config: ConfigDict, order: ChannelOrder
) -> Imported:
    """Reads both networks, an array at a time.

    Args:
        states: the state dict of each network by its name.
        config: that says how wide they are.
        order: the order of the channels that they see.

    Raises:
        UserError: they are not the authors' networks of these widths, or damaged.
    """
    shapes = trace_initialisation(create_network(config))[1]
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    batches: dict[str, dict[str, int]] = {}
    for network in NETWORKS:
        state = states[network]
        state.refuse_others(network)
        for entry in entries(network):
            shape = entry.of(shapes, network).shape
            if entry.is_kernel:
                shape = tuple(shape[axis] for axis in (3, 2, 0, 1))
            array = order.exchanged(entry.name, state.read(network, entry.name, shape))
            target = variables[entry.collection].setdefault(network, {})
            for part in entry.path[:-1]:
                target = target.setdefault(part, {})
            target[entry.path[-1]] = np.array(entry.from_torch(array), order="C")
        names = [counter(conv) for conv, path in layers(network) if path != ("output",)]
        counts = {name: state.counted(name) for name in names}
        batches[network] = {name: n for name, n in counts.items() if n is not None}
    return Imported(**variables, batches=batches)


def arrays_of(
    variables: Mapping[str, Any],
    network: str,
    order: ChannelOrder,
    counts: Mapping[str, int],
) -> Iterator[ArrayToWrite]:
    """Yields the entries of a network's state dict, in the order that PyTorch has them in.

    Args:
        variables: `params` and `batch_stats` of both networks.
        network: the name of the network.
        order: the order of the channels that is wanted.
        counts: how many batches each normalisation has seen, by the name of its counter.
    """
    for entry in entries(network):
        array = entry.to_torch(np.asarray(entry.of(variables, network)))
        yield ArrayToWrite(entry.name, order.exchanged(entry.name, array))
        if entry.name.endswith(".running_var"):
            name = entry.name.replace("running_var", "num_batches_tracked")
            yield ArrayToWrite(name, np.array(counts[name], np.int64))


def check_authors_networks(config: ConfigDict) -> None:
    """Raises UserError, naming the field, unless the networks of a config are the authors'."""
    default = default_config().model
    for name in ("variant", *(field.name for field in fields(NetworkOptions))):
        if name not in _OF_TRAINING and config.model[name] != default[name]:
            raise UserError(
                f"the authors' networks have no config.model.{name}={config.model[name]}; only "
                f"those with {name}={default[name]} can be imported or exported"
            )

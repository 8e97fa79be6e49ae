"""Work directories from weights of PyTorch."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from draem_jax import files
from draem_jax.config import check_config, with_absolute_paths
from draem_jax.errors import UserError
from draem_jax.pytorch.anomalib import network_tensors
from draem_jax.pytorch.names import ANOMALIB, AUTHORS, FIRST, ChannelOrder
from draem_jax.pytorch.networks import (
    StateDict,
    check_authors_networks,
    read_networks,
    without_prefix,
)
from draem_jax.pytorch.reading import Tensor, open_torch_file
from draem_jax.training.checkpoints import open_checkpoints
from draem_jax.training.state import TrainState
from draem_jax.training.workdir import claimed_workdir, has_checkpoints

_FILE = "imported.json"


@dataclass(frozen=True)
class Source:
    """Files of weights, and how their networks see pictures.

    Attributes:
        kind: `authors` or `anomalib`.
        files: the file of each network by its name; the same one for both from anomalib.
        order: the order of the channels that the networks see.
    """

    kind: str
    files: Mapping[str, Path]
    order: ChannelOrder

    @classmethod
    def authors(
        cls, reconstructive: str | Path, discriminative: str | Path, *, channels: str = "bgr"
    ) -> "Source":
        """Two state dicts of the authors' `model_unet.py`.

        Args:
            reconstructive: the file of the reconstructive network.
            discriminative: the file of the discriminative network.
            channels: `bgr`, as the authors' code reads pictures, or `rgb`, where they were trained
                by code that reads them so.
        """
        paths = {"reconstructive": Path(reconstructive), "discriminative": Path(discriminative)}
        return cls("authors", paths, AUTHORS if channels == "bgr" else ChannelOrder())

    @classmethod
    def anomalib(cls, path: str | Path) -> "Source":
        """A checkpoint, an exported model or a state dict of anomalib's Draem."""
        return cls("anomalib", dict.fromkeys(FIRST, Path(path)), ANOMALIB)

    @contextmanager
    def opened(self) -> Iterator[dict[str, StateDict]]:
        """Yields the state dict of each network by its name.

        Raises:
            UserError: a file cannot be read, or holds something else.
        """
        if self.kind == "anomalib":
            path = self.files["reconstructive"]
            with open_torch_file(path, allows_foreign=True) as file:
                found = network_tensors(path, file.content)
                yield {network: StateDict(file, found[network]) for network in FIRST}
            return
        with ExitStack() as stack:
            states = {}
            for network, path in self.files.items():
                file = stack.enter_context(open_torch_file(path))
                states[network] = StateDict(file, _network_alone(path, file.content, network))
            yield states


def _network_alone(path: Path, content: Any, network: str) -> dict[str, Tensor]:
    is_state = isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    )
    if not is_state:
        raise UserError(
            f"{path} holds more than the {network} network's state dict; anomalib's files go with "
            "--anomalib"
        )
    return without_prefix(content, FIRST[network])


@dataclass(frozen=True)
class ImportedFrom:
    """Where the networks that a run begins with are from.

    Attributes:
        kind: see `Source`.
        files: the path of each network's file by the network's name, absolute.
        sha256: the digest of each, likewise.
        order: the order of channels that the networks had; it was exchanged for ours.
        batches: by the network and the counter's name, the batches that a normalisation had seen.
    """

    kind: str
    files: Mapping[str, str]
    sha256: Mapping[str, str]
    order: ChannelOrder
    batches: Mapping[str, Mapping[str, int]] = field(repr=False)

    def save(self, workdir: Path) -> None:
        """Writes `WORKDIR/imported.json`."""
        files.write_text(workdir / _FILE, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, workdir: Path) -> "ImportedFrom | None":
        """What a run was imported from; None if it was not.

        Raises:
            UserError: the file is damaged.
        """
        path = workdir / _FILE
        if not path.is_file():
            return None
        try:
            stored = files.parse_json(path.read_text(encoding="utf-8"))
            batches = {
                str(network): {str(name): int(n) for name, n in counts.items()}
                for network, counts in stored["batches"].items()
            }
            stored |= {"order": ChannelOrder(**stored["order"]), "batches": batches}
            return cls(**stored)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UserError(
                f"{path} is damaged, so that it cannot be told what {workdir} was imported from; "
                "restore it, or delete it to go on without"
            ) from error


def import_torch(source: Source, workdir: str | Path, config: ConfigDict) -> ConfigDict:
    """Makes a work directory of networks that PyTorch has saved.

    It evaluates, predicts, is calibrated and fine-tuned as any other; `train` goes on from the
    networks with a new optimizer. They see RGB from here on, whatever they were trained on.

    Args:
        source: the files.
        workdir: the work directory to make.
        config: the config of the run; its widths are replaced by those of the networks.

    Returns:
        The config as it was kept.

    Raises:
        UserError: the files are no networks of DRÆM, are damaged or name what they may not; the
            config is of other networks, or wrong; or `workdir` holds a run or cannot be written.
    """
    workdir, config = Path(workdir), with_absolute_paths(config)
    check_authors_networks(config)
    _refuse_run(workdir)
    with source.opened() as states:
        for network, state in states.items():
            config.model[f"{network}_width"] = state.width(network)
        check_config(config)
        imported = read_networks(states, config, source.order)
    digests = {network: _digest(path) for network, path in source.files.items()}
    begun = TrainState(np.zeros((), np.int32), imported.params, imported.batch_stats, ())
    with claimed_workdir(workdir, config, resume=False):
        _refuse_run(workdir)
        with open_checkpoints(workdir, keep=config.train.keep_checkpoints) as checkpoints:
            checkpoints.save_networks(begun)
        # Last, so that it is never said of networks that are not there.
        ImportedFrom(
            source.kind,
            {network: files.absolute_path(path) for network, path in source.files.items()},
            digests,
            source.order,
            imported.batches,
        ).save(workdir)
    return config


def _refuse_run(workdir: Path) -> None:
    # What a run is trained on is noted before it saves anything.
    if has_checkpoints(workdir) or (workdir / "data.json").exists():
        raise UserError(f"{workdir} holds a run already; choose another --workdir")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Where DRÆM's networks are in files of anomalib.

A checkpoint of Lightning (`.ckpt`) holds a state dict among much else; an exported model (`.pt`) is
the model itself, whose parts hold their tensors; and a state dict alone will do as well.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from draem_jax.errors import UserError
from draem_jax.pytorch.names import FIRST, NETWORKS
from draem_jax.pytorch.pickles import Foreign
from draem_jax.pytorch.reading import Tensor

_LONGEST_NAME = 1000


def network_tensors(path: Path, content: Any) -> dict[str, dict[str, Tensor]]:
    """The tensors of each network, by the authors' names.

    Args:
        path: of the file, for messages.
        content: what is in it.

    Raises:
        UserError: it holds no networks of DRÆM.
    """
    tensors = _all_tensors(content)
    found = {}
    for network in NETWORKS:
        marker = f"{network}_subnetwork."
        prefixes = {
            name[: name.index(marker)] + marker
            for name in tensors
            if marker in name and name.endswith(FIRST[network])
        }
        if len(prefixes) != 1:
            raise UserError(
                f"{path} holds no DRÆM of anomalib ({len(prefixes)} networks called "
                f"{network}_subnetwork); give a checkpoint (.ckpt), an exported model (.pt) or a "
                "state dict of its Draem"
            )
        (prefix,) = prefixes
        found[network] = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
    return found


def _all_tensors(content: Any) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if isinstance(content, dict) and isinstance(content.get("model"), Foreign):
        content = content["model"]
    if isinstance(content, Foreign):
        return dict(_of_module(content))
    return dict(_tensors(content))


def _of_module(module: Foreign) -> Iterator[tuple[str, Tensor]]:
    """Yields all tensors of a module and of those within it, by their names in a state dict."""
    pending, seen = [("", module)], set()
    while pending:
        prefix, module = pending.pop()
        state = module.state
        # A damaged file may have modules within themselves.
        if id(module) in seen or len(prefix) > _LONGEST_NAME or not isinstance(state, dict):
            continue
        seen.add(id(module))
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _tensors(state.get(kind)):
                yield f"{prefix}{name}", tensor
        parts = state.get("_modules")
        for name, part in parts.items() if isinstance(parts, dict) else ():
            if isinstance(part, Foreign) and isinstance(name, str):
                pending.append((f"{prefix}{name}.", part))


def _tensors(group: Any) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in group.items() if isinstance(group, dict) else ():
        if isinstance(name, str) and isinstance(tensor, Tensor):
            yield name, tensor

"""The authors' two files from a work directory."""

from pathlib import Path

from draem_jax import files
from draem_jax.errors import UserError
from draem_jax.pytorch.importing import ImportedFrom
from draem_jax.pytorch.names import AUTHORS, ChannelOrder, counter, layers
from draem_jax.pytorch.networks import arrays_of, check_authors_networks
from draem_jax.pytorch.writing import write_state_dict
from draem_jax.training.workdir import load_run

_SUFFIXES = {"reconstructive": ".pckl", "discriminative": "_seg.pckl"}


def export_torch(
    workdir: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    checkpoint: str = "latest",
    channels: str = "bgr",
) -> list[Path]:
    """Writes the networks of a run as the authors' code saves and loads them.

    Args:
        workdir: the work directory of the run.
        out: the folder to write to; made if it is missing.
        name: what the files are called, `NAME.pckl` and `NAME_seg.pckl`; as the work directory if
            None.
        checkpoint: "latest", "best" or a step.
        channels: `bgr` for the authors' code, which reads pictures so; `rgb` for code that reads
            them as ours.

    Returns:
        The two files.

    Raises:
        UserError: there is no such run or checkpoint, its networks are not the authors', there are
            such files already, or they cannot be written.
    """
    workdir, out = Path(workdir), Path(out)
    name = workdir.resolve().name if name is None else name
    paths = {network: out / f"{name}{suffix}" for network, suffix in _SUFFIXES.items()}
    for path in paths.values():
        if path.parent != out:
            raise UserError(f"--name={name} is a path; give a name alone, and the folder by --out")
        if path.exists():
            raise UserError(f"{path} is there already; choose another --out or --name")
    config, state = load_run(workdir, checkpoint=checkpoint, networks_only=True)
    check_authors_networks(config)
    imported = ImportedFrom.load(workdir)
    order = AUTHORS if channels == "bgr" else ChannelOrder()
    steps = int(state.step)
    for network, path in paths.items():
        known = imported.batches.get(network, {}) if imported else {}
        names = [counter(convolution) for convolution, _ in layers(network)]
        counts = {name: known.get(name, 0) + steps for name in names}
        with files.atomic_path(path) as temporary:
            arrays = arrays_of(state.variables, network, order, counts)
            write_state_dict(temporary, arrays, name=path.stem)
    return list(paths.values())

"""Whether this process is one of several: told by what clusters put into the environment."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

_METADATA = "http://{}/computeMetadata/v1/instance/attributes/worker-network-endpoints"
_SECONDS = 2.0  # the metadata server is on the same machine


def cluster_here(environment: Mapping[str, str] = os.environ) -> str | None:
    """The cluster that started this process as one of several.

    How many there are, and where the first one is, is JAX's to find out. A process that is alone,
    like a shell within an allocation, is never taken for one of several.

    Args:
        environment: the variables of the process.

    Returns:
        The name by which JAX knows the cluster; None if the process is alone.
    """
    if _number(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        return "ompi"
    # SLURM_NTASKS counts the tasks of the allocation where it was not srun that started this one.
    if "SLURM_PROCID" in environment and _number(environment, "SLURM_STEP_NUM_TASKS") > 1:
        return "slurm"
    for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
        if name in environment:
            return "gketpu" if "," in environment[name] else None
    if _has_tpu(environment) and _tpu_workers(environment) > 1:
        return "gcetpu"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        # JAX asks the cluster through it how many there are.
        return "k8s" if importlib.util.find_spec("kubernetes") else None
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else 0


def _has_tpu(environment: Mapping[str, str]) -> bool:
    if "TPU_SKIP_MDS_QUERY" in environment or importlib.util.find_spec("libtpu") is None:
        return False
    if "tpu" not in environment.get("JAX_PLATFORMS", "tpu"):
        return False
    return Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()


def _tpu_workers(environment: Mapping[str, str]) -> int:
    """How many machines the TPU slice has, as Google's metadata server tells; 0 if it does not."""
    import urllib.request  # with all that it needs it takes as long as NumPy

    server = environment.get("GCE_METADATA_IP", "metadata.google.internal")
    request = urllib.request.Request(
        _METADATA.format(server), headers={"Metadata-Flavor": "Google"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return len(answer.read().decode().split(","))
    except (OSError, UnicodeDecodeError):
        return 0

"""Computing one thing in the way that suits the platform, and tracing no other way than that."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

OTHER = "other"
"""A platform that no way is written for, so that the default is taken."""

# Programs that were traced for another platform are not used again: JAX looks at this as well.
_platform: Any = jax.make_user_context(None)


def by_platform(*arguments: Any, default: Callable[..., Any], **ways: Callable[..., Any]) -> Any:
    """Computes in one of several ways.

    It is `lax.platform_dependent`, which traces all ways, since a program may be compiled for a
    platform that is not at hand. Of a train step that takes longer than all the rest together, so
    within `traced_for` there is but one.

    Args:
        arguments: arrays, or trees of arrays, that are given to it.
        default: the way of all platforms that are not named.
        ways: those of platforms by name: "cpu", "cuda", "rocm" or "tpu".

    Returns:
        What the platform's way returns.
    """
    if _platform.value is None:
        return lax.platform_dependent(*arguments, default=default, **ways)
    return ways.get(_platform.value, default)(*arguments)


def traced_for(platform: str) -> Any:
    """A context in which what is traced is for one platform alone.

    Args:
        platform: a name as `by_platform` takes it, or `OTHER`.
    """
    return _platform(platform)


def platform_of(device: jax.Device) -> str:
    """The name of a device's platform, as `by_platform` takes it."""
    if device.platform != "gpu":
        return device.platform
    return "rocm" if "rocm" in device.client.platform_version else "cuda"

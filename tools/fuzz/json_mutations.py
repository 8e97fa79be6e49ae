"""Changes to JSON that leave it JSON, so that what lies behind the parser is reached."""

import copy
import json
import random
from typing import Any

_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, -(2**70), 0.0, -0.0, 0.5, 1e-320, 1e308),
    *(float("nan"), float("inf"), "", "0", "1e999", "a" * 300, "\0", "\ud800", "\u202e"),
    *("../../x", "/tmp/x", "<b>", [], {}, [[]], [None], [1, "a"], {"": 0}, [0] * 100),
)


def mutated(content: bytes, rng: random.Random) -> bytes | None:
    """Changes one value of a JSON text.

    Args:
        content: the text; where it is none, its lines are tried.
        rng: the change is drawn with.

    Returns:
        The text after it; None where nothing in it is JSON.
    """
    whole = _changed(content, rng)
    if whole is not None:
        return whole
    lines = content.split(b"\n")
    number = rng.choice([i for i, line in enumerate(lines) if line.strip()] or [0])
    line = _changed(lines[number], rng)
    return None if line is None else b"\n".join([*lines[:number], line, *lines[number + 1 :]])


def _changed(text: bytes, rng: random.Random) -> bytes | None:
    try:
        root = [json.loads(text)]
    except (ValueError, RecursionError):
        return None
    places = list(_places(root))
    holder, key = rng.choice(places)
    other = rng.choice(places)
    what = rng.randrange(6)
    if what == 0 and isinstance(holder, dict):
        holder[rng.choice(["", "x", "step", "format", key + "x"])] = holder.pop(key)
    elif what == 1 and holder is not root:
        del holder[key]
    elif what == 2:  # with a value from elsewhere
        holder[key] = copy.deepcopy(other[0][other[1]])
    elif what == 3 and type(holder[key]) in (int, float):
        holder[key] *= rng.choice([-1, 2, 10**9])
    elif what == 4 and isinstance(holder[key], list) and holder[key]:
        holder[key] = holder[key] * rng.choice([2, 3, 40])
    else:
        holder[key] = copy.deepcopy(rng.choice(_ODD))
    return json.dumps(root[0]).encode()


def _places(value: Any) -> Any:
    """Each element of each list and object, as what holds it and its key."""
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        for key in range(len(holder)) if isinstance(holder, list) else list(holder):
            yield holder, key
            if isinstance(holder[key], list | dict):
                waiting.append(holder[key])

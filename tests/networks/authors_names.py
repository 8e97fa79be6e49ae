"""Where each entry of the authors' state dicts stands in our parameter tree."""

import jax.numpy as jnp

_DISCRIMINATIVE_STAGES = ("b", "1", "2", "3", "4")


def _locations():
    """Yields (authors' prefix, path of the convolution's unit or output, index of its layer)."""
    rec, dis = "reconstructive", "discriminative"
    for i in range(1, 6):
        for unit, at in ((1, 0), (2, 3)):
            yield f"{rec}.encoder.block{i}", (rec, f"encoder{i}", f"unit{unit}"), at
    for i in range(1, 5):
        yield f"{rec}.decoder.up{i}", (rec, f"decoder{i}", "unit1"), 1
        for unit, at in ((2, 0), (3, 3)):
            yield f"{rec}.decoder.db{i}", (rec, f"decoder{i}", f"unit{unit}"), at
    yield f"{rec}.decoder.fin_out", (rec, "output"), 0
    for i in range(1, 7):
        for unit, at in ((1, 0), (2, 3)):
            yield f"{dis}.encoder_segment.block{i}", (dis, f"encoder{i}", f"unit{unit}"), at
    for i, letter in enumerate(_DISCRIMINATIVE_STAGES, start=1):
        yield (
            f"{dis}.decoder_segment.up_{letter}"
            if letter == "b"
            else (f"{dis}.decoder_segment.up{letter}"),
            (dis, f"up{i}", "unit1"),
            1,
        )
        prefix = f"{dis}.decoder_segment.db" + ("_b" if letter == "b" else letter)
        for unit, at in ((1, 0), (2, 3)):
            yield prefix, (dis, f"decoder{i}", f"unit{unit}"), at
    yield f"{dis}.decoder_segment.fin_out", (dis, "output"), 0


def _put(tree, path, value):
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def from_authors(arrays):
    """Arranges a flat state dict as {"params": …, "batch_stats": …}."""
    variables = {"params": {}, "batch_stats": {}}

    def put(collection, path, name, transpose=False):
        if name in arrays:
            value = arrays[name]
            _put(variables[collection], path, value.transpose(2, 3, 1, 0) if transpose else value)

    for prefix, path, at in _locations():
        conv = path if path[-1] == "output" else (*path, "conv")
        put("params", (*conv, "kernel"), f"{prefix}.{at}.weight", transpose=True)
        put("params", (*conv, "bias"), f"{prefix}.{at}.bias")
        if path[-1] != "output":
            norm = (*path, "norm")
            put("params", (*norm, "scale"), f"{prefix}.{at + 1}.weight")
            put("params", (*norm, "bias"), f"{prefix}.{at + 1}.bias")
            put("batch_stats", (*norm, "mean"), f"{prefix}.{at + 1}.running_mean")
            put("batch_stats", (*norm, "var"), f"{prefix}.{at + 1}.running_var")
    return variables


def nhwc(array):
    return jnp.moveaxis(jnp.asarray(array), 1, -1)

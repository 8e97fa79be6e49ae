"""Devices that do not agree are noticed before what they hold is saved."""

import jax
import numpy as np
import pytest

from draem_jax.errors import UserError
from draem_jax.training import loop, parallel
from draem_jax.training.loop import train
from draem_jax.training.replicas import refuse_different
from draem_jax.training.state import TrainState
from draem_jax.training.workdir import load_run


def _with_other_copy(array, device):
    """The array with the lowest bit of its last element flipped on one device."""
    copies = [np.array(shard.data) for shard in array.addressable_shards]
    copies[device].reshape(-1)[-1:].view(np.uint32)[...] ^= 1
    placed = [
        jax.device_put(copy, shard.device)
        for copy, shard in zip(copies, array.addressable_shards, strict=True)
    ]
    return jax.make_array_from_single_device_arrays(array.shape, array.sharding, placed)


def test_one_bit_on_one_device_is_noticed():
    params = {"a": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}, "b": np.ones(5)}
    state = parallel.replicate(TrainState(np.int32(7), params, {"mean": np.zeros(3)}, ()))
    refuse_different(state)
    params = state.params | {"a": {"kernel": _with_other_copy(state.params["a"]["kernel"], 2)}}
    with pytest.raises(
        UserError, match=r"after step 7 .*: \S+2\S* has other numbers in params\.a\.kernel than"
    ):
        refuse_different(state.replace(params=params))


@pytest.mark.long
@pytest.mark.tiny_programs
def test_what_devices_do_not_agree_on_is_not_saved(tmp_path, tiny_config, trained, monkeypatch):
    make = loop._mapped_train_steps

    def mapped(*arguments):
        train_steps = make(*arguments)

        def one_differs(state, *rest):
            state, losses = train_steps(state, *rest)
            if int(state.step) == 4:
                stats = jax.tree.map(lambda array: _with_other_copy(array, 3), state.batch_stats)
                state = state.replace(batch_stats=stats)
            return state, losses

        return one_differs

    monkeypatch.setattr(loop, "_mapped_train_steps", mapped)
    workdir = tmp_path / "run"
    with pytest.raises(UserError, match="after step 4 the devices do not agree: "):
        train(tiny_config(), workdir, quiet=True)
    assert int(load_run(workdir)[1].step) == 2
    monkeypatch.undo()
    train(tiny_config(), workdir, quiet=True)
    jax.tree.map(np.testing.assert_array_equal, load_run(workdir)[1], load_run(trained)[1])

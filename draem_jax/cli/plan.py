"""`draem-jax plan`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from absl import flags

from draem_jax.cli.common import Verb, define_cpu_devices, say
from draem_jax.errors import UserError

_CPU = "cpu"
_ROWS = 8


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "device", None, "Plan for this device, which need not be here, such as h100 or v5e; an "
        "unknown one lists all. If not given, a few steps are made on those at hand.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "devices", None, "With --device: how many share the batch; 1 if not given.",
        lower_bound=1, upper_bound=2**16, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_float(
        "utilisation", 0.4, "With --device: share of the maker's peak rate that is taken for "
        "reached, to estimate the time.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "pictures", None, "Normal pictures, where the data are not here to be counted.",
        lower_bound=1, upper_bound=2**31 - 1, flag_values=values,
    )  # fmt: skip
    define_cpu_devices(values)


@dataclass(frozen=True)
class _Devices:
    """What is planned for.

    Attributes:
        text: what it is, for people.
        count: how many share the batch.
        room: bytes that each has for a run; None where that is not known.
        is_cpu: whether they are CPUs.
    """

    text: str
    count: int
    room: int | None = None
    is_cpu: bool = False


def _run(values: Any) -> None:
    if not 0 < values.utilisation <= 1:
        raise UserError(
            f"--utilisation={values.utilisation:g} must lie above 0 and up to 1; 0.4 is 40 % of "
            "the maker's peak"
        )
    if values.device is None and values.devices is not None:
        raise UserError("--devices needs --device=NAME; those at hand are all used")
    if values.device is None:
        _plan_here(values)
    else:
        _plan_elsewhere(values)


def _plan_elsewhere(values: Any) -> None:
    import jax

    from draem_jax.training.accelerators import ACCELERATORS
    from draem_jax.training.forecast import about, size_text
    from draem_jax.training.plan import make_plan, usable_memory

    known = {accelerator.name: accelerator for accelerator in ACCELERATORS}
    if values.device not in (*known, _CPU):
        raise UserError(
            f"--device={values.device} is unknown; choose one of {', '.join(known)} and {_CPU}, or "
            "leave it out to measure on the devices at hand"
        )
    jax.config.update("jax_platforms", "cpu")  # devices at hand may be busy, and are not needed
    plan = make_plan(values.config, pictures=values.pictures, cpu=values.device == _CPU)
    count = values.devices or 1
    if values.device == _CPU:
        time = "is measured where --device is left out, on the devices at hand"
        _say_plan(plan, _Devices("CPU", count, is_cpu=True), [("time", time)])
        return
    accelerator, share = known[values.device], values.utilisation
    seconds = plan.seconds_per_step(accelerator, devices=count, utilisation=share)
    peak = accelerator.peak(plan.config.model.dtype)
    room = usable_memory(accelerator)
    text = f"{accelerator.title} with {size_text(accelerator.memory)} of memory"
    if room < accelerator.memory:
        text += (
            f", of which JAX takes {size_text(room)}\n(XLA_PYTHON_CLIENT_MEM_FRACTION=0.9 lets it "
            "take more)"
        )
    _say_plan(
        plan,
        _Devices(text, count, room),
        [
            (
                "time",
                f"{about(seconds * plan.config.train.steps)}, an estimate: {_pace(plan, seconds)}\n"
                f"if convolutions reach {share:.0%} of the maker's peak of {_flop(peak)}/s "
                f"(--utilisation={share:g});\nreading, validation and compiling come on top",
            )
        ],
    )


def _plan_here(values: Any) -> None:
    import jax

    from draem_jax.training import parallel
    from draem_jax.training.forecast import about, size_text
    from draem_jax.training.measure import measure_steps
    from draem_jax.training.plan import make_plan

    parallel.use_cpu_devices(values.cpu_devices, dividing=max(1, values.config.train.batch_size))
    is_cpu = parallel.platform() == "cpu"
    plan = make_plan(values.config, pictures=values.pictures, cpu=is_cpu)
    parallel.samples_per_device(plan.config.train.batch_size)
    say("measuring ...")
    measured = measure_steps(plan.config, plan.data)
    device, seconds = jax.local_devices()[0], measured.seconds_per_step
    room = None if is_cpu else (device.memory_stats() or {}).get("bytes_limit")
    made = f"{measured.steps} steps" if measured.steps > 1 else "one step"
    _say_plan(
        plan,
        _Devices(f"{device.device_kind}, at hand", parallel.device_count(), room, is_cpu),
        [
            (
                "time",
                f"{about(seconds * plan.config.train.steps)}: {_pace(plan, seconds)},\n"
                f"measured on {made} with made-up pictures, {_flop(plan.step_flops / seconds)}/s;\n"
                f"compiling took {about(measured.compiling)}; reading and validation come on top",
            ),
            ("compiled", f"a step works in {size_text(measured.nbytes)} on each device"),
        ],
    )


def _say_plan(plan: Any, devices: _Devices, more: Sequence[tuple[str, str]]) -> None:
    from draem_jax.training import parallel

    samples = parallel.samples_per_device(plan.config.train.batch_size, devices=devices.count)
    lines = [
        ("device", f"{devices.count} x {devices.text}"),
        *_describe(plan),
        *more,
        ("memory", _verdict(plan, devices, samples)),
    ]
    for name, text in lines:
        for line in text.split("\n"):
            say(f"{name:<10} {line}")
            name = ""
    for line in _table(plan, devices, samples):
        say(line)


def _describe(plan: Any) -> Iterator[tuple[str, str]]:
    from draem_jax.config import image_size, is_tiled
    from draem_jax.training.forecast import size_text

    config, data, train = plan.config, plan.data, plan.config.train
    height, width = image_size(config)
    what = "tiles" if is_tiled(config) else "pictures"
    seen = train.steps * train.batch_size / data.normal
    times = f"{seen:.0f} times" if seen >= 10 else f"{seen:.1f} times"
    yield (
        "run",
        f"{train.steps} steps of {train.batch_size} {what}, {height} x {width}, in "
        f"{config.model.dtype}; each picture is seen {times}",
    )
    where = "stream to the devices" if data.streams else "stay on each device"
    assumed = f" ({data.assumed})" if data.assumed else ""
    yield (
        "data",
        f"{data.normal} normal pictures{assumed}, {data.textures} textures;\n"
        f"{size_text(data.nbytes)} {where}"
        + (f"\nif normal pictures have {data.assumed_size} pixels" if data.assumed_size else ""),
    )
    parts = sorted(plan.parameters.items(), reverse=True)
    total = sum(plan.parameters.values()) / 1e6
    yield (
        "networks",
        " + ".join(f"{name} {count / 1e6:.3g}" for name, count in parts)
        + (f" = {total:.3g}" if len(parts) > 1 else "")
        + " million parameters",
    )
    yield (
        "state",
        f"{size_text(sum(plan.state.values()))} on each device: "
        + ", ".join(f"{name} {size_text(nbytes)}" for name, nbytes in plan.state.items()),
    )
    yield "work", f"{_flop(plan.step_flops)} a step, {_flop(plan.step_flops * train.steps)} in all"


def _verdict(plan: Any, devices: _Devices, samples: int) -> str:
    """Whether the run fits, and what to change where it does not."""
    from draem_jax.config import is_tiled
    from draem_jax.training.forecast import size_text

    remat, count = plan.config.model.remat, devices.count
    needs = plan.nbytes(samples, remat=remat)
    text = f"{size_text(needs)} on each device, at most about"
    if devices.room is None:
        return text
    text += f", of {size_text(devices.room)}"
    if needs <= devices.room:
        return f"fits: {text}"
    text = f"does not fit: {text};"
    most = {each: plan.most_samples(devices.room, remat=each) for each in (False, True)}
    if not most[True]:
        alone = plan.memory[True].train.peak(1) < plan.memory[True].validation
        less = "fewer --config.train.validation_pictures, " if alone else ""
        seen = "tile" if is_tiled(plan.config) else "image_size"
        return f"{text}\ntake {less}a smaller\n--config.data.{seen}, or smaller networks"
    ways = [f"--config.train.batch_size={most[remat] * count}"] if most[remat] else []
    if not remat and most[True] >= samples:
        ways.append("--config.model.remat=True")
    elif not remat:
        ways.append(f"--config.train.batch_size={most[True] * count} --config.model.remat=True")
    return f"{text}\ntake {' or '.join(ways)}"


def _table(plan: Any, devices: _Devices, samples: int) -> Iterator[str]:
    """What a device needs by the size of the batch, and whether it has as much."""
    from draem_jax.training.forecast import size_text

    room = devices.room
    # XLA's compiler for CPUs computes nothing again.
    remats = (False,) if devices.is_cpu else (False, True)
    most = [plan.most_samples(room, remat=remat) if room else 4 * samples for remat in remats]
    rows = sorted({samples, *(2**power for power in range(max(samples, *most, 1).bit_length()))})
    near = max(0, rows.index(samples) - _ROWS // 2)
    heads = ("", "  with --config.model.remat=True")
    yield ("\n" + f"{'batch':>12}   {'needs':<16}" + "".join(heads[: len(remats)]).strip()).rstrip()
    for each in rows[near : near + _ROWS]:
        cells = []
        for remat in remats:
            needs = plan.nbytes(each, remat=remat)
            fits = "" if room is None else "  fits" if needs <= room else "  no"
            cells.append(f"{size_text(needs) + fits:<16}")
        mark = "<- --config.train.batch_size" if each == samples else ""
        yield (f"{each * devices.count:>12}   {''.join(cells)}{mark}").rstrip()
    if room and all(most):
        plain, again = (each * devices.count for each in most)
        yield (
            f"The largest batch that fits is about {plain}, or {again} with remat, which takes a "
            "third more time."
        )


def _pace(plan: Any, seconds: float) -> str:
    each = f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
    return f"{each} a step, {plan.config.train.batch_size / seconds:.3g} pictures a second"


def _flop(count: float) -> str:
    units = {"G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
    unit = [unit for unit, size in units.items() if unit == "G" or count >= size][-1]
    return f"{count / units[unit]:.3g} {unit}FLOP"


VERB = Verb(
    "plan",
    "Tell what a run needs: memory, work and time, before it starts.",
    """\
    Does it fit, and how long will it take? Counts parameters, memory and operations of the
    config's run, and writes nothing. For a device that is not here the time is an estimate, at a
    share of its maker's peak; on the devices at hand a few true steps are made.

      draem-jax plan --config=configs/mvtec_ad.py:full --device=h100
      draem-jax plan --config=configs/mvtec_ad.py:full --device=v5e --devices=8 \\
          --config.train.batch_size=64
      draem-jax plan --config=configs/folder.py:small --config.data.root=photos/
    """,
    _define,
    _run,
    config="run",
)

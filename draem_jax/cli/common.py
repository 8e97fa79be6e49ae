"""What the verbs share: their form, and flags of several."""

import io
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from absl import flags

from draem_jax.errors import PartialError, StoppedError, UserError
from draem_jax.files import ESCAPE, expand
from draem_jax.hosts.joining import TIMEOUT, is_first, join, leave
from draem_jax.regions.rule import PixelRule, RegionRule

PROGRAM = "draem-jax"

_STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What steers a terminal, breaks a line, or turns the direction of what stands beside it."""

ConfigKind = Literal["run", "study"]


@dataclass(frozen=True)
class Verb:
    """What `draem-jax NAME` does.

    Attributes:
        name: the word or the two words on the command line.
        summary: one line.
        help: what a newcomer should know, with an example.
        define: defines the verb's flags.
        run: does it, given the parsed flags.
        config: what --config and --config.FIELD give the verb: "run", "study" or "" for none.
        needs_config: whether --config must be given; without it the fields have their defaults.
        run_config: group of the fields that the verb changes in the config of the run that
            --workdir names, by --config.GROUP.FIELD; "" for none.
        argument: what the one word after the verb's name stands for, like NAME, and is given to
            `run` as well; "" for none.
        computes: whether it runs programs that JAX compiles, which are kept for the next time.
        on_hosts: whether processes on several hosts may do it together. What `say` and `warn` are
            given is printed by the first of them alone.
    """

    name: str
    summary: str
    help: str
    define: Callable[[flags.FlagValues], None]
    run: Callable[..., None]
    config: ConfigKind | Literal[""] = ""
    needs_config: bool = True
    run_config: str = ""
    argument: str = ""
    computes: bool = True
    on_hosts: bool = False


def prepare_output() -> None:
    """Lets whatever is printed be printed, in any encoding: what it lacks is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPE)


def say(text: str) -> None:
    """Prints lines; what would steer the terminal, as names of files may, is escaped."""
    if is_first():
        print("\n".join(map(shown, text.split("\n"))), flush=True)


def warn(text: str) -> None:
    """Prints a warning on the error output, as one line, as `say` does."""
    if is_first():
        print(f"{PROGRAM}: warning: {one_line(text)}", file=sys.stderr, flush=True)


def say_warnings(lines: Iterable[str]) -> None:
    """Says on the error output what the user should know, one line each."""
    for line in lines:
        warn(line)


def tell_left_out(left_out: Mapping[str, int], notes: Iterable[str] = ()) -> None:
    """Says on the error output what of a folder was left out, and notes on how it was read."""
    say_warnings([f"left out: {count} {kind}" for kind, count in left_out.items()])
    say_warnings(notes)


def one_line(text: object) -> str:
    """A text without line breaks, and without what would steer the terminal."""
    return shown(" ".join(str(text).split()))


def shown(name: object) -> str:
    """A name as part of a line: what would break the line or steer the terminal is escaped."""
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(name))


class _PathParser(flags.ArgumentParser[str]):
    """Puts the home in the place of `~`, which shells leave alone behind an equals sign."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return str(expand(argument)) if argument.startswith("~") else argument

    def flag_type(self) -> str:
        return "path"


def define_path(values: flags.FlagValues, name: str, default: str | None, text: str) -> None:
    """Defines a flag whose value is a path; `~` in it stands for the home."""
    flags.DEFINE(_PathParser(), name, default, text, values, flags.ArgumentSerializer())


def define_workdir(values: flags.FlagValues, text: str) -> None:
    """Defines --workdir."""
    define_path(values, "workdir", None, text)


def parse_workdir(values: Any) -> Path:
    """The path that --workdir names.

    Raises:
        UserError: it was not given.
    """
    if not values.workdir:
        raise UserError("--workdir=DIRECTORY is missing")
    return Path(values.workdir)


def define_checkpoint(values: flags.FlagValues) -> None:
    """Defines --checkpoint."""
    flags.DEFINE_string(
        "checkpoint", "latest", "latest, best (least loss on simulated anomalies) or a step.",
        flag_values=values,
    )  # fmt: skip


def define_batch_size(values: flags.FlagValues) -> None:
    """Defines --batch_size."""
    flags.DEFINE_integer(
        "batch_size", None, "Pictures that the devices take at once; the config's "
        "evaluation.batch_size if not given.", lower_bound=1, upper_bound=2**16,
        flag_values=values,
    )  # fmt: skip


def define_roi(values: flags.FlagValues) -> None:
    """Defines --roi and --ignore_border."""
    define_path(
        values, "roi", None, "Where to look, in the place of config.data.roi: a mask for all "
        "pictures (white where to look), a folder of masks, foreground, or nothing for everywhere.",
    )  # fmt: skip
    flags.DEFINE_integer(
        "ignore_border", None, "Pixels along the pictures' sides that are not looked at, in the "
        "place of config.data.ignore_border.", lower_bound=0, flag_values=values,
    )  # fmt: skip


def define_smallest_defect(values: flags.FlagValues) -> None:
    """Defines --smallest_defect."""
    flags.DEFINE_float(
        "smallest_defect", None, "How large the smallest defect that matters is across, in pixels "
        "of the pictures as they were taken: says what of it the networks see, and recommends a "
        "scale.", flag_values=values,
    )  # fmt: skip


def check_smallest_defect(values: Any) -> None:
    """Raises UserError unless --smallest_defect can be a size, or was not given."""
    size = values.smallest_defect
    if size is not None and not 0 < size < math.inf:
        raise UserError(
            f"--smallest_defect={size:g} is no size; give the pixels that the smallest defect is "
            "across in the pictures as they were taken, such as 12"
        )


def tell_roi(values: Any) -> None:
    """Says what it means for thresholds if the flags of `define_roi` say where to look."""
    if values.roi is not None or values.ignore_border is not None:
        say(
            "looking where --roi and --ignore_border say; thresholds for this region are its own, "
            "and kept beside the run's"
        )


def load_calibrated(
    values: Any, workdir: Path, *, roi: str | None = None, ignore_border: int | None = None
) -> Any:
    """The detector that the flags of `define_detection` name, with thresholds if it can have any.

    Decides which devices JAX shows, by --cpu_devices, so it must come before JAX is used.

    Args:
        values: the flags.
        workdir: the work directory of the run.
        roi: where to look; where the run was trained to look if None.
        ignore_border: pixels along the sides to leave out; as the run does if None.
    """
    from draem_jax.detector import Draem
    from draem_jax.evaluation.calibration import calibrated
    from draem_jax.training.parallel import use_cpu_devices

    use_cpu_devices(values.cpu_devices)
    detector = Draem.load(
        workdir,
        checkpoint=values.checkpoint,
        batch_size=values.batch_size,
        roi=roi,
        ignore_border=ignore_border,
    )
    if line := detector.roi_warning():
        warn(line)
    return calibrated(detector)


def define_regions(values: flags.FlagValues) -> None:
    """Defines --min_area, --join_gap, --pixel_threshold and --alpha."""
    flags.DEFINE_float(
        "min_area", RegionRule.min_area, "Regions of fewer pixels are left out.", lower_bound=0,
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_float(
        "join_gap", RegionRule.join_gap, "Regions with fewer pixels than this between them become "
        "one.", lower_bound=0, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "pixel_threshold", "best_f1", get_args(PixelRule), "How anomalous a pixel must be for "
        "a region to begin: best_f1, above what separates simulated anomalies best (0.5 in the map "
        "where no pictures were held out); conformal, above what leaves all but the share --alpha "
        "of normal pictures without a region.", flag_values=values,
    )  # fmt: skip
    define_alpha(values)


def define_detection(values: flags.FlagValues) -> None:
    """Defines the flags that say which detector looks for regions, on what, and which it finds."""
    define_regions(values)
    define_checkpoint(values)
    define_batch_size(values)
    define_cpu_devices(values)


def check_detection(values: Any, verb: str, *needed: str) -> None:
    """Raises UserError unless a verb's needed flags are there and those of regions make sense."""
    for name in needed:
        if not values[name].value:
            raise UserError(f"--{name} is missing; see `{PROGRAM} {verb} --help`")
    check_alpha(values.alpha)
    for name in ("min_area", "join_gap"):
        if math.isnan(values[name].value):
            raise UserError(f"--{name} is not a number; give one from 0 up")


def region_rule(values: Any, detector: Any) -> RegionRule:
    """What the flags of `define_regions` call a region, for a detector."""
    return detector.region_rule(
        pixel_rule=values.pixel_threshold,
        alpha=values.alpha,
        join_gap=values.join_gap,
        min_area=values.min_area,
    )


def raise_left_out(errors: Sequence[str], given: int, table: Path) -> None:
    """Raises PartialError where pictures were left out; it says how many, and where to look.

    Args:
        errors: of each that was, why.
        given: how many pictures there are.
        table: that names them in its column error.
    """
    if errors:
        raise PartialError(
            f"{len(errors)} of {given} pictures {'were' if len(errors) > 1 else 'was'} left out; "
            f"see the column error of {table}; the first: {errors[0]}"
        )


def define_alpha(values: flags.FlagValues) -> None:
    """Defines --alpha."""
    flags.DEFINE_float(
        "alpha", 0.05, "The share of normal pictures that may be called anomalous; decisions need "
        "normal pictures that were held out from training (config.data.holdout).",
        flag_values=values,
    )  # fmt: skip


def check_alpha(alpha: float) -> None:
    """Raises UserError unless `alpha` can be a false-alarm rate."""
    if not 0 < alpha < 1:
        raise UserError(f"--alpha={alpha:g} must lie between 0 and 1; 0.01 is one in a hundred")


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar on a terminal; yields what is to be called with the numbers done and in all."""
    from tqdm import tqdm

    with tqdm(unit=unit, disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def define_cpu_devices(values: flags.FlagValues) -> None:
    """Defines --cpu_devices."""
    flags.DEFINE_integer(
        "cpu_devices", 0, "On CPUs: devices to split the batch over; 0 for one a core.",
        lower_bound=0, upper_bound=1024, flag_values=values,
    )  # fmt: skip


def define_processes(values: flags.FlagValues) -> None:
    """Defines --processes and --process."""
    flags.DEFINE_integer(
        "processes", None, "How many processes work together, each of which is given its "
        "--process; 1 for one that is to work alone. Not needed under Slurm, Open MPI, on TPU pods "
        "and in indexed jobs of Kubernetes.", lower_bound=1, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "process", None, "Which of them this one is, from 0.", lower_bound=0, flag_values=values,
    )  # fmt: skip


def define_hosts(values: flags.FlagValues) -> None:
    """Defines --coordinator, --processes, --process and --join_timeout."""
    flags.DEFINE_string(
        "coordinator", None, "On several hosts: HOST:PORT of process 0, where --processes and "
        "--process are given.", flag_values=values,
    )  # fmt: skip
    define_processes(values)
    flags.DEFINE_float(
        "join_timeout", TIMEOUT, "Seconds to wait for the other processes to start.",
        lower_bound=0, flag_values=values,
    )  # fmt: skip


@contextmanager
def joined_hosts(values: Any) -> Iterator[None]:
    """Does what is within together with the processes that the flags of `define_hosts` name.

    It must come before JAX is used, and does nothing where a process is alone.
    """
    join(
        coordinator=values.coordinator,
        processes=values.processes,
        process=values.process,
        timeout=values.join_timeout,
    )
    # JAX is imported by the verbs that need it.
    from draem_jax.hosts.talking import together

    try:
        with together():
            yield
    except StoppedError:
        leave()
        raise
    leave()


def define_compilation_cache(values: flags.FlagValues) -> None:
    """Defines --compilation_cache."""
    define_path(
        values, "compilation_cache", "auto", "A folder that nobody else may write to, to keep "
        "compiled programs in, so that the next start is quick; off for none. auto is "
        "~/.cache/draem_jax/compiled, unless JAX_COMPILATION_CACHE_DIR is set.",
    )  # fmt: skip


def keep_compiled_programs(values: Any) -> None:
    """Keeps the programs that are compiled from here on where --compilation_cache says."""
    # JAX is imported by the verbs that need it.
    from draem_jax import compilation_cache

    compilation_cache.keep_compiled_programs(values.compilation_cache)


def define_stopped_status(values: flags.FlagValues) -> None:
    """Defines --stopped_status."""
    flags.DEFINE_integer(
        "stopped_status", None, "Exit status where SIGTERM or Ctrl-C has stopped it before it was "
        "done; 143 and 130 if not given. 0 for a scheduler that must not take it for failed.",
        lower_bound=0, upper_bound=255, flag_values=values,
    )  # fmt: skip


def define_training(values: flags.FlagValues) -> None:
    """Defines --stopped_status and --cpu_devices, for verbs that train on all devices."""
    define_stopped_status(values)
    define_cpu_devices(values)


@contextmanager
def stopped_status(values: Any) -> Iterator[None]:
    """Lets a run that was stopped end with the status of --stopped_status, if it was given."""
    try:
        yield
    except StoppedError as error:
        if values.stopped_status is not None:
            error.exit_code = values.stopped_status
        raise

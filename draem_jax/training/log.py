"""What a run tells while it goes: progress bar, JSON lines, TensorBoard, sample grids."""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from draem_jax import files
from draem_jax.errors import CannotWriteError, DivergedError
from draem_jax.hosts.joining import is_first
from draem_jax.losses import Losses
from draem_jax.reports.pictures import write_png
from draem_jax.training.board import Board
from draem_jax.training.full_disk import FullDisk, stopped
from draem_jax.training.speed import Computation


class RunLog:
    """Receives each step's losses and tells their means at intervals.

    Of processes that train together the first one tells. Made by `open_log`.

    Attributes:
        full_disk: what becomes of the run where the disk is full. Where it goes on, lines of
            `metrics.jsonl` are written once there is room.
    """

    def __init__(
        self,
        workdir: Path,
        config: ConfigDict,
        *,
        steps: range,
        remedy: str,
        computation: Computation | None,
        quiet: bool,
    ):
        start, total = steps.start, steps.stop
        self._workdir = workdir
        self._every = config.train.log_every
        self._batch_size = config.train.batch_size
        self._remedy = remedy
        self._computation = computation
        self._writes = is_first()
        self._quiet = quiet = quiet or not self._writes
        self._losses: list[dict[str, float]] = []
        # Seconds and steps since the last line, of which the rate is, so that it shows when a run
        # becomes slower. The first call compiles, so it does not count.
        self._seconds, self._counted = 0.0, 0
        self._since: float | None = None
        self._step = start
        self.full_disk = FullDisk(config.train.on_full_disk)
        self._path = workdir / "metrics.jsonl"
        self._unwritten = b""
        self._board: Board | None = None
        self._begin_files(start)
        interactive = sys.stderr.isatty() and not quiet
        self._bar = tqdm(
            total=total, initial=start, unit="step", disable=not interactive, dynamic_ncols=True
        )
        self._total = total

    def steps(self, losses: Losses) -> None:
        """Takes the losses of the next steps, arrays with one entry each.

        Raises:
            DivergedError: a loss is not finite.
        """
        rows = list(zip(*(np.asarray(part) for part in losses), strict=True))
        now, since = time.perf_counter(), self._since
        self._since = now
        for values in rows:
            self._step += 1
            if since is not None:
                self._seconds += (now - since) / len(rows)
                self._counted += 1
            one = dict(zip(Losses._fields, map(float, values), strict=True))
            self._losses.append(one)
            if not math.isfinite(one["total"]):
                raise self._diverged(
                    f"the loss of step {self._step} is not finite ({_describe(one)})", self._step
                )
            if self._step % self._every == 0 or self._step == self._total:
                self._tell()
        self._bar.update(self._step - self._bar.n)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done within is no part of the rate."""
        start = time.perf_counter()
        yield
        if self._since is not None:
            self._since += time.perf_counter() - start

    def validation(self, step: int, loss: float) -> None:
        """Writes the loss on samples that are never trained on.

        Raises:
            DivergedError: it is not finite.
        """
        if not math.isfinite(loss):
            what = f"after step {step} the parameters give a loss that is not finite"
            raise self._diverged(what, step)
        self.metrics(step, {"validation_loss": loss})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers to the JSON-lines file and to TensorBoard.

        Raises:
            CannotWriteError: they cannot be written, see `full_disk`.
        """
        if self._board is None:
            return
        was_behind = bool(self._unwritten)
        self._unwritten += (json.dumps({"step": step, **values}) + "\n").encode()
        try:
            self._write()
            self._board.numbers(step, values)
        except CannotWriteError as error:
            if not self.full_disk.is_borne(error):
                raise stopped(error) from error
            if not was_behind:
                with self.full_disk.borne("the run goes on, and writes its metrics later"):
                    raise

    def grid(self, step: int, sheet: UInt8[np.ndarray, "H W 3"]) -> None:
        """Writes a sheet of samples to `samples/` and to TensorBoard."""
        if self._board is None:
            return
        with self.full_disk.borne("the run goes on without this sheet"):
            write_png(self._workdir / "samples" / f"step_{step:07d}.png", sheet)
            self._board.sheet(step, "samples", sheet)

    def go_back(self, step: int) -> None:
        """Forgets all that was told of the steps behind `step`, which are made again.

        Raises:
            CannotWriteError: that cannot be written, as on a full disk.
        """
        self._losses.clear()
        self._seconds, self._counted, self._since = 0.0, 0, None
        self._step = step
        self._begin_files(step)
        self._bar.update(step - self._bar.n)

    def say(self, text: str) -> None:
        """Prints a line without disturbing the bar."""
        if not self._quiet:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar, and writes what a full disk has left to be written.

        Raises:
            CannotWriteError: the disk is full still.
        """
        self._bar.close()
        if self._unwritten:
            self._write()

    def _begin_files(self, step: int) -> None:
        """Forgets what the files say of steps behind `step`."""
        if not self._writes:
            return
        if self._unwritten:
            self._write()
        files.write_text(self._path, _steps_up_to(step, self._path))
        self._board = Board(self._workdir / "tensorboard", start=step)

    def _write(self) -> None:
        files.append(self._path, self._unwritten)
        self._unwritten = b""

    def _diverged(self, what: str, step: int) -> DivergedError:
        message = f"{what}; the last good checkpoint stays. {self._remedy}"
        return DivergedError(message, what=what, step=step)

    def _tell(self) -> None:
        means = {
            name: sum(losses[name] for losses in self._losses) / len(self._losses)
            for name in Losses._fields
        }
        self._losses.clear()
        speed = self._speed()
        self.metrics(self._step, means | speed)
        rate = speed.get("images_per_second")
        told = f", {_tell_speed(speed)}" if rate else ""
        self._bar.set_postfix_str(f"{_describe(means)}{told}")
        if self._bar.disable:
            left = (self._total - self._step) * self._batch_size / rate if rate else None
            tail = f", {duration(left)} left" if left is not None else ""
            self.say(f"step {self._step}/{self._total}: {_describe(means)}{told}{tail}")

    def _speed(self) -> dict[str, float]:
        """The rate since the last line, and what is said of it; begins to count anew."""
        seconds, counted = self._seconds, self._counted
        self._seconds, self._counted = 0.0, 0
        if not counted:
            return {}
        rate = self._batch_size * counted / seconds
        return {"images_per_second": rate} | (
            self._computation.speed(rate) if self._computation else {}
        )


@contextmanager
def open_log(
    workdir: Path,
    config: ConfigDict,
    *,
    steps: range,
    remedy: str,
    computation: Computation | None = None,
    quiet: bool = False,
) -> Iterator[RunLog]:
    """Opens a run's log, and closes it at the end.

    Args:
        workdir: the work directory of the run; `metrics.jsonl`, `tensorboard/` and `samples/` are
            kept there.
        config: the config of the run: over how many steps a mean is taken, how large a batch is,
            and what to do where the disk is full.
        steps: that are still to be made, of the whole run. What an earlier process logged beyond
            their start is forgotten, since those steps are made again.
        remedy: a sentence on what to do when a loss is not finite.
        computation: what training computes, by which operations a second are told.
        quiet: print nothing.
    """
    log = RunLog(workdir, config, steps=steps, remedy=remedy, computation=computation, quiet=quiet)
    try:
        yield log
    except BaseException:
        with suppress(CannotWriteError):  # which would hide what is being raised
            log.close()
        raise
    log.close()


def _steps_up_to(step: int, path: Path) -> str:
    """The lines of a file, which may be missing, up to those of a step."""
    kept = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            if files.parse_json(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a killed run may be cut
    return "".join(kept)


def _describe(values: Mapping[str, float]) -> str:
    # A loss that is exactly 0 is one that the run does not have.
    return " ".join(f"{name} {value:.4g}" for name, value in values.items() if value)


def _tell_speed(speed: Mapping[str, float]) -> str:
    text = f"{speed['images_per_second']:.1f} img/s"
    if "tflops" in speed:
        text += f", {speed['tflops']:.1f} TFLOP/s"
    if "share_of_peak" in speed:
        text += f" ({speed['share_of_peak']:.0%} of peak)"
    return text


def duration(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

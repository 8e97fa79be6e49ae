"""What TensorBoard reads of a run, written so that a full disk cuts nothing in half."""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from draem_jax import files


class Board:
    """A file of events.

    `tensorboardX.SummaryWriter` writes in a thread. That ends with a traceback where the disk is
    full, and then the run waits forever to hand over the next event. So its events alone are used,
    and written here at once, each of them whole or not at all.
    """

    def __init__(self, folder: Path, *, start: int):
        """Makes a new file in a folder.

        Args:
            folder: made where needed.
            start: TensorBoard forgets what earlier files hold of later steps.

        Raises:
            CannotWriteError: the folder cannot be written, or the disk is full.
        """
        began = time.time()
        name = f"events.out.tfevents.{int(began)}.{socket.gethostname()}.{time.time_ns() % 10**9}"
        self._path = folder / name
        version = Event(wall_time=began, file_version="brain.Event:2")
        begin = _event(start, session_log=SessionLog(status=SessionLog.START))
        files.write_bytes(self._path, _record(version) + _record(begin))

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to the curve of each name.

        Raises:
            CannotWriteError: it cannot be written, as on a full disk; nothing is then.
        """
        events = [_event(step, summary=summary.scalar(name, v)) for name, v in values.items()]
        files.append(self._path, b"".join(map(_record, events)))

    def sheet(self, step: int, name: str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Adds a picture; see `numbers`."""
        shown = summary.image(name, picture, dataformats="HWC")
        files.append(self._path, _record(_event(step, summary=shown)))


def _event(step: int, **content: Any) -> Event:
    return Event(wall_time=time.time(), step=step, **content)


def _record(event: Event) -> bytes:
    """An event in a file of TFRecords: length and content, each with its checksum."""
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in (length, content))

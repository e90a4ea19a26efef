"""TensorBoard's events, written by each run: one file an attempt, without TensorFlow, a queue or a thread."""

from __future__ import annotations

import pathlib
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from imagegen_jax.core.files.regular import write_whole


class Events:
    """A file of TensorBoard events, made of tensorboardX's own parts without its queue and its thread."""

    def __init__(self, folder: pathlib.Path, step: int) -> None:
        """Begins a file; with `step`, TensorBoard forgets what earlier files say of later steps."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._file = path.open("ab", buffering=0)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if step:
            log = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=step + 1, session_log=log))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes numbers by name."""
        from tensorboardX.summary import Summary, scalar

        found = [scalar(name, value).value[0] for name, value in metrics.items()]
        self._summary(step, Summary(value=found))

    def image(self, step: int, picture: np.ndarray) -> None:
        """Writes a picture [H W c] under the name "samples"."""
        from tensorboardX.summary import image

        self._summary(step, image("samples", picture, dataformats="HWC"))

    def _summary(self, step: int, summary: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Any) -> None:
        """Appends a record in the form of TFRecord: length, its checksum, data, their checksum."""
        from tensorboardX.record_writer import masked_crc32c

        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        checks = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
        write_whole(self._file, length + next(checks) + data + next(checks))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

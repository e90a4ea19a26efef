"""Keeps off the screen the pages that Orbax and asyncio print beside an error, and after it."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import traceback

_LIBRARY = f"{os.sep}orbax{os.sep}"


@functools.cache
def hush() -> None:
    """Silences Orbax's logs, and the errors of its other threads, from now on; it raises errors as ever.

    Logs and errors of all other code are shown as ever. It stays so for good, since parts of a failed read may end, and
    be printed, at any later time.
    """
    for name in ("asyncio", "absl"):
        logging.getLogger(name).addFilter(_is_of_others)
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    sys.excepthook = lambda kind, error, trace: None if _is_late(error) else hooks[0](kind, error, trace)
    sys.unraisablehook = lambda failure: None if _is_of_orbax(failure.exc_value) else hooks[1](failure)
    threading.excepthook = lambda failure: None if _is_of_orbax(failure.exc_value) else hooks[2](failure)


def _is_of_others(record: logging.LogRecord) -> bool:
    if record.name != "asyncio":
        return _LIBRARY not in record.pathname
    error = record.exc_info[1] if record.exc_info else None
    return not _is_of_orbax(error) and _LIBRARY not in record.getMessage()  # which names the file of a task


def _is_late(error: BaseException | None) -> bool:
    """Tells whether a read or a write ended after its event loop, which Python prints for TensorStore as an error."""
    return str(error) == "Event loop is closed"


def _is_of_orbax(error: BaseException | None) -> bool:
    """Tells whether an error passed through Orbax, or is TensorStore's, under it, and nobody came to raise it."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    of_tensorstore = not frames and "tensorstore" in str(error)
    return _is_late(error) or of_tensorstore or any(_LIBRARY in frame.filename for frame in frames)

"""Errors that a user can mend: shown as a message of a few lines that says what to do, in place of a traceback."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, NoReturn

from imagegen_jax.core.checkpoints.errors import CheckpointError
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.platform import signals
from imagegen_jax.core.platform.signals import Stopped
from imagegen_jax.core.reporting.not_finite import NonFiniteError

EXPECTED_ERRORS = (ValueError, TypeError, OSError, RunFolderError, CheckpointError, NonFiniteError)

_WAYS_ON = {  # what the system says alone -> what to do about it
    errno.ENOENT: "give the path of what is there",
    errno.EACCES: "change its permissions, or give another place",
    errno.EPERM: "change its permissions, or give another place",
    errno.EROFS: "give a place that can be written",
    errno.ENOSPC: "make room there, or give another place",
    errno.EDQUOT: "make room there, or give another place",
    errno.EFBIG: "give a place that takes larger files",
    errno.EISDIR: "give the path of a file",
    errno.ENOTDIR: "give a path that goes through folders alone",
    errno.EEXIST: "give another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EIO: "look whether its disk is sound, or take a copy elsewhere",
}


class readable_errors:  # noqa: N801  (used like a function)
    """Ends the process with a message instead of a traceback for errors that a user can mend."""

    def __enter__(self) -> None:
        self._interruptible = signals.interruptible()
        self._interruptible.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        self._interruptible.__exit__(None, None, None)
        if isinstance(error, KeyboardInterrupt) and not os.environ.get("IMAGEGEN_TRACEBACK"):
            print(str(error) or "interrupted", file=sys.stderr)
            leave(128 + signals.signal_of(error))
        if isinstance(error, Stopped):
            print(error, file=sys.stderr)
            leave(128 + error.signum)
        if isinstance(error, EXPECTED_ERRORS) and not os.environ.get("IMAGEGEN_TRACEBACK"):
            print(f"error: {words_of(error)}\n(IMAGEGEN_TRACEBACK=1 shows where)", file=sys.stderr)
            leave(1)


def words_of(error: BaseException) -> str:
    """Returns an error's message; for an error of the system, the place, what is wrong there and what to do."""
    if not isinstance(error, OSError) or error.errno is None or error.strerror is None:
        return str(error)
    place = f"{error.filename}: " if error.filename else ""
    way_on = _WAYS_ON.get(error.errno, "")
    return f"{place}{error.strerror}{': ' + way_on if way_on else ''}"


def leave(code: int) -> NoReturn:
    """Ends the process with a code, without waiting for compilations that are of no use any more."""
    compiling = sys.modules.get("imagegen_jax.core.compile")  # without it nothing is being compiled
    if compiling is not None and compiling.busy():
        sys.stdout.flush()
        os._exit(code)
    raise SystemExit(code) from None

"""One live run at a time in a folder, and no trace of a start that was refused."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import IO

from imagegen_jax.core.files.regular import is_at


class RunFolderError(RuntimeError):
    """A run folder that cannot be used as asked."""


class LiveRunError(RunFolderError):
    """A run folder that another process writes to now."""


class Lock:
    """Held while a run writes to a folder; the kernel releases it when the process ends, however it ends."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Raises LiveRunError where another process holds it, and OSError where its file cannot be written."""
        self._path = folder / "lock"
        self._file, self._new = self._open(folder)
        while not is_at(self._file.fileno(), self._path):  # a start that was refused deleted the file just before
            self._file.close()
            self._file, self._new = self._open(folder)
        try:
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._file.flush()
        except OSError:
            self.give_up()
            raise

    def _open(self, folder: pathlib.Path) -> tuple[IO[str], bool]:
        new = not self._path.exists()
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise LiveRunError(
                f"a live run ({holder}) writes to {folder}: wait for it, end it, or give another --workdir"
            ) from None
        return file, new

    def give_up(self) -> None:
        """Lets another run have the folder, and deletes the file where this run made it."""
        with contextlib.suppress(OSError):
            if self._new:
                self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the disk may be full for what is still to be written
            self.release()

    def release(self) -> None:
        """Lets another run have the folder."""
        self._file.close()


@contextlib.contextmanager
def claimed(folder: pathlib.Path | None) -> Iterator[Callable[[], None]]:
    """Gives a folder, made where there is none, to one run; what it yields is called where the run begins.

    A run that does not come so far leaves nothing that was made here. None is for the other processes of a run, which
    write nothing. Raises LiveRunError, without a change in the folder, where another run has it, and RunFolderError
    where it cannot be written to.
    """
    if folder is None:
        yield lambda: None
        return
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    begun: list[bool] = []
    try:
        lock = _locked(folder)
        try:
            yield lambda: begun.append(True)
        finally:
            if begun:
                lock.release()
            else:
                lock.give_up()
    finally:
        for place in () if begun else made:
            with contextlib.suppress(OSError):  # it is not there, or another process has put something into it
                place.rmdir()


def _locked(folder: pathlib.Path) -> Lock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        probe = folder / f".probe.{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        lock.give_up()
        raise _unwritable(folder, error) from error
    return lock


def _unwritable(folder: pathlib.Path, error: OSError) -> RunFolderError:
    return RunFolderError(f"cannot write to the run folder {folder}: {error}; give another --workdir")

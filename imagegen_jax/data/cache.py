"""The cache of prepared data: a folder for each key, made by one process at a time, complete or not there at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from imagegen_jax.core.files.regular import cache_root, is_at

logger = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cached(title: str, key: Mapping[str, Any], build: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """Returns the folder of `key`, and has `build` fill it where it does not exist yet.

    `build` writes to a folder of another name, which is renamed when all is on disk. If it is interrupted it leaves
    nothing, or after a SIGKILL a `.partial` folder that the next build deletes. A second process waits for the first.

    Args:
      title: shown to the user, and the readable part of the folder's name.
      key: all that the content depends on, as JSON.
      build: writes the content into the empty folder that it is given.

    Raises:
      OSError: the disk is full or the cache cannot be written; names the folder and the remedy.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    folder = cache_root() / "data" / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', title)[-40:].strip('-')}-{digest}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock(folder, f"another process prepares {title}: waiting for it"):
            if not folder.is_dir():
                _remove_stale(folder.parent)
                _build(folder, build)
    except OSError as error:
        raise _explained(error, folder.parent) from error
    return folder


def _build(folder: pathlib.Path, build: Callable[[pathlib.Path], None]) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        build(partial)
        for path in partial.iterdir():  # on disk before the name: after a power cut the name must not hold empty files
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _remove_stale(root: pathlib.Path) -> None:
    """Deletes the folders that killed processes left; a process that is alive holds the lock of its folder."""
    for partial in root.glob("*.partial"):
        with contextlib.suppress(BlockingIOError), lock(partial.with_suffix("")):
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def lock(folder: pathlib.Path, waiting: str = "") -> Iterator[None]:
    """Holds the lock of `folder`, which the system releases if this process dies.

    Where another process holds it, logs `waiting` and waits; raises BlockingIOError where `waiting` is empty.
    """
    path = folder.with_suffix(".lock")
    while True:
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waiting:
                    raise
                logger.warning(waiting)
                fcntl.flock(file, fcntl.LOCK_EX)
            if not is_at(file.fileno(), path):  # the holder deleted the file while this process waited for it
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _explained(error: OSError, root: pathlib.Path) -> OSError:
    """Adds the place and the remedy to an error about the cache, and returns any other error as it is."""
    if error.errno in _NO_ROOM:
        return OSError(
            error.errno,
            f"no room for the prepared images in {root} ({error.strerror}), nothing was left there: "
            "free some space, or name a folder on a larger disk in the environment variable IMAGEGEN_CACHE",
        )
    place = pathlib.Path(error.filename or "")
    if root.is_relative_to(place) or place.is_relative_to(root):
        return OSError(
            error.errno,
            f"cannot write the cache folder {root} ({error.strerror}): "
            "name a folder that can be written in the environment variable IMAGEGEN_CACHE",
        )
    return error

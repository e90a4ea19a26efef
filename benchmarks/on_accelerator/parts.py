"""Parts of a measurement, each in a process of its own that is ended when its time is up; none stops the others.

The processes are forked from a server that has imported this project once and started no device: that takes 5 s, and is
saved for all parts but the first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import pathlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

Tell = Callable[[Mapping[str, Any]], None]  # takes what is found, whenever something is
LINES = 15  # of what a part wrote to stderr, kept where it failed
SHORTEST = 1.0  # seconds below which no part is begun


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a part is told."""

    dry_run: bool  # tiny networks on the CPU
    out: str  # the folder for pictures
    torch: str | None  # an interpreter that has PyTorch
    data: str | None  # a folder of TensorFlow Datasets that has cifar10
    until: float = 0.0  # by `time.time()`: when the part is ended


class Part(NamedTuple):
    """What is measured by a call, such as "on_accelerator.attention:measure", of (settings, tell, *arguments)."""

    name: str
    call: str
    least: float  # seconds that the parts before it leave to it
    most: float  # seconds after which it is ended, however much is left
    arguments: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """How a part ended."""

    status: str  # "ok", "failed", "ended at its limit" or "skipped"
    seconds: float = 0.0
    error: Sequence[str] = ()  # the last lines that it wrote to stderr


def limit_of(part: Part, later: Sequence[Part], left: float) -> float:
    """Seconds that a part may take of those left: what later ones need at least is kept for them, as far as it goes."""
    free = left - sum(other.least for other in later)
    return min(left, part.most, max(part.least, free))


def run_part(part: Part, settings: Settings, limit: float, tell: Tell) -> Outcome:
    """Runs a part and tells what it finds as it comes; ends it, and all that it started, after `limit` seconds."""
    if limit < SHORTEST:
        return Outcome("skipped", error=["no time was left"])
    begun = time.monotonic()
    settings = dataclasses.replace(settings, until=time.time() + limit)
    with tempfile.TemporaryDirectory() as folder:
        stderr = pathlib.Path(folder, "stderr")
        here, there = multiprocessing.Pipe(duplex=False)
        process = _server().Process(target=_work, args=(part, settings, there, str(stderr)))
        process.start()
        there.close()  # or the end of the process would not be the end of what it says
        ended = threading.Event()
        clock = threading.Timer(limit, _end, [process, ended])
        clock.start()
        _relay(here, tell)
        process.join()
        clock.cancel()
        said = stderr.read_text(errors="replace") if stderr.exists() else ""
    seconds = time.monotonic() - begun
    if ended.is_set():
        return Outcome("ended at its limit", seconds, said.splitlines()[-LINES:])
    if process.exitcode:
        died = [f"ended by {signal.Signals(-process.exitcode).name}"] if process.exitcode < 0 else []
        return Outcome("failed", seconds, said.splitlines()[-LINES:] + died)
    return Outcome("ok", seconds)


def _server() -> Any:
    """The context whose processes have this project imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["imagegen_jax.core.loop", "on_accelerator.parts"])
    return context


def _relay(here: Connection, tell: Tell) -> None:
    with here, contextlib.suppress(EOFError, OSError):
        while True:
            tell(here.recv())


def _end(process: Any, ended: threading.Event) -> None:
    ended.set()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not made a group of its own yet, or has just ended
        process.kill()


def _work(part: Part, settings: Settings, results: Connection, stderr: str) -> None:
    """What the process of a part does."""
    os.setsid()  # a group of its own, with all that it starts
    file = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    module, _, function = part.call.partition(":")
    getattr(importlib.import_module(module), function)(settings, results.send, *part.arguments)
    results.send({"processor_seconds": round(sum(os.times()[:4]), 2)})  # of the host
    results.close()

"""Work that takes a while: one job after another on a thread of its own, each watched and stopped by its visitor."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import secrets
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

from imagegen_jax.core.checkpoints.errors import CheckpointError
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.reporting.not_finite import NonFiniteError

Told = tuple[str, dict[str, Any]]  # ("progress", {"step": 3, "of": 16})
Work = Callable[[], Generator[Told, None, dict[str, Any]]]  # tells how far it is; returns what "done" tells
ENDS = ("done", "failed", "stopped")
EXPECTED = (ValueError, OSError, RunFolderError, CheckpointError, NonFiniteError)
KEPT = 64  # ended jobs that can still be asked about


class Busy(Exception):
    """More jobs are waiting than may wait."""


class Event(NamedTuple):
    """What a job tells: `serial` grows with each event of the job."""

    serial: int
    name: str
    data: dict[str, Any]


@dataclasses.dataclass(eq=False)
class Job:
    """A piece of work of a visitor, and what it has told so far: of each name, the last event."""

    visitor: str
    work: Work
    identifier: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(9))
    stopped: threading.Event = dataclasses.field(default_factory=threading.Event)
    _told: list[Event] = dataclasses.field(default_factory=list)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    _listeners: set[Callable[[], None]] = dataclasses.field(default_factory=set)

    def tell(self, name: str, **data: Any) -> None:
        """Tells something to all who listen; nothing after an end."""
        with self._lock:
            if self._told and self._told[-1].name in ENDS:
                return
            serial = self._told[-1].serial + 1 if self._told else 0
            self._told = [*(event for event in self._told if event.name != name), Event(serial, name, data)]
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def since(self, serial: int) -> list[Event]:
        """Returns what was told after an event."""
        with self._lock:
            return [event for event in self._told if event.serial > serial]

    @property
    def ended(self) -> bool:
        """Whether nothing more will be told."""
        with self._lock:
            return bool(self._told) and self._told[-1].name in ENDS

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """Gives an event of the running loop that is set whenever the job tells something."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def listener() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(changed.set)

        with self._lock:
            self._listeners.add(listener)
        try:
            yield changed
        finally:
            with self._lock:
                self._listeners.discard(listener)


class Jobs:
    """A queue of jobs, of which one is at work. Raises Busy for one more than `most` that wait."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._waiting: collections.deque[Job] = collections.deque()
        self._known: collections.OrderedDict[str, Job] = collections.OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, visitor: str, work: Work) -> Job:
        """Puts work at the end of the queue and returns its job."""
        job = Job(visitor, work)
        with self._changed:
            if len(self._waiting) >= self._most:
                raise Busy(f"{self._most} jobs are waiting: try again when one has ended")
            self._waiting.append(job)
            self._known[job.identifier] = job
            self._forget()
            self._tell_places()
            if self._thread is None:
                self._thread = threading.Thread(target=self._go_on, daemon=True, name="jobs")
                self._thread.start()
            self._changed.notify()
        return job

    def of(self, visitor: str, identifier: str) -> Job | None:
        """Returns a visitor's job; None where there is none, or it is another's."""
        job = self._known.get(identifier)
        return job if job is not None and job.visitor == visitor else None

    def stop(self, job: Job) -> None:
        """Stops a job: at once where it waits, after what it next tells where it is at work."""
        job.stopped.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.tell("stopped")
                self._tell_places()

    def _go_on(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                job = self._waiting.popleft()
                self._tell_places()
            _do(job)

    def _tell_places(self) -> None:
        for ahead, job in enumerate(self._waiting):
            job.tell("waiting", ahead=ahead)

    def _forget(self) -> None:
        ended = [name for name, job in self._known.items() if job.ended]
        for name in ended[: max(0, len(ended) - KEPT)]:
            del self._known[name]


def _do(job: Job) -> None:
    """Does a job to its end, and tells how it ended."""
    job.tell("started")
    try:
        work = job.work()
        with contextlib.closing(work):
            while not job.stopped.is_set():
                try:
                    name, data = next(work)
                except StopIteration as end:
                    return job.tell("done", **(end.value or {}))
                job.tell(name, **data)
        job.tell("stopped")
    except EXPECTED as error:
        job.tell("failed", error=str(error))
    except Exception:
        traceback.print_exc()
        job.tell("failed", error="something that was not expected went wrong: the terminal of the server says what")

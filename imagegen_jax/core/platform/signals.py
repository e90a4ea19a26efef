"""Signals: what Ctrl-C, SIGTERM and a closed terminal do to a command, and to a run that has work to lose.

Python's handlers run on the main thread between two of its instructions, and a compilation or a long step can keep them
waiting for minutes. Here another thread answers, which the system wakes at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

GRACE = 0.7  # seconds that an interrupted command has to clean up before it is ended
LAST = 3  # the Ctrl-C that ends a run at once


class Stopped(Exception):
    """The run was asked to stop by a signal, and has saved its state."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


@contextlib.contextmanager
def watching(react: Callable[[int], None]) -> Iterator[None]:
    """Calls `react(signum)` on a thread of its own for each signal that has a handler, whatever is going on."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def watch() -> None:
        while signum := reader.recv(1):
            react(signum[0])

    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, daemon=True, name="signals")
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        thread.join()
        reader.close()


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP came to a command that ends then as it does by Ctrl-C."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"ended by {signal.Signals(signum).name}")
        self.signum = signum


def signal_of(error: KeyboardInterrupt) -> int:
    """Returns the signal that an interrupted command was asked to end by."""
    return error.signum if isinstance(error, Ended) else signal.SIGINT


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ends the process within a second of Ctrl-C, SIGTERM or SIGHUP, also where its main thread is kept busy.

    For commands, and while nothing can be lost. The main thread gets its KeyboardInterrupt or `Ended` first, to clean
    up. Signals that have another handler already, or are ignored, are left alone.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    over = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
        let_go_of_closed()
        raise Ended(signum)

    others = [kind for kind in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(kind) is signal.SIG_DFL]

    def react(signum: int) -> None:
        if signum in (signal.SIGINT, *others) and not over.wait(GRACE):
            _end(signum, "interrupted" if signum == signal.SIGINT else str(Ended(signum)))

    for kind in others:
        signal.signal(kind, handle)
    with watching(react):
        try:
            yield
        finally:
            over.set()
            for kind in others:
                signal.signal(kind, signal.SIG_DFL)


@contextlib.contextmanager
def stopping(
    reached: Callable[[int], bool] | None, say: Callable[[str], None], doing: Callable[[], str]
) -> Iterator[Callable[[int], int]]:
    """Catches signals, and gives a function step -> the signal that asks the run to stop after that step, or 0.

    The first Ctrl-C, SIGTERM or SIGHUP asks, and is answered at once by `say`; the answer to a second says what the run
    is `doing`; the third Ctrl-C ends the process, as the first answer said. One of several processes is given
    `reached`, by which they agree on the step: SIGTERM is then left to jax.distributed, whose service `reached` asks,
    and other signals are passed on as SIGTERM.
    """
    caught: list[int] = []

    def asked(step: int) -> int:
        if reached is not None:
            return int(signal.SIGTERM) if reached(step) else 0
        return caught[0] if caught else 0

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    signals = [signal.SIGINT, signal.SIGHUP] if reached is not None else [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
        signals.remove(signal.SIGHUP)

    def handle(signum: int, frame: FrameType | None) -> None:
        caught.append(signum)
        if reached is not None and len(caught) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    before = {signum: signal.signal(signum, handle) for signum in signals}
    try:
        with watching(_Answers(say, doing).answer):
            yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class _Answers:
    """Says what comes of each signal to a run that saves before it stops."""

    def __init__(self, say: Callable[[str], None], doing: Callable[[], str]) -> None:
        self._say, self._doing, self._seen = say, doing, list[int]()

    def answer(self, signum: int) -> None:
        """Says what comes of a signal; the last Ctrl-C ends the process."""
        self._seen.append(signum)
        presses = self._seen.count(signal.SIGINT)
        let_go_of_closed()
        if presses >= LAST:
            _end(signum, "ended at once; the same command goes on from the newest checkpoint")
        warning = f"Ctrl-C number {LAST} ends at once and loses the steps since the last checkpoint"
        if len(self._seen) == 1:
            self._say(f"{signal.Signals(signum).name}: stopping after this step, saving ({warning})")
        else:
            self._say(f"already stopping: {self._doing()} ({warning})")


def _end(signum: int, text: str) -> None:
    """Ends the process from any thread, without waiting for what the main thread holds, such as a stream's lock."""
    with contextlib.suppress(OSError):
        os.write(2, (("\r\x1b[K" if os.isatty(2) else "") + text + "\n").encode())
    os._exit(128 + signum)


def let_go_of_closed() -> None:
    """Points stdout and stderr at /dev/null where nobody is at their other end: writing there would raise."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # AttributeError: there is no such stream
            poll = select.poll()
            poll.register(stream.fileno(), 0)
            if any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0)):
                let_go(stream)


def let_go(stream: Any) -> None:
    """Points a stream at /dev/null where it cannot be written to, so that later writes do not raise."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def one_line_for_interrupted_imports() -> None:
    """Ends a script whose imports are interrupted with one line in place of their traceback."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt) or not _importing(traceback) or sys.flags.interactive:
            return usual(kind, error, traceback)
        _end(signal.SIGINT, "interrupted")

    sys.excepthook = hook


def _importing(traceback: TracebackType | None) -> bool:
    """Tells whether one module's code was running for another's, or Python was looking for a module."""
    modules = 0
    while traceback is not None:
        code = traceback.tb_frame.f_code
        modules += code.co_name == "<module>"
        if modules > 1 or code.co_filename.startswith("<frozen importlib"):
            return True
        traceback = traceback.tb_next
    return False

"""The live line: what is being done, drawn anew each second below what was said, on a terminal or in a notebook's cell.

Where there is neither, such as in a file or a pipe, there is no live line, and what is said are plain lines.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from imagegen_jax.core.platform.signals import let_go

CLEAR = "\x1b[K"  # wipes the rest of a terminal's line
EVERY = 1.0  # seconds between two drawings
BAR, LEAST = 20, 60  # columns of a bar, and of a screen that has room for one


class Shown(Protocol):
    """A piece of work that is shown."""

    @property
    def fraction(self) -> float | None:
        """How much of it is done, from 0 to 1; None where that is not known."""
        ...

    def line(self, width: int) -> str:
        """Says it in at most `width` characters; "" where there is nothing to say yet."""
        ...


class Terminal:
    """Draws on a terminal, whose last line is written over."""

    def __init__(self, stream: Any) -> None:
        from rich.console import Console

        self._stream = stream
        self._console = Console(file=stream, force_jupyter=False, highlight=False)

    def width(self) -> int:
        """Returns the columns that a line may have: the last one stays free."""
        try:
            return (os.get_terminal_size(self._stream.fileno()).columns or 80) - 1
        except (OSError, ValueError):
            return 200

    def write(self, said: str | None, line: str, fraction: float | None) -> None:
        """Writes a line that stays, if one is given, and the live one below it."""
        above = "" if said is None else f"\r{said}{CLEAR}\n"
        self._stream.write(f"{above}\r{bar_and(line, fraction, self._console)}{CLEAR}")
        self._stream.flush()


class Notebook:
    """Draws in the output of a notebook's cell, which is kept as one block of text for each cell."""

    def __init__(self) -> None:
        from rich.console import Console

        self._said: list[str] = []
        self._cell, self._id = -1, ""
        self._console = Console(file=io.StringIO(), force_jupyter=False, color_system=None)

    def width(self) -> int:
        """Returns the characters that a line of a cell's output has room for."""
        return 110

    def write(self, said: str | None, line: str, fraction: float | None) -> None:
        """Adds a line that stays, if one is given, and draws the live one below them; a block is never empty again."""
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        shell: Any = get_ipython()
        if (cell := shell.execution_count) != self._cell:
            self._said, self._cell, self._id = [], cell, ""
        if said is not None:
            self._said.append(said)
        text = "\n".join([*self._said, *([bar_and(line, fraction, self._console)] if line else [])])
        if text:
            known = bool(self._id)
            self._id = self._id or uuid.uuid4().hex
            display({"text/plain": text}, raw=True, display_id=self._id, update=known)


def bar_and(line: str, fraction: float | None, console: Any) -> str:
    """Puts a bar before a line, where a fraction is known; the whole is in the console's colours."""
    if fraction is None:
        return line
    from rich.progress_bar import ProgressBar

    with console.capture() as drawn:
        console.print(ProgressBar(total=1.0, completed=fraction, width=BAR))
    return f"{drawn.get().rstrip():{BAR}} {line}"  # without colours there is no rest of the bar


class Screen:
    """The live line of a stream. Any thread may use it; a stream that can no longer be written to ends nothing."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._paper = Terminal(stream) if stream.isatty() else Notebook() if in_notebook(stream) else None
        self._lock, self._works = threading.RLock(), list[Shown]()
        self._gone = False
        self._ended = threading.Event()
        self._ended.set()

    @property
    def live(self) -> bool:
        """Tells whether there is a live line."""
        return self._paper is not None

    def show(self, work: Shown) -> None:
        """Shows a piece of work from now on, before those that are shown already."""
        with self._lock:
            self._works.append(work)
            if self.live and self._ended.is_set():
                self._ended = threading.Event()
                threading.Thread(target=self._tick, args=(self._ended,), daemon=True, name="progress").start()

    def hide(self, work: Shown) -> None:
        """Shows a piece of work no more; the last one leaves the line empty."""
        with self._lock:
            if work in self._works:
                self._works.remove(work)
            if self._works:
                return self.draw()
            self._ended.set()
            self._write(None)

    def _tick(self, ended: threading.Event) -> None:
        while not ended.wait(EVERY):
            with self._lock:
                if not ended.is_set():
                    self.draw()

    def draw(self) -> None:
        """Draws the live line as it is now."""
        if self.live and not self._ended.is_set():
            self._write(None)

    def say(self, text: str) -> None:
        """Writes a line that stays, above the live one."""
        self._write(text)

    def _write(self, said: str | None) -> None:
        with self._lock:
            if self._gone:
                return
            try:
                if self._paper is not None:
                    self._paper.write(said, *self._line(self._paper.width()))
                elif said is not None:
                    self.stream.write(said + "\n")
                    self.stream.flush()
            except (OSError, ValueError):
                self._gone = True
                let_go(self.stream)

    def _line(self, width: int) -> tuple[str, float | None]:
        """Returns the live line, the newest work first, and how much of that is done where there is room for a bar."""
        works = [work for work in reversed(self._works) if work.line(width)]
        fraction = works[0].fraction if works and width >= LEAST else None
        room = width if fraction is None else width - BAR - 1
        return " | ".join(work.line(room) for work in works)[:room], fraction


def in_notebook(stream: Any) -> bool:
    """Tells whether a stream is the standard error of a notebook's kernel."""
    find: Callable[[], Any] | None = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return find is not None and getattr(find(), "kernel", None) is not None and stream is sys.stderr


_shared: list[Screen] = []  # that of the stream that was used last
_sharing = threading.Lock()


def screen_of(stream: Any = None) -> Screen:
    """Returns the screen of a stream, None: of standard error; pieces of work at one time share it."""
    stream = stream or sys.stderr
    with _sharing:
        if not _shared or _shared[0].stream is not stream:
            _shared[:] = [Screen(stream)]
        return _shared[0]

"""How far a long piece of work is: a bar on a terminal and in a notebook, else a line now and then; on standard error.

All commands show it alike: what is done of how much, the speed, the time that is left, and what was measured last.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from imagegen_jax.core.reporting.durations import clock, duration
from imagegen_jax.core.reporting.screen import screen_of

T = TypeVar("T")
FIRST, MOST = 10.0, 300.0  # seconds before the first line, and between two at most; each wait is twice the one before
LONG = 5.0  # seconds: of what took longer it is said how long


class Progress:
    """Counts work done. Work of less than ten seconds says nothing where no terminal shows a bar."""

    def __init__(self, title: str, total: int, unit: str, done: int = 0, quiet: bool = False) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._quiet, self._screen = quiet, screen_of()
        self._first, self._begun = done, time.monotonic()
        self._wait, self._next = FIRST, self._begun + FIRST
        self._facts: list[str] = []
        if not quiet:
            self._screen.show(self)

    @property
    def fraction(self) -> float | None:
        """How much is done, from 0 to 1."""
        return self.done / max(self.total, 1)

    def line(self, width: int) -> str:
        """Says how far it is, with a clock that runs."""
        facts = self._facts_now()
        room = width - len(facts[0]) - 2 - len(clock(time.monotonic() - self._begun)) - 2
        title = self.title if len(self.title) <= room else self.title[: max(room - 3, 0)] + "..."
        return with_clock([f"{title}: {facts[0]}", *facts[1:]], time.monotonic() - self._begun, width)

    def _facts_now(self) -> list[str]:
        """Says what is done, the speed and the time that is left where there is a speed yet, and what else is known."""
        facts = [how_far(self.done, self.total, f" {self.unit}")]
        rate = (self.done - self._first) / max(time.monotonic() - self._begun, 1e-9)
        if 0 < rate < 1e6:
            facts.append(speed(rate, self.unit))
            facts += [f"{duration((self.total - self.done) / rate)} left"] if self.done < self.total else []
        return facts + self._facts

    def add(self, count: int = 1) -> None:
        """Counts some more work, and shows it where a line is due."""
        self.done += count
        due = self.done < self.total and time.monotonic() >= self._next  # how it ended is said at the end
        if due and not (self._quiet or self._screen.live):
            self._wait = min(2 * self._wait, MOST)
            self._next = time.monotonic() + self._wait
            self._screen.say(f"{self.title}: " + "  ".join(self._facts_now()))

    def say(self, text: str) -> None:
        """Writes a line of its own, above the live one."""
        if not self._quiet:
            self._screen.say(text)

    def also(self, **facts: Any) -> None:
        """Shows facts beside the count from now on, such as a loss."""
        self._facts = [f"{name} {value}" for name, value in facts.items()]

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._quiet:
            return
        took = time.monotonic() - self._begun
        if took >= (LONG if self._screen.live else FIRST):
            self._screen.say(f"{self.title}: {how_far(self.done, self.total, f' {self.unit}')}  {duration(took)}")
        self._screen.hide(self)


class Activity:
    """What is being done for an unknown time."""

    fraction = None

    def __init__(self, text: str) -> None:
        self.text, self.begun = text, time.monotonic()

    def line(self, width: int) -> str:
        """Says it, with a clock that runs."""
        running = clock(time.monotonic() - self.begun)
        return f"{self.text[: width - len(running) - 1]} {running}"


@contextlib.contextmanager
def activity(text: str, announce: bool = False, quiet: bool = False, stream: Any = None) -> Iterator[None]:
    """Shows what is done, with a clock that runs; afterwards says how long it took, if that was long.

    With `announce`, a plain line says it when it begins, where there is no live one.
    """
    if quiet:
        yield
        return
    shown, screen = Activity(text), screen_of(stream)
    screen.show(shown)
    if announce and not screen.live:
        screen.say(text)
    screen.draw()
    try:
        yield
    finally:
        took = time.monotonic() - shown.begun
        if took >= LONG:
            screen.say(f"{text}: {duration(took)}")
        screen.hide(shown)


def counted(items: Iterable[T], title: str, total: int, unit: str) -> Iterator[T]:
    """Yields the items, and shows how many of `total` there have been."""
    with Progress(title, total, unit) as progress:
        for item in items:
            yield item
            progress.add()


def with_clock(facts: list[str], seconds: float, width: int) -> str:
    """Puts facts and a clock into a line: as many of the first ones as it has room for, and at least a part of one."""
    running, said = f"  {clock(seconds)}", facts[0]
    for fact in facts[1:]:
        if len(said) + 2 + len(fact) + len(running) > width:
            break
        said += f"  {fact}"
    return said[: width - len(running)] + running


def how_far(done: int, total: int, unit: str = "") -> str:
    """Returns a count as "50 of 100 images ( 50 %)"."""
    return f"{done:,} of {total:,}{unit} ({100 * done / max(total, 1):3.0f} %)"


def speed(rate: float, unit: str) -> str:
    """Returns a rate as "34 images/s", or as "2.5 s/image" where it is below one a second."""
    return f"{rate:,.0f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit.removesuffix('s')}"

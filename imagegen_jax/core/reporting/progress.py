"""Shows how far a long piece of work is: by a bar on a terminal, else by a line now and then, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
FIRST, MOST = 10.0, 300.0  # seconds before the first line, and between two at most; each wait is twice the one before


class Progress:
    """Counts work done. Work of less than ten seconds says nothing where no terminal shows a bar."""

    def __init__(self, title: str, total: int, unit: str, done: int = 0, quiet: bool = False) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._terminal = sys.stderr.isatty()
        self._quiet = quiet
        self._bar = tqdm(
            total=total, initial=done, desc=title, unit=f" {unit}", disable=quiet or not self._terminal, file=sys.stderr
        )
        self._wait, self._next = FIRST, time.monotonic() + FIRST
        self._last = ""

    def add(self, count: int = 1) -> None:
        """Counts some more work, and shows it where a line is due."""
        self.done += count
        self._bar.update(count)
        if not (self._quiet or self._terminal) and time.monotonic() >= self._next:
            self._wait = min(2 * self._wait, MOST)
            self._next = time.monotonic() + self._wait
            print(f"{self.title}: {self.done:,} of {self.total:,} {self.unit}{self._last}", file=sys.stderr, flush=True)

    def also(self, **facts: Any) -> None:
        """Shows facts beside the count from now on, such as a loss."""
        self._last = "".join(f", {name} {value}" for name, value in facts.items())
        self._bar.set_postfix(**facts, refresh=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()


def counted(items: Iterable[T], title: str, total: int, unit: str) -> Iterator[T]:
    """Yields the items, and shows how many of `total` there have been."""
    with Progress(title, total, unit) as progress:
        for item in items:
            yield item
            progress.add()

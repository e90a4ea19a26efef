"""Long work without a terminal: a line now and then on standard error, none where it is short or quiet."""

from __future__ import annotations

import pytest

from imagegen_jax.core.reporting import progress
from imagegen_jax.core.reporting.progress import Progress, counted


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_long_work_says_a_line_now_and_then(clock, capsys):
    with Progress("images", 3600, "images") as shown:
        shown.also(loss=0.5)
        for second in range(3600):
            clock[0] = float(second)
            shown.add()
    lines = capsys.readouterr().err.splitlines()
    first = "images: 11 of 3,600 images (  0 %)  1 images/s  54 min 22 s left  loss 0.5"
    assert lines[0] == first and lines[-1] == "images: 3,600 of 3,600 images (100 %)  59 min 59 s"
    assert 10 <= len(lines) <= 20  # ten seconds from the start on, then ever more rarely


def test_the_end_is_said_once(clock, capsys):
    with Progress("images", 2, "images") as shown:
        for second in (20.0, 200.0):
            clock[0] = second
            shown.add()
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("images: 1 of 2 images ( 50 %)") and last == "images: 2 of 2 images (100 %)  3 min 20 s"


def test_short_work_and_quiet_work_say_nothing(clock, capsys):
    with Progress("images", 9, "images") as shown:
        for second in range(9):
            clock[0] = float(second)
            shown.add()
    with Progress("images", 99, "images", quiet=True) as shown:
        clock[0] = 1000.0
        shown.add()
    assert list(counted("abc", "letters", 3, "letters")) == ["a", "b", "c"]
    assert not capsys.readouterr().err


def test_a_narrow_line_keeps_the_count_and_the_clock(clock):
    with Progress("features of a/very/long/place", 9, "images", quiet=True) as shown:
        clock[0] = 2.0
        shown.add(4)
        wide = "features of a/very/long/place: 4 of 9 images ( 44 %)  2 images/s  2 s left  0:02"
        assert shown.line(200) == shown.line(len(wide)) == wide
        assert shown.line(len(wide) - 1) == wide.replace("  2 s left", "")
        assert shown.line(40) == "features...: 4 of 9 images ( 44 %)  0:02"

"""What Orbax says beside a failure is hidden, and what anything else says is not."""

from __future__ import annotations

import logging
import sys

import pytest

from imagegen_jax.core.checkpoints import hush

pytestmark = pytest.mark.versions


def failure(file):
    """An exception that passed through code of `file`."""
    try:
        exec(compile("raise OSError('no')", file, "exec"))
    except OSError:
        return sys.exc_info()


def record(name, message="failed", file="/home/me/mine.py", error=None):
    return logging.LogRecord(name, logging.ERROR, file, 1, message, (), error)


ORBAX = "/lib/orbax/checkpoint/reader.py"
UNRAISED = ValueError("DATA_LOSS: Error opening \"cast\" driver: Length does not match [tensorstore_spec='{}']")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (record("asyncio", "Task exception was never retrieved", error=failure("/home/me/mine.py")), True),
        (record("asyncio", "Executing <Task> took 2 seconds"), True),
        (record("absl", "mine"), True),
        (record("asyncio", "Task exception was never retrieved", error=failure(ORBAX)), False),
        (record("asyncio", f"Task was destroyed but it is pending: <Task coro=<read() running at {ORBAX}:3>>"), False),
        (record("asyncio", error=(RuntimeError, RuntimeError("Event loop is closed"), None)), False),
        (record("asyncio", "Future exception was never retrieved", error=(ValueError, UNRAISED, None)), False),
        (record("asyncio", error=(ValueError, ValueError("a future of mine"), None)), True),
        (record("absl", "reading", file=ORBAX), False),
    ],
)
def test_only_what_orbax_logs_is_hidden(said, shown):
    assert hush._is_of_others(said) == shown

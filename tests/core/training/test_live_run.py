"""A live run's end: what is being saved is waited for, whatever else fails."""

from types import SimpleNamespace

import pytest

from imagegen_jax.core.training.live_run import LiveRun


def test_checkpoints_are_closed_where_the_log_cannot_be():
    closed = []

    def full():
        raise OSError("no space left")

    run = LiveRun.__new__(LiveRun)
    run.tracer = run.log = SimpleNamespace(close=full)
    run.snapshots, run.checkpoints = None, SimpleNamespace(close=lambda: closed.append("checkpoints"))
    with pytest.raises(OSError, match="no space left"):
        run.close()
    assert closed == ["checkpoints"]

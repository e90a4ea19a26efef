"""Traces of training steps: that a trace which fails ends no training, and what lies behind a run is said."""

import pytest

from imagegen_jax.core.reporting import profile
from imagegen_jax.core.reporting.profile import Tracer
from imagegen_jax.core.reporting.training_progress import TrainingProgress


@pytest.fixture
def said(monkeypatch):
    """What is said while nothing is traced in truth."""
    monkeypatch.setattr(profile.jax.profiler, "start_trace", lambda folder, **options: None)
    monkeypatch.setattr(profile.jax.profiler, "stop_trace", lambda: None)
    found = []
    monkeypatch.setattr(TrainingProgress, "say", lambda self, text: found.append(text))
    return found


def test_a_trace_that_cannot_be_read_is_a_warning(said, tmp_path):
    (tmp_path / "profile").mkdir()
    tracer = Tracer(tmp_path, (2, 3), TrainingProgress(9, quiet=True))
    tracer.at(1, ())
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "host.trace.json.gz").write_bytes(b"no archive")
    tracer.at(3, ())
    assert len(said) == 1 and said[0].startswith("warning: the trace in") and not (tmp_path / "profile.json").exists()


def test_steps_that_lie_behind_are_named_once(said, tmp_path):
    tracer = Tracer(tmp_path, (2, 3), TrainingProgress(9, quiet=True))
    for step in (5, 6):
        tracer.at(step, ())
    assert said == ["warning: steps 2 to 3 lie behind step 5: none is traced"]

"""What is shown of a training: one live line on a terminal, plain ones in a file; and no stream ends it."""

import io
import time

import pytest

from imagegen_jax.core.reporting.durations import duration
from imagegen_jax.core.reporting.progress import Progress
from imagegen_jax.core.reporting.screen import CLEAR, screen_of
from imagegen_jax.core.reporting.training_progress import TrainingProgress, speeds

pytestmark = pytest.mark.versions


class Screen(io.StringIO):
    def isatty(self):
        return True


def shown(stream):
    """The live line."""
    return screen_of(stream)._line(200)[0]


def test_a_terminal_has_one_live_line_and_a_file_plain_ones():
    for stream, mark in ((Screen(), "\r"), (io.StringIO(), "")):
        progress = TrainingProgress(100, stream, every=0.0)
        progress.begin(0)
        progress.update(50, 1234.0, 10.0, {"a/loss": 0.25, "a/other": 1.0})
        progress.update(100, 1234.0, 10.0, {"a/loss": 0.125})
        progress.close()
        text = stream.getvalue()
        assert "step 50 of 100 ( 50 %)  1,234 images/s  5 s left  a/loss 0.25" in text
        assert text.replace(CLEAR, "").rstrip("\r").endswith("a/loss 0.125\n")
        assert ("\r" in text) == bool(mark) and "other" not in text
        assert ("━━━━━━━━━━" in text) == bool(mark)  # half of a bar


def test_the_live_line_shows_what_is_done_with_running_clocks(monkeypatch):
    now, stream = [100.0], Screen()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = TrainingProgress(10, stream)
    with progress.activity("compiling 1 of 2"):
        now[0] += 34
        assert shown(stream) == "compiling 1 of 2 0:34"
        progress.begin(3)
        progress.at(4)
        now[0] += 40
        assert shown(stream) == "compiling 1 of 2 1:14 | step 4 of 10 ( 40 %)  40.0 s/step  0:40"
        assert screen_of(stream)._line(20) == ("compiling 1 of  1:14", None)
    assert shown(stream) == "step 4 of 10 ( 40 %)  40.0 s/step  0:40"
    assert progress.line(30) == "step 4 of 10 ( 40 %)  0:40" and progress.line(20) == "step 4 of 10 (  0:40"
    now[0] += 3600
    assert shown(stream).endswith("  1:00:40")
    progress.close()
    assert stream.getvalue().endswith(f"\r{CLEAR}") and shown(stream) == ""


def test_what_counts_within_a_training_comes_before_it_with_the_bar(monkeypatch):
    stream = Screen()
    monkeypatch.setattr("sys.stderr", stream)
    progress = TrainingProgress(10, stream)
    progress.begin(5)
    with progress.activity("evaluating step 5"), Progress("features", 4, "images") as features:
        features.add()
        line, fraction = screen_of(stream)._line(200)
        assert [part.split(" ")[0] for part in line.split(" | ")] == ["features:", "evaluating", "step"]
        assert fraction == 0.25
    assert screen_of(stream)._line(200)[1] == 0.5
    progress.close()


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "broken"), OSError(5, "Input/output error"), ValueError("closed")]
)
def test_a_stream_that_is_gone_ends_nothing(error):
    class Gone(Screen):
        def write(self, text):
            raise error

    progress = TrainingProgress(10, Gone())
    with progress.activity("compiling", announce=True):
        progress.say("something")
    progress.update(10, 1.0, 1.0, {"a/loss": 1.0})
    progress.close()


@pytest.mark.parametrize(
    ("images", "steps", "words"),
    [
        (1234.0, 10.0, "1,234 images/s"),
        (3.2, 0.2, "3 images/s  5.0 s/step"),
        (0.4, 0.05, "20.0 s/step"),
        (0.5, 0.5, "2.0 s/step"),
    ],
)
def test_slow_steps_are_shown_in_seconds(images, steps, words):
    assert "  ".join(speeds(images, steps)) == words


def test_durations_are_readable():
    assert [duration(s) for s in (9.9, 200, 3720)] == ["9 s", "3 min 20 s", "1 h 02 min"]

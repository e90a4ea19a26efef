"""A run's files of metrics: full disks, damaged lines, TensorBoard events; and the words of its live line."""

import dataclasses
import io
import json
import os
import threading

import pytest
from toys import Game, ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.files.regular import partial_of
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.reporting import metrics_log
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.reporting.metrics_log import LogError, MetricsLog, read_lines
from imagegen_jax.core.training import live_run

pytestmark = pytest.mark.versions

TOY = ig.Experiment(
    name="toy", model=Game(), data=ToyData(), optim={"generator": SGD(0.1), "critic": SGD(0.1)}, batch_size=16,
    steps=4, checkpoint_every=2, log_every=1, samples=4, mesh=MeshShape(data=1),
)  # fmt: skip


def full(log, which):
    """Lets a log write to a disk without room from now on."""
    holder = log if which == "metrics.jsonl" else log._events
    holder._file = open("/dev/full", "ab", buffering=0)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux stands in for the full disk")
@pytest.mark.parametrize("which", ["metrics.jsonl", "events", "picture"])
def test_a_full_disk_is_one_error_that_names_the_step_and_what_is_kept(tmp_path, monkeypatch, which):
    write = MetricsLog.write

    def filled(log, step, metrics):
        if step == 3 and which != "picture":
            full(log, which)
        write(log, step, metrics)

    monkeypatch.setattr(MetricsLog, "write", filled)
    if which == "picture":
        monkeypatch.setattr(
            live_run, "write_png", lambda path, picture, prompts: open("/dev/full", "wb", buffering=0).write(b"0")
        )
    before = threading.active_count()
    with pytest.raises(LogError) as error:
        ig.fit(dataclasses.replace(TOY, sample_every=3), tmp_path, quiet=True)
    first, second = str(error.value).split("\n")
    assert first.startswith("step 3: ") and str(tmp_path) in first and "No space left on device" in first
    assert "newest complete checkpoint is of step 2" in second and "same command" in second
    monkeypatch.undo()
    assert ig.fit(dataclasses.replace(TOY, sample_every=3), tmp_path, quiet=True).step == 4
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")[0]] == [1, 2, 3, 4]
    assert threading.active_count() <= before + 2  # Orbax's own may linger; a log has none


def test_a_write_that_is_cut_short_goes_on_or_raises():
    """A disk that is nearly full takes a part of a write; the next one raises."""

    class Slow(io.RawIOBase):
        def __init__(self):
            self.found = b""

        def write(self, data):
            self.found += bytes(data[:3])
            return min(3, len(data))

    file = Slow()
    metrics_log.write_whole(file, b"0123456789")
    assert file.found == b"0123456789"


DAMAGED = (
    '{"time": 1.0, "a/loss": 2.0}', '[1, 2]', '3', 'null', '"step"', '{"step": "2"}', '{"step": true}',
    '{"step": null}', '{"step": 1.5}', '{"step": -1}', '{"step": NaN}', '{"step": 1, "a/loss": "x"}',
    '{"step": 1, "a/loss": {}}', '{"step": 2, "a/lo', "\x00\x00\x00", "\udcff\udcfe", "[" * 100_000,
)  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_is_dropped_and_its_number_known(tmp_path, text):
    good = ['{"step": 1, "a/loss": 2.0}', '{"step": 2, "a/loss": null, "b": 3}']
    lines = [good[0], text, good[1]]
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape") + b"\n")
    log = MetricsLog(tmp_path, 5)
    assert log.lines == [json.loads(line) for line in good] and log.damaged == [2]
    log.write(2, {"c": 4.0})
    log.write(6, {"a/loss": float("nan")})
    log.close()
    found = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line.get("a/loss"), line.get("c")) for line in found] == [
        (1, 2, None),
        (2, None, 4),
        (6, None, None),
    ]


def test_a_resumed_run_says_which_lines_are_damaged(tmp_path, capsys):
    ig.fit(dataclasses.replace(TOY, steps=2), tmp_path, quiet=True)
    path = tmp_path / "metrics.jsonl"
    before = path.read_text()
    path.write_text('{"a": 1}\n' + before + "half a li")
    ig.fit(TOY, tmp_path, resume_with_changes=True)
    assert "2 damaged lines were dropped (number 1, 4)" in capsys.readouterr().err
    assert path.read_text().startswith(before.splitlines()[0])


def test_a_line_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path, 0)
    log.write(1, {"a": 1.0})
    before = log.path.read_bytes()
    whole, calls = metrics_log.write_whole, []

    def once_full(file, data):
        calls.append(data)
        if len(calls) == 1:
            file.write(data[:5])
            raise OSError(28, "No space left on device")
        whole(file, data)

    monkeypatch.setattr(metrics_log, "write_whole", once_full)
    with pytest.raises(OSError):
        log.write(1, {"b": 2.0})
    assert log.path.read_bytes() == before


def test_events_are_what_tensorboard_reads(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    log = MetricsLog(tmp_path, 7)
    log.write(8, {"a/loss": 0.5, "b": 2.0})
    (path,) = (tmp_path / "tensorboard").iterdir()
    data, events = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    assert events[0].file_version == "brain.Event:2" and events[1].session_log.status == 1 and events[1].step == 8
    assert {value.tag: value.simple_value for value in events[2].summary.value} == {"a/loss": 0.5, "b": 2.0}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux stands in for the full disk")
def test_a_file_of_facts_that_cannot_be_written_names_itself(tmp_path):
    partial_of(tmp_path / "facts.json").symlink_to("/dev/full")
    with pytest.raises(OSError, match="facts.json could not be written: No space left"):
        write_json(tmp_path / "facts.json", {"a": 1})
    assert not any(tmp_path.iterdir())

"""Trackers: what they are told is what the run wrote, they go on under one name, and none of them ends a training."""

import csv
import dataclasses
import importlib.util
import json
import sqlite3
import sys
import types

import numpy as np
import pytest
from toys import Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.reporting.trackers.dashboards import Trackio, WandB
from imagegen_jax.core.reporting.trackers.table import CSV
from imagegen_jax.core.reporting.trackers.tracker import Followed
from imagegen_jax.core.reporting.trackers.words import tracking_of

TOY = ig.Experiment(
    name="toy", model=Regression(), data=ToyData(), optim={"network": Adam(1e-2)}, batch_size=16, steps=2,
    log_every=1, checkpoint_every=2, sample_every=2, samples=4, mesh=MeshShape(data=1),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Noting:
    """Notes what it is told, in a list; raises at a step where one is given."""

    told: list
    fails_at: int = 0

    def check(self):
        pass

    def open(self, run):
        self.told.append(("open", run.step, run.config["name"]))
        return self

    def write(self, step, metrics):
        if step == self.fails_at:
            raise ConnectionError("no network")
        self.told.append((step, dict(metrics)))

    def image(self, step, picture):
        self.told.append((step, picture.shape))

    def close(self):
        self.told.append("close")


class Failing(Noting):
    pass


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_tells_its_trackers_what_it_writes(tmp_path, capsys):
    noted, failed = Noting([]), Failing([], fails_at=2)
    ig.fit(TOY, tmp_path, track=[noted, failed, "csv"])
    told = {}
    for step, metrics in [entry for entry in noted.told if isinstance(entry[-1], dict)]:
        told.setdefault(step, {"step": step}).update(metrics)
    kept = [{name: value for name, value in line.items() if name != "time"} for line in lines_of(tmp_path)]
    assert list(told.values()) == kept and len(kept) == 2
    assert noted.told[0] == ("open", 0, "toy") and noted.told[-1] == "close"
    assert any(isinstance(entry[-1], tuple) for entry in noted.told[1:-1])
    assert capsys.readouterr().err.count("the tracker Failing is left out from here on (ConnectionError") == 1
    ig.fit(dataclasses.replace(TOY, steps=4), tmp_path, resume_with_changes=True, quiet=True, track=["csv"])
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    for row, line in zip(rows, lines_of(tmp_path), strict=True):
        assert {name: float(value) for name, value in row.items() if value} == {
            name: value for name, value in line.items() if name != "time"
        }


def test_a_table_gains_columns_and_joins_the_parts_of_a_step(tmp_path):
    table = CSV("a.csv").open(Followed(tmp_path, 1, [{"step": 1, "time": 0.0, "loss": 3.0}], {}))
    table.write(1, {"evaluation/fid": 9.0})
    table.write(2, {"loss": 2.0})
    table.write(2, {"evaluation/fid": 8.0})
    table.image(2, np.zeros((2, 2, 3), np.uint8))
    table.write(3, {"loss": 1.0, "new": 0.5})
    table.close()
    text = (tmp_path / "a.csv").read_text()
    assert text == "step,loss,evaluation/fid,new\n1,3.0,9.0,\n2,2.0,8.0,\n3,1.0,,0.5\n"


def test_words_name_trackers(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracking_of(["csv"]) == {"csv": CSV()}
    if importlib.util.find_spec("wandb"):
        assert tracking_of(["wandb:team/faces", "csv"])["wandb:team/faces"] == WandB("faces", "team")
    for words, message in (
        (["wandbb"], "did you mean 'wandb'"), (["csv", "csv"], "given twice"), (["tensorboard"], "writes its events"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            tracking_of(words)


def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for tracking in (WandB(), Trackio()):
        with pytest.raises(ValueError, match=r"pip install 'imagegen_jax\[(wandb|trackio)\]'"):
            ig.fit(TOY, tmp_path / "run", track=[tracking])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_wandb_goes_on_offline_under_one_id(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is an extra")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    WandB().check()
    for step in (0, 2):
        run = WandB("faces").open(Followed(tmp_path, step, [], {"name": "toy", "steps": 4}))
        run.write(step + 1, {"loss": 1.0 - step / 10})
        run.image(step + 1, np.zeros((4, 4, 1), np.uint8))
        run.close()
    (kept,) = tmp_path.glob("wandb_id.txt")
    folders = sorted(path.name for path in (tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) in (1, 2) and all(name.endswith(kept.read_text().strip()) for name in folders)
    content = b"".join(path.read_bytes() for path in (tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert content.count(b"loss") >= 2 and b"faces" in content


def test_trackio_is_told_steps_and_pictures_and_prints_nothing_for_others(tmp_path, monkeypatch, capsys):
    """By trackio's signatures as of 0.43, in which "step" among the values is a reserved word."""
    told = []

    class Run:
        def log(self, metrics, step=None):
            assert "step" not in metrics
            told.append((step, metrics))

        def finish(self):
            print("* Run finished")

    def init(project, name=None, config=None, resume="never", embed=True):
        print("* Trackio project initialized")
        told.append((project, name, config, resume, embed))
        return Run()

    fake = types.SimpleNamespace(init=init, Image=lambda value: ("picture", value.shape))
    monkeypatch.setitem(sys.modules, "trackio", fake)
    for step in (0, 2):
        follow_a_step(Trackio("faces"), tmp_path, step)
    name = (tmp_path / "trackio_id.txt").read_text().strip()
    begun = ("faces", name, {"name": "toy"}, "allow", False)
    told_of = [(step, value) for step in (1, 3) for value in ({"loss": 1.0}, {"samples": ("picture", (4, 4, 3))})]
    assert name.startswith("toy-") and told == [begun, *told_of[:2], begun, *told_of[2:]]
    assert capsys.readouterr().out == ""


def follow_a_step(tracking, folder, step):
    run = tracking.open(Followed(folder, step, [], {"name": "toy"}))
    run.write(step + 1, {"loss": 1.0})
    run.image(step + 1, np.zeros((4, 4, 1), np.uint8))
    run.close()


@pytest.mark.slow
def test_trackio_goes_on_under_one_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read as it is imported
    pytest.importorskip("trackio", reason="trackio is an extra, which brings gradio")
    for step in (0, 2):
        follow_a_step(Trackio("faces"), tmp_path, step)
    name = (tmp_path / "trackio_id.txt").read_text().strip()
    with sqlite3.connect(tmp_path / "trackio" / "faces.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
    assert [row[:2] for row in rows] == [(name, 1), (name, 1), (name, 3), (name, 3)]
    assert json.loads(rows[0][2]) == {"loss": 1.0} and json.loads(rows[1][2])["samples"]["_type"] == "trackio.image"

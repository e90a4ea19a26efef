"""Sweeps: which runs they have, that equal programs are compiled once, that they go on, and what failures do."""

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from toys import Affine, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.optim import SGD, Adam
from imagegen_jax.core.platform import signals
from imagegen_jax.studies import training
from imagegen_jax.studies.sweep import members_of, word_of

TOY = ig.Experiment(
    name="toy", model=Regression(), data=ToyData(), optim={"network": Adam(1e-2)}, batch_size=16, steps=4,
    log_every=2, sample_every=0, samples=4, mesh=MeshShape(data=1),
)  # fmt: skip


def names(over, seeds=1):
    return [member.name for member in members_of(TOY, over, seeds)]


def numbers(run):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(run.state.params)])


def test_all_combinations_with_all_seeds():
    assert names({"optim.network.lr": [1e-3, 1e-2], "batch_size": [8]}, 2) == [
        "lr=0.001_batch_size=8_seed0", "lr=0.001_batch_size=8_seed1",
        "lr=0.01_batch_size=8_seed0", "lr=0.01_batch_size=8_seed1",
    ]  # fmt: skip
    assert names({}, [3, 5]) == ["seed3", "seed5"]
    members = members_of(dataclasses.replace(TOY, seed=7), {"model.noise": [0.5]}, 2)
    assert [(m.experiment.seed, m.experiment.model.noise, m.experiment.name) for m in members] == [
        (7, 0.5, "noise=0.5_seed7"), (8, 0.5, "noise=0.5_seed8")
    ]  # fmt: skip


def test_values_become_words_of_file_names():
    assert [word_of(value) for value in (1e-4, (1, 2), SGD(0.1), Affine(4), Affine(7), "a/b c", None)] == [
        "0.0001", "1-2", "SGD-lr0.1", "Affine", "Affine-features7", "a-b-c", "None",
    ]  # fmt: skip
    assert names({"model.network": [Affine(4), Affine(7)]}) == [
        "network=Affine_seed0",
        "network=Affine-features7_seed0",
    ]


@pytest.mark.parametrize(
    ("over", "seeds", "message"),
    [
        ({"optim.network.lr": []}, 1, "give a list of at least one value"),
        ({"name": "ab"}, 1, "give a list of at least one value"),
        ({"optim.network.lrr": [1]}, 1, "did you mean 'lr'"),
        ({"batch_size": [0]}, 1, "batch_size=0"),
        ({}, 0, "seeds=0"),
        ({}, [1, 1], "give each once"),
        ({"model.noise": [0.1, 0.1]}, 1, "two runs would have the folder noise=0.1_seed0"),
    ],
)
def test_what_cannot_be_swept_is_refused(over, seeds, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ig.sweep(TOY, over, seeds, workdir=tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    before = compiling.compilations()
    found = ig.sweep(TOY, {"model.noise": [0.1, 2.0]}, 3, tmp_path_factory.mktemp("study"), quiet=True)
    assert compiling.compilations() - before == 2  # one for each noise, none more for seeds
    return found


def test_two_losses_by_three_seeds_are_compared_in_a_few_lines(study, tmp_path):
    comparison = study.compare("loss")
    (test,) = comparison.tests
    assert (test.a, test.b, test.verdict, test.difference.seeds) == ("noise=0.1", "noise=2", "differ", (3, 3))
    assert "<svg" in comparison._repr_html_()
    assert len(repr(study)) < 2_000 and "noise=2_seed2" in repr(study)


def test_each_run_is_what_it_is_alone(study, tmp_path):
    alone = ig.fit(ig.override(TOY, {"model.noise": 2.0, "seed": 1}), tmp_path, quiet=True)
    np.testing.assert_array_equal(numbers(study.runs["noise=2_seed1"]), numbers(alone))


def test_side_by_side_is_the_same_study(study, tmp_path):
    other = ig.sweep(TOY, {"model.noise": [0.1, 2.0]}, 3, tmp_path, together=2, quiet=True)
    assert set(other.runs) == set(study.runs)
    for name, run in study.runs.items():
        np.testing.assert_allclose(numbers(other.runs[name]), numbers(run), rtol=1e-5, atol=1e-6)


def test_finished_runs_are_left_as_they_are_and_others_trained(study, capsys):
    before = {path: path.stat().st_mtime_ns for path in study.workdir.glob("*/metrics.jsonl")}
    again = ig.sweep(TOY, {"model.noise": [0.1, 2.0, 3.0]}, 3, study.workdir)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "6 of 9 runs are finished already" in capsys.readouterr().err and len(again.runs) == 9
    assert set(ig.load_study(study.workdir).folders) == set(again.folders)


def test_a_folder_of_another_experiment_is_not_taken_for_finished(study, capsys):
    other = dataclasses.replace(TOY, batch_size=8)
    found = ig.sweep(other, {"model.noise": [0.1]}, 2, study.workdir, together=2)
    assert set(found.failed) == {"noise=0.1_seed0", "noise=0.1_seed1"}
    assert all("batch_size: 16 there, 8 now" in why for why in found.failed.values())
    assert "finished already" not in capsys.readouterr().err


def test_a_run_that_fails_stops_no_other(tmp_path, capsys):
    found = ig.sweep(TOY, {"optim.network.lr": [1e38, 1e-2]}, 2, tmp_path, together=2, quiet=True)
    assert set(found.failed) == {"lr=1e+38_seed0", "lr=1e+38_seed1"}
    assert set(found.runs) == {"lr=0.01_seed0", "lr=0.01_seed1"}
    assert "failed: lr=1e+38_seed0: loss of phase 'regress' is" in capsys.readouterr().err
    assert len(found.compare("loss").groups) == 1


def test_all_members_are_looked_at_before_any_is_trained(tmp_path):
    with pytest.raises(ValueError, match="microbatches=3_seed0: batch_size=16 is not divisible by 1 devices x 3"):
        ig.sweep(TOY, {"microbatches": [1, 3]}, 2, tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError("disk is gone"), ValueError("rows are missing")])
def test_data_that_fail_stop_no_other_run(error, tmp_path, monkeypatch):
    def fit(experiment, folder, **options):
        if experiment.seed == 0:
            raise error

    monkeypatch.setattr(training, "fit", fit)
    assert ig.sweep(TOY, {}, 2, tmp_path, together=1, quiet=True).failed == {"seed0": str(error)}


def test_fewer_are_side_by_side_where_memory_does_not_hold_them(tmp_path, monkeypatch, capsys):
    train, sizes = training.train_side_by_side, []

    def small(experiments, folders, quiet):
        sizes.append(len(experiments))
        if len(experiments) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes")
        return train(experiments, folders, quiet)

    monkeypatch.setattr(training, "train_side_by_side", small)
    found = ig.sweep(TOY, seeds=4, workdir=tmp_path, together=4, quiet=True)
    assert sizes == [4, 2, 2] and len(found.runs) == 4
    assert "2 at a time" in capsys.readouterr().err


def test_a_folder_without_runs_is_no_study(tmp_path):
    with pytest.raises(RunFolderError, match="holds no runs"):
        ig.load_study(tmp_path)
    with pytest.raises(ValueError, match="together=0"):
        ig.sweep(TOY, workdir=tmp_path, together=0)
    with pytest.raises(ValueError, match="side by side in one process alone"):
        ig.sweep(TOY, workdir=tmp_path, together=2, processes=2)


def test_a_process_is_given_each_tracker_by_an_option(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(training.subprocess, "Popen", lambda command, **files: given.extend(command))
    (member,) = members_of(TOY, {}, 1)
    training._started(member, tmp_path, ["csv", "wandb:mine"])
    assert given[-4:] == ["--track", "csv", "--track", "wandb:mine"]


def test_processes_that_save_are_waited_for(tmp_path, monkeypatch, capsys):
    saving = "import os, signal, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    saving += "def save(*_): time.sleep(1); open(sys.argv[1], 'w').close(); sys.exit()\n"
    saving += "signal.signal(signal.SIGTERM, save); os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"
    saved = tmp_path / "saved"
    process = functools.partial(subprocess.Popen, [sys.executable, "-c", saving, str(saved)])
    monkeypatch.setattr(training, "_started", lambda member, workdir, track: process())
    with signals.interruptible(), pytest.raises(signals.Stopped, match="stopped by SIGINT"):
        ig.sweep(TOY, workdir=tmp_path, processes=2, quiet=True)
    assert saved.exists() and "SIGINT: stopping after this step, saving" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_in_processes_of_their_own(study, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent.parent))
    over = {"model.noise": [2.0], "optim.network.lr": [1e-2, 1e38]}
    found = ig.sweep(TOY, over, 1, tmp_path, processes=2, quiet=True)
    np.testing.assert_allclose(
        numbers(found.runs["noise=2_lr=0.01_seed0"]), numbers(study.runs["noise=2_seed0"]), rtol=1e-6
    )
    assert "loss of phase 'regress'" in found.failed["noise=2_lr=1e+38_seed0"]


@pytest.mark.slow
def test_the_commands(imagegen, place, tmp_path):
    pathlib.Path("mine.py").write_text("from toy_experiment import experiment, smoke\n")
    code, out, error = imagegen(
        "sweep", "mine.py", "--smoke", "--over", "model.penalty_every", "2", "4", "--seeds", "2", "--mesh.data", "1",
        "--quiet",
    )  # fmt: skip
    assert code == 0 and "4 of 4 runs in runs/toy_sweep" in out, error
    assert len(list(pathlib.Path("runs/toy_sweep").glob("*/report.html"))) == 4
    code, out, error = imagegen("compare", "runs/toy_sweep", "--metric", "critic/loss", "--out", "c.html")
    assert code == 0 and "model.penalty_every" in out and "Welch's t-test" in out, error
    assert "<svg" in pathlib.Path("c.html").read_text()
    for words, message in (
        (["sweep", "mine.py", "--over", "steps"], "--over steps: give at least one value"),
        (["sweep", "mine.py", "--seeds", "many"], "--seeds many"),
        (["compare", "here"], "neither a run folder"),
        (["compare", "runs/toy_sweep", "--metric", "lost"], "--metric: none of these runs has no metric 'lost'"),
    ):
        code, _, error = imagegen(*words)
        assert code and message in error


@pytest.mark.slow
def test_a_configuration_is_written_and_trained(imagegen, place):
    pathlib.Path("mine.py").write_text("from toy_experiment import experiment, smoke\n")
    code, out, error = imagegen("train", "mine.py", "--smoke", "--mesh.data", "1", "--write-config", "run.yaml")
    assert code == 0 and out == "run.yaml\n", error
    code, _, error = imagegen(
        "train", "--config", "run.yaml", "--module", "toys", "--steps", "3", "--workdir", "a", "--track", "csv",
        "--profile", "2:3", "--log_every", "1",
    )  # fmt: skip
    assert code == 0, error
    assert json.loads(pathlib.Path("a/experiment.json").read_text())["steps"] == 3
    assert pathlib.Path("a/metrics.csv").read_text().count("\n") == 4
    found = json.loads(pathlib.Path("a/profile.json").read_text())
    assert (found["from"], found["to"]) == (2, 3) and found["operations"] and found["total_ms"] > 0
    assert sum(one["share"] for one in found["operations"]) <= 1.001
    assert list(pathlib.Path("a/profile").glob("**/*.xplane.pb"))
    assert list(pathlib.Path("a/profile").glob("**/perfetto_trace.json.gz"))
    assert "Largest operations" in pathlib.Path("a/report.html").read_text()
    code, _, error = imagegen("train", "mine.py", "--config", "run.yaml", "--module", "toys", "--workdir", "b")
    assert code and "mine.py" in error and not pathlib.Path("b").exists()
    code, _, error = imagegen("train", "mine.py", "--profile", "9")
    assert code == 2 and "profile '9'" in error
    code, _, error = imagegen("train", "mine.py", "--smoke", "--track", "csw", "--workdir", "b")
    assert code == 1 and "did you mean 'csv'" in error and not pathlib.Path("b").exists()

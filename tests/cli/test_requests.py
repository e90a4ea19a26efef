"""The command line's requests: what words make of them, and that Python asks for the same."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import pathlib

import fuzz
import numpy as np
import pytest
from toys import Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.cli import data, edit, encode, evaluate, importing, info, report, sample, train
from imagegen_jax.cli.commands import main_parser
from imagegen_jax.cli.common.errors import words_of
from imagegen_jax.cli.edit.reconstructing import ReconstructRequest
from imagegen_jax.cli.edit.redrawing import MorphRequest
from imagegen_jax.cli.edit.restoring import InpaintRequest
from imagegen_jax.cli.edit.styles import MixRequest
from imagegen_jax.cli.evaluate_options import EvaluateRequest
from imagegen_jax.cli.safeguards.carding import CardRequest
from imagegen_jax.core.checkpoints.stored import CheckpointError, Stored
from imagegen_jax.core.optim import Adam

pytestmark = pytest.mark.usefixtures("place")
RUN = pathlib.Path("runs/a")


def request_of(*words):
    options, more = main_parser(words).parse_known_args(words)
    return options.command.read(vars(options), more)


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (
            "sample runs/a --n 4 --labels 3,7 --model.levels.steps 32 --module toys --guidance 2 --source a b",
            sample.SampleRequest(
                RUN, n=4, labels="3,7", overrides=("--model.levels.steps", "32"), modules=("toys",), guidance=2.0,
                source=("a", "b"),
            ),
        ),
        ("edit mix runs/a --layers 2-5 --seed 4", MixRequest(RUN, layers=(2, 6), seed=4)),
        ("edit inpaint runs/a x.png --mask m.png --fit --step best",
         InpaintRequest(RUN, images=("x.png",), mask="m.png", fit=True, step="best")),
        ("edit morph runs/a x.png y.png", MorphRequest(RUN, images=("x.png", "y.png"))),
        ("evaluate runs/a digits --metrics fid --seed 0 --json",
         EvaluateRequest(("runs/a", "digits"), metrics="fid", seed=0, json=True)),
        ("encode runs/a photos --mirror --size 8 --out x.npz",
         encode.EncodeRequest(RUN, data="photos", mirror=True, size=8, out="x.npz")),
        ("edit reconstruct runs/a x.png", ReconstructRequest(RUN, images=("x.png",))),
        ("card runs/a --license mit --data-licence cc0-1.0", CardRequest(RUN, licence="mit", data_licence="cc0-1.0")),
        ("report runs/a --out x.html", report.ReportRequest(RUN, pathlib.Path("x.html"))),
        ("info experiments.x --steps 3", info.InfoRequest("experiments.x", overrides=("--steps", "3"))),
        ("import diffusers x --out runs/a", importing.ImportRequest("diffusers", pathlib.Path("x"), RUN)),
        ("data info a.zip --size 8 --skip-damaged", data.DataRequest("info", "a.zip", size=8, skip_damaged=True)),
        ("train photos --recipe edm --size 32 --steps 9 --workdir runs/a",
         train.TrainRequest("photos", recipe="edm", size=32, workdir=RUN, overrides=("--steps", "9"))),
        ("train runs/a --few new --steps 9", train.TrainRequest("runs/a", few="new", overrides=("--steps", "9"))),
        ("report runs/a --copies 9 --labels 3", report.ReportRequest(RUN, copies=9, labels="3")),
        ("train x.py --data digits --smoke", train.TrainRequest("x.py", data="digits", smoke=True)),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_words_become_a_request(words, request_):
    assert request_of(*words.split()) == request_
    with pytest.raises(dataclasses.FrozenInstanceError):
        request_.n = 1


@pytest.mark.parametrize("words", [("sample", "runs/a", "--n", "4"), ("edit", "mix", "runs/a")])
def test_of_the_words_to_parse_only_the_command_has_its_options(words):
    named, whole = main_parser(words), main_parser()
    assert named.format_help() == whole.format_help()
    assert request_of(*words) == (MixRequest(RUN) if words[0] == "edit" else sample.SampleRequest(RUN, n=4))
    commands = next(a for a in named._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert {name for name, parser in commands.items() if len(parser._actions) > 1} == {words[0]}


@pytest.mark.parametrize("command", fuzz.parsers())
def test_every_option_is_a_field_with_the_same_default(command):
    """Discovered, of every command and every edit: nothing that is parsed is lost on the way."""
    words, given, parser = command.split(), set(), fuzz.parsers()[command]
    for action in parser._actions:
        needed = not action.option_strings or action.required
        if needed and action.nargs != "?":
            words += [*action.option_strings[:1], next(iter(action.choices)) if action.choices else "3"]
            given.add(action.dest)
    found = request_of(*words)
    assert {action.dest for action in parser._actions} - {"help"} <= {f.name for f in dataclasses.fields(found)}
    assert found == type(found)(**{name: getattr(found, name) for name in given})


def test_no_namespace_travels(root):
    """What `argparse` has parsed ends where the request is made of it."""
    texts = {path: path.read_text() for path in (root / "imagegen_jax").rglob("*.py")}
    assert not [str(path) for path, text in texts.items() if "Namespace" in text or "getattr(options" in text]


# --- the same in Python ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run at step 0 whose weights are zeros."""
    experiment = ig.Experiment("toy", Regression(), ToyData(), {"network": Adam(1e-2)}, batch_size=8, steps=2)
    folder = tmp_path_factory.mktemp("runs") / "toy"
    fuzz.make_run(folder, experiment)
    return folder


def test_sample(run, capsys):
    place = sample.run(sample.SampleRequest(run, n=3, out="new/x.npz", modules=("toys",)))
    assert place == pathlib.Path("new/x.npz") and "3 images in new/x.npz" in capsys.readouterr().out
    with np.load(place) as arrays:
        assert arrays["arr_0"].shape == (3, 2, 2, 1)
    with pytest.raises(ValueError, match="--model.noise 2: changes nothing of what is drawn"):
        sample.run(sample.SampleRequest(str(run), modules=("toys",), overrides=("--model.noise", "2")))


def test_edit(run):
    with pytest.raises(TypeError, match="a Regression has no styles"):
        edit.run(MixRequest(run, modules=("toys",)))


def test_evaluate(capsys):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.savez(f"{name}.npz", rng.integers(0, 256, (9, 4, 4, 1), np.uint8))
    found = evaluate.run(EvaluateRequest(("a.npz", "b.npz"), extractor="pixels", metrics="kid", quiet=True))
    assert list(found) == ["a.npz"] and np.isfinite(found["a.npz"][0].value)
    assert "KID" in capsys.readouterr().out


def test_report_and_info(run, tmp_path, capsys):
    assert report.run(report.ReportRequest(str(run), tmp_path / "x.html")) == tmp_path / "x.html"
    assert (tmp_path / "x.html").is_file()
    info.run(info.InfoRequest(str(run), modules=("toys",)))
    assert "parameters" in capsys.readouterr().out
    with pytest.raises(ValueError, match="is a run, whose experiment is as it is"):
        info.run(info.InfoRequest(str(run), overrides=("--steps", "3")))


def test_data(capsys):
    assert data.run(data.DataRequest("info", "digits", size=4)) == pathlib.Path("data.png")
    assert "1,797" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--skip-damaged: digits has no such setting"):
        data.run(data.DataRequest("info", "digits", skip_damaged=True))


def test_import():
    with pytest.raises(ValueError, match="nowhere is no folder"):
        importing.run(importing.ImportRequest("diffusers", "nowhere", "runs/a"))


@pytest.mark.slow
def test_train(root, tmp_path):
    place = tmp_path / "run"
    trained = train.run(train.TrainRequest(str(root / "tests/toy_experiment.py"), smoke=True, workdir=place))
    assert trained.step == trained.experiment.steps and (place / "report.html").is_file()
    with pytest.raises(ValueError, match="nothing is named to be trained"):
        train.run(train.TrainRequest())


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"),
         "a.png: No such file or directory: give the path of what is there"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"),
         "/x: Permission denied: change its permissions, or give another place"),
        (OSError(errno.ENOSPC, "No space left on device"),
         "No space left on device: make room there, or give another place"),
        (OSError("as it is"), "as it is"),
        (ValueError("as it is"), "as it is"),
    ],
)  # fmt: skip
def test_what_the_system_says_alone_gets_its_place_and_the_way_on(error, words):
    assert words_of(error) == words


def test_a_file_in_the_place_of_the_checkpoints_is_said(tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(CheckpointError, match="checkpoints is a file, .* a folder of this name: move it away"):
        Stored(tmp_path / "checkpoints").steps()


@pytest.mark.parametrize(("given", "begins"), [({}, False), ({"source": ("a.png",)}, True)])
def test_samples_begin_with_images_where_sources_are_given(given, begins):
    assert sample.SampleRequest(RUN, **given).begins_with_images is begins


@pytest.mark.parametrize(
    ("command", "option", "name"), [(importing.COMMAND, "--set", "set"), (sample.COMMAND, "--source", "source")]
)
def test_an_option_of_several_values_that_is_given_twice_loses_none(command, option, name):
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    given = ["edm", "a", "--out", "b"] if name == "set" else ["runs/a", "--out", "b"]
    assert getattr(parser.parse_args([*given, option, "x=1", "y=2", option, "z=3"]), name) == ["x=1", "y=2", "z=3"]

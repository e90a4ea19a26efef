"""The command line, as a user runs it: in processes of its own where these matter, and in this one for the rest."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

ENV = os.environ | {"XLA_FLAGS": "", "COLUMNS": "120", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # runs of a few steps
ONE = ("--mesh.data", 1)  # device, of the eight that this process has


@pytest.fixture(autouse=True)
def toys_as_they_were(monkeypatch):
    """A file that --module names is imported anew, in the place of what has its name."""
    if "toys" in sys.modules:
        monkeypatch.setitem(sys.modules, "toys", sys.modules["toys"])


@pytest.fixture(scope="module")
def process(root):
    """Runs `imagegen ...` in the root of the checkout; returns (code, standard output, standard error)."""

    def run(*arguments):
        command = [sys.executable, "-m", "imagegen_jax.cli", *map(str, arguments)]
        done = subprocess.run(command, cwd=root, env=ENV, capture_output=True, text=True, timeout=240)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(autouse=True)
def _in_the_checkout(root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", ENV["COLUMNS"])


@pytest.fixture(scope="module")
def run(process, tmp_path_factory):
    """A finished smoke run of the class-conditional demo, whose network has one level."""
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    small = ("--smoke", "--model.network.multipliers", 1)
    code, _, said = process("train", "experiments.ddpm_digits", *small, "--workdir", workdir)
    assert code == 0, said
    return workdir


@pytest.mark.slow
def test_a_run_folder_holds_what_a_reader_needs(run):
    holds_what_a_reader_needs(run, "denoise")
    grids = sorted((run / "samples").glob("*.png"))
    assert len(grids[-1].stem) == 8 and Image.open(grids[-1]).mode == "L"


def test_a_run_folder_of_a_users_own_model_holds_it_too(imagegen, tmp_path):
    code, _, said = imagegen("train", "tests/toy_experiment.py", "--smoke", "--workdir", tmp_path / "run", *ONE)
    assert code == 0, said
    holds_what_a_reader_needs(tmp_path / "run", "critic")


def holds_what_a_reader_needs(run, phase):
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "checkpoints", "experiment.json", "environment.json", "metrics.jsonl", "parameters.json", "report.html",
        "README.md", "samples", "tensorboard",
    }  # fmt: skip
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "time", "images_per_second", f"{phase}/loss", f"{phase}/grad_norm"} <= set(lines[-1])
    environment = json.loads((run / "environment.json").read_text())
    assert environment["versions"]["jax"] and environment["devices"]


@pytest.mark.slow
def test_train_says_where_it_is(imagegen, process, tmp_path):
    code, _, said = imagegen("train", "tests/toy_experiment.py", "--workdir", tmp_path / "run", *ONE)
    assert code == 0, said
    assert "step 40 of 40 (100 %)" in said and "images/s" in said and "critic/loss" in said
    assert "\r" not in said  # plain lines where the output is no terminal
    code, _, said = process("train", "tests/toy_experiment.py", "--workdir", tmp_path / "run", *ONE)
    assert code == 0 and "resumed at step 40" in said


@pytest.mark.slow
def test_a_run_goes_on_by_its_folder_alone(imagegen, process, tmp_path):
    assert imagegen("train", "tests/toy_experiment.py", "--smoke", "--workdir", tmp_path / "run", *ONE)[0] == 0
    code, _, said = imagegen("train", tmp_path / "run", "--module", "tests/toys.py", "--steps", 8)
    assert code == 1 and "steps: 4 there, 8 now" in said and "--resume-with-changes" in said
    words = ("--module", "tests/toys.py", "--steps", 8, "--resume-with-changes")
    code, _, said = process("train", tmp_path / "run", *words)
    assert code == 0 and "resumed at step 4" in said and (tmp_path / "run" / "checkpoints" / "8").is_dir(), said
    code, _, said = imagegen("train", tmp_path / "run", "--smoke")
    assert code == 1 and "--smoke" in said and not (tmp_path / "run" / "run").exists()


@pytest.mark.slow
def test_a_run_of_a_users_own_model_is_sampled_by_naming_its_module(imagegen, process, tmp_path):
    assert imagegen("train", "tests/toy_experiment.py", "--smoke", "--workdir", tmp_path / "run", *ONE)[0] == 0
    code, _, said = process("sample", tmp_path / "run", "--n", 4, "--out", tmp_path / "grid.png")
    assert code == 1 and "'toys'" in said and "--module toys" in said
    module = ("--module", "tests/toys.py")
    code, _, said = process("sample", tmp_path / "run", "--n", 4, "--out", tmp_path / "grid.png", *module)
    assert code == 0 and (tmp_path / "grid.png").exists(), said


@pytest.mark.slow
def test_sample_writes_grids_folders_and_arrays(imagegen, run, tmp_path):
    out = tmp_path / "samples.npz"
    code, said, error = imagegen("sample", run, "--n", 6, "--labels", "3,7", "--out", out, "--model.sampler.steps", 5)
    assert code == 0 and "6 images" in said, error
    with np.load(out) as arrays:
        assert arrays["arr_0"].dtype == np.uint8 and arrays["arr_0"].shape[0] == 6
        assert arrays["arr_1"].dtype == np.int64 and arrays["arr_1"].tolist() == [3, 3, 3, 7, 7, 7]
    code, _, error = imagegen("sample", run, "--n", 4, "--out", f"{tmp_path}/folder/", "--model.sampler.steps", 5)
    assert code == 0 and len(list((tmp_path / "folder").glob("*.png"))) == 4, error
    code, _, error = imagegen("sample", run, "--n", 20, "--out", tmp_path / "g.png", "--model.sampler.steps", 5)
    assert code == 0 and Image.open(tmp_path / "g.png").size[1] > Image.open(tmp_path / "g.png").size[0], error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--labels", "3,12"), ["--labels: 12 is out of range", "0 to 9"]),
        (("--model.sampler.stepz", "5"), ["model.sampler.steps"]),
        (("--model.sampler.steps", "many"), ["many"]),
        (("--average", "fast"), ["'fast'"]),
        (("--n", "0"), ["argument --n: '0' must be an integer, at least 1"]),
    ],
)
def test_sample_refuses_bad_input(imagegen, run, arguments, words):
    code, out, said = imagegen("sample", run, *arguments, "--out", "never.png")
    assert code != 0
    for word in words:
        assert word in said + out, said + out


@pytest.mark.slow
def test_edit_says_what_a_model_lacks(imagegen, run, tmp_path):
    code, _, said = imagegen("edit", "interpolate", run, "--out", tmp_path / "walk.gif")
    assert code == 1 and "a DDPM does not make its images of latents alone" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--optim.generator.lrr", "1"), ["lrr", "optim.generator.lr"]),
        (("--optim.critic.lr", "-0.1"), ["optim.critic.lr=-0.1"]),
        (("--optim.critic.lr", "nan"), ["optim.critic.lr=nan"]),
        (("--batch-size", "many"), ["many"]),
        (("--steps", "0"), ["steps=0"]),
        (("--mesh.fsdp", "3"), ["mesh.fsdp=3", "8 devices"]),
        (("--pretrained", "x"), ["pretrained"]),
    ],
)
def test_train_refuses_bad_input(imagegen, tmp_path, arguments, words):
    code, out, said = imagegen("train", "tests/toy_experiment.py", "--workdir", tmp_path / "run", *arguments)
    assert code != 0
    for word in words:  # a process that ends with a text for a code prints it
        assert word in f"{said}{out}{code}", said + out
    assert not (tmp_path / "run" / "checkpoints").exists() or not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_schedule_is_chosen_by_name(imagegen, tmp_path):
    code, _, said = imagegen(
        "train", "tests/toy_experiment.py", "--smoke", "--workdir", tmp_path, "--optim.generator.lr", "Cosine",
        "--optim.generator.lr.floor", "0.001", *ONE,
    )  # fmt: skip
    assert code == 0, said
    rate = json.loads((tmp_path / "experiment.json").read_text())["optim"]["generator"]["lr"]
    assert rate["class"].endswith(":CosineDecay") and rate["peak"] == 0.01 and rate["floor"] == 0.001


@pytest.mark.slow
def test_info_counts_without_memory(imagegen):
    start = time.perf_counter()
    code, out, said = imagegen("info", "experiments.ddpm_cifar10", "--json")
    assert code == 0, said
    assert json.loads(out)["networks"]["network"]["count"] == 35_746_307
    assert time.perf_counter() - start < 20
    wide = ("--model.network.width", 4096)
    code, out, said = imagegen("info", "experiments.ddpm_cifar10", "--json", *wide)
    assert code == 0, said
    assert json.loads(out)["networks"]["network"]["count"] > 3e10


@pytest.mark.slow
def test_info_and_report_of_a_run(imagegen, run):
    code, out, said = imagegen("info", run, "--arrays")
    assert code == 0 and "parameters" in out and "conv_in" in out, said
    code, out, said = imagegen("report", run)
    assert code == 0 and out.strip() == str(run / "report.html"), said


def test_data_info_tells_of_a_source(imagegen, tmp_path):
    code, out, said = imagegen("data", "info", "digits", "--out", tmp_path / "d.png")
    assert code == 0, said
    assert "1,797" in out and "8x8" in out
    assert Image.open(tmp_path / "d.png").size[0] > 8


@pytest.mark.slow
def test_what_is_no_target_is_named(imagegen, tmp_path):
    for target in ("experiments.ddpm_digit", "nothing.py"):
        code, _, said = imagegen("train", target)
        assert code == 1 and target in said
    code, _, said = imagegen("sample", tmp_path)
    assert code == 1 and "no run folder" in said


@pytest.mark.slow
@pytest.mark.parametrize("command", [(), ("train",), ("sample",), ("edit",), ("info",), ("report",), ("data",)])
def test_help_has_examples(imagegen, command):
    code, out, _ = imagegen(*command, "--help")
    assert code == 0
    assert "example" in out or not command


@pytest.mark.slow
def test_experiments_list_every_field_in_their_help(root):
    command = [sys.executable, "-m", "experiments.ddpm_cifar10", "--help"]
    out = subprocess.run(command, cwd=root, env=ENV, capture_output=True, text=True, timeout=120).stdout
    for option in ("--workdir", "--model.network.width", "--optim.network.lr.peak", "--mesh.fsdp", "--batch-size"):
        assert option in out
    assert "rows of one step" in out  # the comment beside the field

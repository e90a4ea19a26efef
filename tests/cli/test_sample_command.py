"""`imagegen sample` and what Python's `Run.sample` shares with it: outputs, interruptions, and what is refused."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import pathlib
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from toys import Affine, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.cli.commands import main_parser
from imagegen_jax.cli.common import runs as run_options
from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.drawing import draw
from imagegen_jax.core.experiment import row_shapes
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.reporting.not_finite import NonFiniteError
from imagegen_jax.core.run import Run
from imagegen_jax.core.run_folder import store_rows
from imagegen_jax.core.state import create
from imagegen_jax.data import Latents as LatentData
from imagegen_jax.data.pictures import streaming


@dataclasses.dataclass(frozen=True)
class Flat(Regression):
    """Draws affine functions of noise, of three classes; a weight that training alone would read."""

    network: Affine = Affine(4)
    num_classes: int = 3
    scale: float = 0.1  # of the noise
    loss_weight: float = 1.0
    optional_conditions: ClassVar[tuple[str, ...]] = ("guidance",)

    def sample(self, nets, key, n, conditions):
        x = self.network.apply(nets["network"], self.scale * jax.random.normal(key, (n, 4))).reshape(n, 2, 2, 1)
        return jnp.clip(x + conditions["label"].reshape(-1, 1, 1, 1) / 4, -1, 1) * conditions.get("guidance", 1.0)


def run_of(model, folder):
    """A run at step 0 whose data have classes a, b and c."""
    experiment = ig.Experiment("flat", model, ToyData(), {"network": Adam(1e-3)}, batch_size=8)
    nets = model.init(jax.random.key(0), ToyData().open().batch(0, 2))
    store_rows(folder, row_shapes(ToyData().open()), ToyData().open().class_names)
    return Run(experiment, create(nets, experiment.optim, {}), folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(Flat(), tmp_path_factory.mktemp("flat"))


@pytest.fixture
def imagegen(imagegen, run, monkeypatch, tmp_path):
    """Runs `imagegen ...` in an empty folder, where a run is called "flat", and others by what the call names."""
    runs = {"flat": run}
    monkeypatch.setattr(run_options, "load", lambda name, modules, step=None: runs[name.name])
    monkeypatch.chdir(tmp_path)

    def call(*arguments, **more):
        runs.update(more)
        return imagegen(*arguments)

    return call


def images_of(path):
    """What lies at a path: [n h w c] of an .npz, of an .npy, of a folder in the order of numbers."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["arr_0"]
    names = sorted(path.glob("*.png"), key=lambda name: name.stem.split("_")[-1])
    return np.stack([np.asarray(Image.open(name))[..., None] for name in names])


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["g.png", "g.jpg", "g.jpeg", "g.webp", "new/g.png", "new/x.npz", "x.npz", "f", "f/"])
def test_outputs_are_what_their_names_say(imagegen, tmp_path, run, name):
    code, out, said = imagegen("sample", "flat", "--n", 7, "--out", name)
    assert code == 0 and f"7 images in {name}" in out, said
    path = tmp_path / name
    if path.suffix in (".npz", ""):
        labels = [0, 0, 0, 1, 1, 2, 2]
        np.testing.assert_array_equal(images_of(path), run.sample(7, labels))
        if path.suffix:
            with np.load(path) as arrays:
                assert arrays["arr_1"].tolist() == labels and arrays["arr_1"].dtype == np.int64
    else:
        wanted = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(path.suffix, "PNG")
        assert Image.open(path).format == wanted
    assert not [found for found in tmp_path.rglob("*") if found.name.startswith(".")]


@pytest.mark.parametrize(
    ("command", "out", "words"),
    [
        (("sample", "flat"), "grid.bmp", "this command writes .png, .jpg, .jpeg, .webp, .npz, .npy or a folder/"),
        (("sample", "flat"), "o.gif", "this command writes"),
        (("sample", "flat"), "a_file/x.npz", "is a file, not a folder"),
        (("sample", "flat"), "/proc/nowhere/x.npz", "cannot be written"),
        (("sample", "flat"), "a_folder.npz", "there is a folder of this name"),
        (("edit", "mix", "flat"), "o.gif", "this command writes .png, .jpg, .jpeg or .webp"),
        (("edit", "redraw", "flat", "a.png"), "o.gif", "this command writes .png"),
        (("edit", "interpolate", "flat"), "o.bmp", "this command writes .gif, .mp4, .png, .jpg, .jpeg or .webp"),
        (
            ("edit", "project", "flat", "a.png", "--styles", "w.png"),
            "o.png",
            "--styles w.png: this command writes .npz",
        ),
        (("edit", "project", "flat", "a.png", "--styles", "a_file/w.npz"), "o.png", "--styles"),
        (("import", "diffusers", "x"), "a_file", "a file of this name, but a folder"),
        (("import", "diffusers", "x"), "run.npz", "this command writes a folder/"),
        (("data", "info", "digits"), "d", "this command writes .png"),
        (("data", "info", "digits"), "a_file/d.png", "is a file, not a folder"),
    ],
)
def test_places_are_checked_before_anything_is_read(imagegen, monkeypatch, tmp_path, command, out, words):
    (tmp_path / "a_file").touch()
    (tmp_path / "a_folder.npz").mkdir()
    monkeypatch.setattr(run_options, "load", None)
    code, _, said = imagegen(*command, "--out", out)
    assert code == 1 and words in said, said
    assert {path.name for path in tmp_path.rglob("*")} == {"a_file", "a_folder.npz"}


def test_a_folder_that_holds_images_is_refused(imagegen, tmp_path):
    assert imagegen("sample", "flat", "--n", 5, "--out", "f/")[0] == 0
    code, _, said = imagegen("sample", "flat", "--n", 2, "--out", "f/")
    assert code == 1 and "--out f: holds images already, such as" in said and "--overwrite" in said
    assert len(list((tmp_path / "f").iterdir())) == 5
    code, _, said = imagegen("sample", "flat", "--n", 2, "--out", "f/", "--overwrite")
    assert code == 0 and len(list((tmp_path / "f").iterdir())) == 2, said
    (tmp_path / "f" / "deep").mkdir()
    (tmp_path / "f" / "deep" / "holiday.jpg").touch()
    code, _, said = imagegen("sample", "flat", "--n", 2, "--out", "f/", "--overwrite")
    assert code == 1 and "other images too, such as deep/holiday.jpg" in said
    assert len(list((tmp_path / "f").glob("*.png"))) == 2
    code, _, said = imagegen("sample", "flat", "--n", 2, "--out", "g.png", "--overwrite")
    assert code == 1 and "--overwrite: a .png takes the place of an earlier one anyway" in said


@pytest.mark.parametrize(
    ("name", "n", "words"),
    [
        ("g.png", 2_000_000_000, "write them to a folder/ or an .npz"),
        ("g.png", 3_000_000, "write them to a folder/ or an .npz"),
        ("g.webp", 20_000, "a .webp has at most 16383"),
    ],
)
def test_a_picture_of_too_many_images_is_refused_before_they_are_drawn(imagegen, tmp_path, name, n, words):
    code, _, said = imagegen("sample", "flat", "--n", n, "--labels", "a", "--out", name)
    assert code == 1 and words in said, said
    assert not list(tmp_path.iterdir())


# --- interruptions ---------------------------------------------------------------------------------------------------


class Interrupting:
    """A function that is interrupted at its call of some number, before or after it."""

    def __init__(self, function, at, error, before):
        self.function, self.left, self.error, self.before = function, at, error, before

    def __call__(self, *arguments, **settings):
        self.left -= 1
        if self.before and self.left == 0:
            raise self.error
        self.function(*arguments, **settings)
        if self.left == 0:
            raise self.error


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [(KeyboardInterrupt(), 130, "stopped: "), (FULL, 1, "No space left on device: ")],
)
@pytest.mark.parametrize(("at", "before", "kept"), [(2, True, 0), (3, True, 8), (3, False, 16), (4, False, 20)])
@pytest.mark.parametrize("name", ["f", "new/x.npz", "new/x.npy"])
def test_an_interrupted_call_goes_on(imagegen, monkeypatch, tmp_path, run, name, at, before, kept, error, code, words):
    """To the same images, bit for bit, whether it stopped before its chunk was noted or after."""
    call = ("sample", "flat", "--n", 20, "--chunk", 8, "--seed", 5, "--out", name)
    whole = run.sample(20, np.sort(np.resize([0, 1, 2], 20)), 5, 8)
    with monkeypatch.context() as patch:
        patch.setattr(streaming, "write_json", Interrupting(streaming.write_json, at, error, before))
        found, _, said = imagegen(*call)
    assert found == code and words in said, said
    assert ("20 images are kept" in said and "the same command goes on" in said) or "none of 20 images" in said
    assert not (tmp_path / name).is_file()
    starts, original = [], Run.sample_chunks

    def recorded(*arguments, start, **settings):
        starts.append(start)
        return original(*arguments, start=start, **settings)

    monkeypatch.setattr(Run, "sample_chunks", recorded)
    found, _, said = imagegen(*call)
    assert found == 0 and starts == [min(kept, 16)] and ("are there already" in said) == (kept > 0), said
    np.testing.assert_array_equal(images_of(tmp_path / name), whole)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--n", 19), "n: 20 there, 19 now"),
        (("--seed", 6), "seed: 5 there, 6 now"),
        (("--labels", "1"), "labels: '' there, '1' now"),
        (("--chunk", 16), "chunk: 8 there, 16 now"),
        (("--guidance", 0.5), "guidance: None there, 0.5 now"),
        (("--model.scale", 0.5), "options: '' there, '--model.scale 0.5' now"),
    ],
)
@pytest.mark.parametrize("name", ["f", "x.npz"])
def test_another_call_is_refused_where_one_was_interrupted(imagegen, monkeypatch, tmp_path, name, change, words):
    call = ("sample", "flat", "--n", 20, "--chunk", 8, "--seed", 5, "--out", name)
    with monkeypatch.context() as patch:
        patch.setattr(streaming, "write_json", Interrupting(streaming.write_json, 2, KeyboardInterrupt, False))
        assert imagegen(*call)[0] == 130
    code, _, said = imagegen(*call, *change)
    assert code == 1 and words in said and "add --overwrite" in said, said
    code, _, said = imagegen(*call, *change, "--overwrite")
    assert code == 0 and len(images_of(tmp_path / name)) in (19, 20), said


def test_other_weights_are_another_call(imagegen, monkeypatch, run, tmp_path):
    call = ("sample", "flat", "--n", 20, "--chunk", 8, "--out", "x.npz")
    with monkeypatch.context() as patch:
        patch.setattr(streaming, "write_json", Interrupting(streaming.write_json, 2, KeyboardInterrupt, False))
        assert imagegen(*call)[0] == 130
    state = run.state.replace(params=jax.tree.map(lambda x: x + 1, run.state.params))
    code, _, said = imagegen(*call, flat=dataclasses.replace(run, state=state))
    assert code == 1 and "weights: " in said and "seed" not in said


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_a_partial_array_that_was_cut_is_named(imagegen, monkeypatch, tmp_path, name):
    call = ("sample", "flat", "--n", 20, "--chunk", 8, "--out", name)
    with monkeypatch.context() as patch:
        patch.setattr(streaming, "write_json", Interrupting(streaming.write_json, 3, KeyboardInterrupt, False))
        assert imagegen(*call)[0] == 130
    partial = tmp_path / f".{name}.partial"
    partial.write_bytes(partial.read_bytes()[:150])
    code, _, said = imagegen(*call)
    assert code == 1 and "too short: begin anew with --overwrite" in said
    assert imagegen(*call, "--overwrite")[0] == 0
    assert len(images_of(tmp_path / name)) == 20


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"call": [], "images": 8}', '{"call": {}, "images": "8"}'])
@pytest.mark.parametrize("name", ["f", "x.npz"])
def test_a_damaged_note_of_a_call_is_named_with_the_way_on(imagegen, tmp_path, name, content):
    note = tmp_path / ("f/.sampling.json" if name == "f" else ".x.npz.sampling.json")
    note.parent.mkdir(exist_ok=True)
    note.write_text(content)
    call = ("sample", "flat", "--n", 20, "--chunk", 8, "--out", name)
    code, _, said = imagegen(*call)
    assert code == 1 and f"{note.name}, a note of an interrupted call, is damaged: add --overwrite" in said, said
    assert imagegen(*call, "--overwrite")[0] == 0
    assert len(images_of(tmp_path / name)) == 20


# --- numbers that are no numbers -------------------------------------------------------------------------------------


def lost(run):
    """A run whose weights have a NaN."""
    params = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(jnp.nan), run.state.params)
    return dataclasses.replace(run, state=run.state.replace(params=params))


@pytest.mark.parametrize("name", ["g.png", "x.npz", "f"])
def test_no_image_is_written_of_weights_that_are_not_finite(imagegen, run, tmp_path, name):
    code, _, said = imagegen("sample", "flat", "--n", 3, "--out", name, flat=lost(run))
    assert code == 1 and "NaN" in said and "network" in said and "--step" in said, said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_weights_are_named_where_they_are_why_images_are_not_finite(run):
    """As in the samples of a training, whose networks are no run's yet."""
    nets = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(jnp.nan), run.nets)
    with pytest.raises(NonFiniteError, match=r"3 of 3 images .*the weights of 'network' are not finite"):
        draw.sample(run.experiment.model, nets, 3, conditions={"label": np.arange(3)})


def test_images_that_are_not_finite_are_counted(run):
    run = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, model=Overflowing()))
    with pytest.raises(NonFiniteError, match=r"1 of 4 images .*the weights are finite: use weaker guidance"):
        run.sample(4, [0, 2, 1, 1])


@dataclasses.dataclass(frozen=True)
class Overflowing(Flat):
    """Class 2 is no number."""

    def sample(self, nets, key, n, conditions):
        return super().sample(nets, key, n, conditions) + jnp.log(2.0 - conditions["label"]).reshape(-1, 1, 1, 1) * 0


@pytest.mark.slow
def test_training_goes_on_where_samples_are_not_finite(tmp_path, capfd):
    """Without a grid of them, and with a warning: its losses are finite."""
    experiment = ig.Experiment(
        "lost", Overflowing(), ToyData(), {"network": Adam(1e-3)}, batch_size=8, steps=4, sample_every=2, samples=6
    )
    run = ig.fit(experiment, tmp_path / "run")
    assert run.step == 4 and not list((tmp_path / "run" / "samples").iterdir())
    assert "warning: no samples of step 2: 2 of 6 images are not finite" in capfd.readouterr().err


NUMBERS = ["nan", "inf", "-inf", "1e999", "9" * 400, "", "x"]


def parsers():
    """Every parser below `imagegen sample` and `imagegen edit`, by its name."""
    commands = next(a for a in main_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    edits = next(a for a in commands["edit"]._actions if isinstance(a, argparse._SubParsersAction)).choices
    return {"sample": commands["sample"], **{f"edit {name}": parser for name, parser in edits.items()}}


@pytest.mark.parametrize("command", parsers())
def test_every_number_option_refuses_what_is_none(command, capsys):
    """Naming option and value. Numbers are known by the type that `options` makes: none is a bare int or float."""
    parser, count = parsers()[command], 0
    for action in parser._actions:
        assert action.type not in (int, float), action.dest
        if getattr(action.type, "__module__", "") != "imagegen_jax.cli.common.options":
            continue
        for value in NUMBERS:
            with pytest.raises(argparse.ArgumentError, match=f"argument {action.option_strings[0]}"):
                parser._get_values(action, [value] * (action.nargs or 1))
            count += 1
    assert count >= 14  # --seed, --std and --chunk at least, of which an empty text is no number either


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": [4294967299] * 4}, "labels: 4294967299 is out of range: this model knows 0 to 2"),
        ({"labels": np.array([2**32 + 1] * 4)}, "labels: 4294967297 is out of range"),
        ({"labels": [1.5, 1, 1, 1]}, "labels: 1.5 is no class"),
        ({"labels": [True, 1, 1, 1]}, "labels: True is no class"),
        ({"labels": ["d", "a", "a", "a"]}, "labels: there is no class 'd'.* a, b, c"),
        ({"labels": [0, 1]}, "labels of shape"),
        ({"labels": None}, "draws images of 3 classes"),
        ({"seed": -1}, "seed=-1: a seed is an integer from 0 to 4294967295"),
        ({"seed": 2**32}, "seed=4294967296: a seed"),
        ({"seed": 1.5}, "seed=1.5: a seed"),
        ({"n": 0}, "n=0: must be an integer, at least 1"),
        ({"n": 2.5}, "n=2.5: must be"),
        ({"chunk": -3}, "chunk=-3: must be"),
        ({"chunk": True}, "chunk=True: must be"),
        ({"guidance": np.nan}, "guidance nan: must be a finite number"),
        ({"guidance": np.float32(np.inf)}, "guidance inf: must be a finite number"),
        ({"guidance": 1e30}, r"guidance 1e\+30: must be a finite number, at least -1000 and at most 1000"),
        ({"guidance": "strong"}, "guidance strong: must be a finite number"),
        ({"guidance": [1.0, np.nan, 1.0, 1.0]}, "guidance nan: must be"),
    ],
)
def test_python_refuses_the_same(run, settings, words):
    with pytest.raises(ValueError, match=words):
        run.sample(**{"n": 4, "labels": [0, 1, 2, 0], **settings})


@pytest.mark.parametrize("std", [np.nan, 0.0, 0.3, np.inf])
def test_widths_of_averages(run, std):
    with pytest.raises(ValueError, match="std"):
        run.reconstruct(std)


# --- classes by name -------------------------------------------------------------------------------------------------


def test_classes_by_name(imagegen, run, tmp_path):
    np.testing.assert_array_equal(run.sample(4, ["c", "a", 1, "b"]), run.sample(4, [2, 0, 1, 1]))
    assert run.class_names == ("a", "b", "c")
    assert imagegen("sample", "flat", "--n", 4, "--labels", "c, 0", "--out", "x.npz")[0] == 0
    with np.load("x.npz") as arrays:
        assert arrays["arr_1"].tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("4294967299", "--labels: 4294967299 is out of range: this model knows 0 to 2"),
        ("-1", "--labels: -1 is out of range"),
        ("1.5", "--labels: there is no class '1.5'"),
        ("a,d", "--labels: there is no class 'd'"),
        ("A", "--labels: there is no class 'A'"),
        ("a,", "--labels: there is no class ''"),
        ("9" * 5000, "--labels"),
        ("a,b,c", "--labels a,b,c: 3 classes for 2 images"),
    ],
)
def test_classes_that_are_none(imagegen, tmp_path, labels, words):
    code, _, said = imagegen("sample", "flat", "--n", 2, f"--labels={labels}")
    assert code == 1 and words in said and "Traceback" not in said, said
    assert not list(tmp_path.iterdir())


# --- options that nothing reads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sample", "flat", "--model.loss-weight", "2"), "--model.loss-weight 2: changes nothing of what is drawn"),
        (("sample", "flat", "--model.scale", "2", "--model.loss-weight=2"), "--model.loss-weight=2: changes nothing"),
        (("sample", "flat", "--model.noise", "2"), "--model.noise 2: changes nothing"),
        (("sample", "flat", "--optim.network.lr", "1"), "optim.network.lr"),
        (("sample", "flat", "--optim.network.lr", "Cosine"), "optim.network.lr"),
        (("sample", "flat", "--mesh.fsdp", "8"), "mesh.fsdp"),
        (("sample", "flat", "--nope"), "nope"),
        (("sample", "flat", "--source", "a.png"), "makes images from none"),
        (("sample", "flat", "--truncation", "0.5"), "has none"),
        (("sample", "flat", "--model.network.features", "16"), "weights than the run was trained with (network/"),
        (("sample", "flat", "--std", "0.1", "--average", "ema"), "give one of the two"),
        (
            ("info", "tests/toy_experiment.py", "--mesh.data", "8"),
            "--mesh.data 8: changes neither parameters nor memory",
        ),
        (("info", "tests/toy_experiment.py", "--steps", "8"), "--steps 8: changes neither"),
        (("info", "tests/toy_experiment.py", "--optim.critic.lr", "1"), "--optim.critic.lr 1: changes neither"),
        (("info", "tests/toy_experiment.py", "--nope"), "nope"),
        (
            ("info", "tests/toy_experiment.py", "--json", "--arrays"),
            "--arrays: with --json every array is listed anyway",
        ),
        (("info", "RUN", "--nope"), "--nope: "),
        (("info", "RUN", "--model.network.width", "64"), "is a run, whose experiment is as it is: leave it out"),
        (("report", "RUN", "--nope"), "--nope"),
        (("import", "diffusers", "RUN", "--out", "x", "--nope"), "--nope"),
        (("data", "info", "digits", "--nope"), "--nope"),
    ],
)
def test_options_are_used_or_refused(imagegen, tmp_path, root, arguments, words):
    (tmp_path / "RUN").mkdir()
    (tmp_path / "tests").symlink_to(root / "tests")
    code, out, said = imagegen(*arguments)
    assert code in (1, 2) and words in said + out and "Traceback" not in said, said + out
    assert {path.name for path in tmp_path.iterdir()} == {"RUN", "tests"}


def test_low_rank_pairs_are_added_as_much_as_is_asked(imagegen, run, tmp_path):
    pair = {"Dense_0.lora_A.weight": np.ones((2, 4), np.float32), "Dense_0.lora_B.weight": np.ones((4, 2), np.float32)}
    save_file(pair, tmp_path / "pairs.safetensors")
    call = ("sample", "flat", "--n", 6, "--out", "x.npz")
    found = {}
    for scale in ((), ("--lora-scale", 0.5), ("--lora-scale", 0)):
        assert imagegen(*call, "--lora", "pairs.safetensors", *scale, "--overwrite")[0] == 0
        found[scale] = images_of(tmp_path / "x.npz")
    np.testing.assert_array_equal(found["--lora-scale", 0], run.sample(6, [0, 0, 1, 1, 2, 2]))
    kernel = run.nets["network"]["params"]["Dense_0"]["kernel"]
    for scale, times in (((), 1.0), (("--lora-scale", 0.5), 0.5)):
        params = {"Dense_0": {**run.nets["network"]["params"]["Dense_0"], "kernel": kernel + 2 * times}}
        moved = dataclasses.replace(run, state=create({"network": {"params": params}}, run.experiment.optim, {}))
        np.testing.assert_array_equal(found[scale], moved.sample(6, [0, 0, 1, 1, 2, 2]))
    assert not np.array_equal(found[()], found["--lora-scale", 0.5])
    said = imagegen(*call, "--lora-scale", 0.5)[2]
    assert "--lora-scale 0.5: of which pairs? Name their file, --lora FILE" in said


def test_options_that_are_read(imagegen, run, tmp_path):
    assert imagegen("sample", "flat", "--n", 3, "--model.scale", "0.7", "--out", "x.npz")[0] == 0
    other = dataclasses.replace(run.experiment, model=dataclasses.replace(run.experiment.model, scale=0.7))
    np.testing.assert_array_equal(
        images_of(tmp_path / "x.npz"), dataclasses.replace(run, experiment=other).sample(3, [0, 1, 2])
    )
    code, out, said = imagegen("sample", "flat", "--n", 3, "--model.scale", "0.1")  # what it is already
    assert code == 0, said


def test_info_takes_options_that_change_what_it_shows(imagegen, root, monkeypatch):
    monkeypatch.chdir(root)
    code, out, said = imagegen("info", "tests/toy_experiment.py", "--json", "--name", "other")
    assert code == 0 and json.loads(out)["name"] == "other", said


def test_a_picture_needs_no_second_look_at_its_place(imagegen, monkeypatch):
    """What is drawn is written where it was checked, also where --out begins with a tilde."""
    monkeypatch.setenv("HOME", str(pathlib.Path.cwd()))
    assert imagegen("sample", "flat", "--n", 3, "--out", "~/g.png")[0] == 0
    assert pathlib.Path("g.png").exists()


# --- latents ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class FlatLatents(Flat):
    """Draws latents of four channels, far beyond the range of images."""

    space: Latents = Latents(0.2)

    def sample(self, nets, key, n, conditions):
        x = 9 * super().sample(nets, key, n, conditions) + conditions["label"].reshape(-1, 1, 1, 1)
        return self.space.decode(x.repeat(4, axis=3), nets)


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return run_of(FlatLatents(), tmp_path_factory.mktemp("latents"))


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_latents_are_saved_as_they_are(imagegen, tmp_path, latents, name):
    """float32, not clipped, all channels; as data they are these latents again."""
    labels = np.sort(np.resize([0, 1, 2], 20))
    drawn = latents.sample(20, labels, 5, 8)
    assert drawn.dtype == np.float32 and drawn.shape == (20, 2, 2, 4) and np.abs(drawn).max() > 5
    code, printed, said = imagegen("sample", "y", "--n", 20, "--chunk", 8, "--seed", 5, "--out", name, y=latents)
    assert code == 0, said
    found = images_of(tmp_path / name)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, drawn)
    data = LatentData(str(tmp_path / name)).open()
    np.testing.assert_array_equal(data.images, drawn)
    assert (data.labels is None) if name == "x.npy" else (data.labels == labels).all()


def test_an_interrupted_call_of_latents_goes_on(imagegen, monkeypatch, tmp_path, latents):
    for name in ("x.npz", "x.npy"):
        call = ("sample", "y", "--n", 20, "--chunk", 8, "--seed", 5, "--out", name)
        with monkeypatch.context() as patch:
            patch.setattr(streaming, "write_json", Interrupting(streaming.write_json, 3, KeyboardInterrupt, False))
            assert imagegen(*call, y=latents)[0] == 130
        assert imagegen(*call, y=latents)[0] == 0
        np.testing.assert_array_equal(
            images_of(tmp_path / name), latents.sample(20, np.sort(np.resize([0, 1, 2], 20)), 5, 8)
        )


def test_pictures_of_latents_are_for_looking_at(imagegen, tmp_path, latents):
    """A grid has three channels and says so; a folder of pictures, which could be taken for samples, is refused."""
    code, _, said = imagegen("sample", "y", "--n", 4, "--out", "grid.png", y=latents)
    assert code == 0 and "a picture for looking at only" in said and "--out latents.npz" in said
    assert Image.open(tmp_path / "grid.png").mode == "RGB"
    code, _, said = imagegen("sample", "y", "--n", 4, "--out", "f", y=latents)
    assert code == 1 and "latents, float32 in no range, and no PNG can hold them: write an .npz or .npy" in said
    assert not (tmp_path / "f").exists()

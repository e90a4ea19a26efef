"""`imagegen edit` and `imagegen sample`, in this process, of untrained runs: files, words and refusals."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import zipfile

import jax
import numpy as np
import pytest
from latent_models import filled
from PIL import Image

import imagegen_jax as ig
from imagegen_jax.cli.common import runs as run_options
from imagegen_jax.core.config.override import override
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.run import Run
from imagegen_jax.core.state import create
from imagegen_jax.data import DigitPairs, Digits
from imagegen_jax.data.pictures.user_images import read_images
from imagegen_jax.gan import dcgan
from imagegen_jax.gan.dcgan import DCGAN
from imagegen_jax.gan.style import stylegan2_networks
from imagegen_jax.gan.style.stylegan2 import StyleGAN2
from imagegen_jax.gan.translation import cyclegan
from imagegen_jax.gan.translation.cyclegan import CycleGAN
from imagegen_jax.nn.backbones.patch import PatchDiscriminator

SIZE = 8
CELL = 4 * SIZE  # magnified to 32 pixels

MODELS = {
    "stylegan2": StyleGAN2(
        (SIZE, SIZE, 1),
        stylegan2_networks.Generator(6, 1, 1.0, 32, 4),
        stylegan2_networks.Discriminator(32, 4, mapping_layers=1),
        latent_dim=4,
        num_classes=10,
    ),
    "dcgan": DCGAN((SIZE, SIZE, 1), dcgan.Generator(2), dcgan.Discriminator(2), 5),
    "cyclegan": CycleGAN(
        (SIZE, SIZE, 1), cyclegan.Generator(2, 1), PatchDiscriminator(2, halvings=1, norm="instance"), pool_size=0
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs at step 0, by the name of their model."""
    found = {}
    for name, model in MODELS.items():
        data = DigitPairs(SIZE) if name == "cyclegan" else Digits(SIZE)
        networks = ("to_image", "to_source", "image_discriminator", "source_discriminator")
        networks = networks if name == "cyclegan" else ("generator", "discriminator")
        experiment = ig.Experiment(name, model, data, {network: Adam(1e-3) for network in networks}, batch_size=8)
        nets = filled(model.init, jax.random.key(0), data.open().batch(0, 2))
        found[name] = Run(experiment, create(nets, experiment.optim, {}), tmp_path_factory.mktemp(name))
    return found


@pytest.fixture
def imagegen(imagegen, runs, monkeypatch, tmp_path):
    """Runs `imagegen ...` in an empty folder, where `runs` are to be had by their names."""
    monkeypatch.setattr(run_options, "load", lambda run, modules, step: runs[run.name])
    monkeypatch.chdir(tmp_path)
    return imagegen


def cells(path, rows, columns, width=CELL):
    """The images of a grid [rows columns h w] of one value a pixel."""
    picture = np.asarray(Image.open(path))
    pad = 2 * CELL // SIZE
    assert picture.shape == (pad + rows * (CELL + pad), pad + columns * (width + pad))
    found = [
        [picture[pad + r * (CELL + pad) :][:CELL, pad + c * (width + pad) :][:, :width] for c in range(columns)]
        for r in range(rows)
    ]
    return np.array(found).astype(int)


# --- edits -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mix(imagegen):
    code, out, said = imagegen(
        "edit", "mix", "stylegan2", "--rows", 2, "--columns", 3, "--labels", "3", "--layers", "all"
    )
    assert code == 0 and "12 images in mix.png" in out, said
    found = cells("mix.png", 3, 4)
    assert (found[0, 0] == 255).all()
    np.testing.assert_allclose(found[1:, 1:], np.broadcast_to(found[0, 1:], (2, 3, CELL, CELL)), atol=1)
    assert imagegen("edit", "mix", "stylegan2", "--rows", 2, "--columns", 3, "--labels", "3", "--layers", 3)[0] == 0
    mixed = cells("mix.png", 3, 4)
    np.testing.assert_array_equal(mixed[0], found[0])
    assert (mixed[1:, 1:] != found[1:, 1:]).any()


def test_truncate(imagegen):
    code, _, said = imagegen(
        "edit",
        "truncate",
        "stylegan2",
        "--n",
        2,
        "--columns",
        3,
        "--range",
        1,
        -1,
        "--labels",
        "1,4",
        "--out",
        "a/t.png",
    )
    assert code == 0, said
    found = cells("a/t.png", 2, 3)
    np.testing.assert_allclose(found[0, 1], found[1, 1], atol=1)  # the mean style is that of all classes
    assert abs(found[0, 0] - found[1, 0]).max() > 2


@pytest.mark.slow
@pytest.mark.parametrize(("model", "space"), [("stylegan2", "w"), ("dcgan", "z")])
def test_interpolate(imagegen, runs, model, space):
    n = ("--labels", "2,5") if model == "stylegan2" else ("--n", 2)
    code, out, said = imagegen(
        "edit", "interpolate", model, *n, "--latents", 2, "--frames", 3, "--space", space, "--out", "walk.gif"
    )
    assert code == 0 and "6 frames in walk.gif" in out, said
    with Image.open("walk.gif") as gif:
        pad = 2 * CELL // SIZE
        assert gif.size == (pad + 2 * (CELL + pad), CELL + 2 * pad)
        frames = [np.asarray((gif.seek(i), gif.convert("L"))[1]).astype(int) for i in range(gif.n_frames)]
    assert 3 <= len(frames) <= 6  # of there and back, Pillow joins those that are equal and follow each other
    assert abs(frames[0] - frames[-2]).max() > 0
    if model == "dcgan":
        pathlib.Path(model).mkdir()
        write_json(pathlib.Path(model, "experiment.json"), to_dict(runs[model].experiment))
        code, out, said = imagegen("provenance", "walk.gif", "--redraw", "again.gif", "--run", model)
        assert code == 0 and "generated by a trained model" in out and "equal in every byte of its frames" in out, said


@pytest.mark.parametrize(("model", "more"), [("stylegan2", ("--layers", "coarse", "--labels", "3")), ("dcgan", ())])
def test_directions(imagegen, model, more):
    code, out, said = imagegen("edit", "directions", model, "--count", 2, "--columns", 3, *more)
    assert code == 0 and "6 images in directions.png; eigenvalues" in out, said
    values = [float(value) for value in out.split("eigenvalues ")[1].split(", ")]
    assert len(values) == 2 and values[0] > values[1] > 0
    found = cells("directions.png", 2, 3)
    np.testing.assert_array_equal(found[0, 1], found[1, 1])
    assert (found[0, 0] != found[0, 2]).any()


@pytest.mark.slow
def test_project(imagegen):
    Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).save("photo.png")
    code, _, said = imagegen("edit", "project", "stylegan2", "photo.png", "--labels", 2)
    assert code == 1 and "photo.png: an image of 10x10 pixels, grey, but here it must be 8x8 pixels" in said
    code, out, said = imagegen(
        "edit", "project", "stylegan2", "photo.png", "--fit", "--labels", 2, "--steps", 2, "--styles", "w.npz"
    )
    assert code == 0 and "1 images in project.png; distance (pixels)" in out, said
    assert cells("project.png", 1, 1, 2 * CELL).shape[3] == 2 * CELL
    with np.load("w.npz") as arrays:
        assert arrays["w"].shape == (1, 4, 6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mix", "dcgan"), "a DCGAN has no styles"),
        (("truncate", "cyclegan"), "a CycleGAN does not make its images of latents alone"),
        (("project", "dcgan", "a.png"), "a DCGAN has no styles"),
        (("interpolate", "cyclegan"), "a CycleGAN does not make"),
        (("interpolate", "dcgan", "--space", "w"), "a DCGAN has no styles"),
        (("interpolate", "dcgan", "--out", "walk.avi"), "this command writes .gif, .mp4, .png, "),
        (("interpolate", "dcgan", "--out", "walk.png"), "a way through latents is a video"),
        (("interpolate", "dcgan", "--latents", "1"), "'1' must be an integer, at least 2"),
        (("directions", "dcgan", "--layers", "0"), "has no styles to choose among"),
        (("directions", "dcgan", "--count", "6"), "6 directions: latents of 5 numbers have 1 to 5"),
        (("directions", "dcgan", "--labels", "1"), "this model knows no classes"),
        (("directions", "dcgan", "--truncation", "0.5"), "a DCGAN has none"),
        (("mix", "stylegan2", "--layers", "fine"), "this model has layers 0 to 3"),
        (("directions", "stylegan2", "--layers", "3-4"), "layers 3 to 4: this model has layers 0 to 3"),
        (("mix", "stylegan2", "--layers", "some"), "is none of all, coarse, middle, fine"),
        (("mix", "stylegan2", "--rows", "0"), "argument --rows: '0' must be an integer, at least 1"),
        (("mix", "stylegan2", "--labels", "10"), "--labels: 10 is out of range: this model knows 0 to 9"),
        (
            ("mix", "stylegan2", "--truncation", "1.5"),
            "argument --truncation: '1.5' must be a finite number, at least 0 and at most 1",
        ),
        (("mix", "stylegan2", "--labels", "cat"), "--labels: there is no class 'cat'"),
        (("mix", "stylegan2", "--model.r1-weight", "5"), "--model.r1-weight 5: changes nothing of what is drawn here"),
        (("truncate", "stylegan2", "--model.path-every=8"), "--model.path-every=8: changes nothing"),
        (("project", "stylegan2", "a.png", "--labels", "2", "--model.w-decay", "0.9"), "--model.w-decay 0.9: changes"),
        (("interpolate", "dcgan", "--model.latent-dim", "6"), "weights than the run was trained with (generator/"),
        (("directions", "stylegan2", "--optim.generator.lr", "1"), "optim.generator.lr"),
        (("directions", "stylegan2", "--labels", "1,2"), "--labels 1,2: 2 classes for 1 images"),
        (("interpolate", "stylegan2", "--labels", "1,2", "--n", "1"), "--labels 1,2: 2 classes for 1 images"),
        (("interpolate", "dcgan", "--latents", "0"), "argument --latents: '0' must be an integer, at least 2"),
        (("project", "stylegan2", "a.png"), "say in which one to search"),
        (("project", "stylegan2", "a.png", "--labels", "2"), "a.png"),
    ],
)
def test_edits_refuse_bad_input(imagegen, tmp_path, arguments, words):
    code, _, said = imagegen("edit", *arguments)
    assert code in (1, 2) and words in said, said
    assert not list(tmp_path.iterdir())


EDITS = (
    "mix truncate interpolate directions project reconstruct inpaint redraw resemble enlarge colour deblur morph "
    "reclass attention reword"
)


@pytest.mark.parametrize("edit", EDITS.split())
def test_every_edit_has_help_and_an_example(imagegen, edit):
    code, out, _ = imagegen("edit", edit, "--help")
    assert code == 0 and "--seed" in out and "--out" in out and "--module" in out
    assert f"imagegen edit {edit} " in imagegen("edit", "--help")[1]


# --- samples ---------------------------------------------------------------------------------------------------------


def picture(value, size=(12, 20), kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(file, format=kind)
    return file.getvalue()


@pytest.mark.slow
def test_own_images_are_translated(imagegen, runs, tmp_path):
    """Files, folders and zips, in their order, as centre squares of the model's size and channels."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.jpg").write_bytes(picture(120, kind="JPEG"))
    (tmp_path / "a.png").write_bytes(picture(30))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("c.png", picture(200))
    source = np.repeat([30, 120, 200], 64).reshape(3, 8, 8, 1).astype(np.uint8)
    places = ("a.png", "in", "c.zip")
    assert imagegen("sample", "cyclegan", "--source", *places, "--out", "out.npz")[0] == 0
    run = runs["cyclegan"]
    with np.load("out.npz") as arrays:
        np.testing.assert_array_equal(arrays["arr_0"], run.sample(3, source=source))
    code, _, said = imagegen("sample", "cyclegan", "--source", *places, "--out", "grid.png", "--n", 2)
    assert code == 0, said
    found = cells("grid.png", 2, 1, 2 * CELL)
    assert (found[0, 0, :, :CELL] == 30).all() and (found[1, 0, :, :CELL] == 120).all()
    np.testing.assert_array_equal(found[:, 0, ::4, CELL::4], run.sample(2, source=source[:2])[..., 0])
    assert imagegen("sample", "cyclegan", "--source", *places, "--out", "folder")[0] == 0
    assert len(list((tmp_path / "folder").iterdir())) == 3


def test_translation_in_the_other_direction(imagegen, runs):
    """Of the data's images, where no others are given."""
    code, _, said = imagegen("sample", "cyclegan", "--n", 5, "--model.direction", "to_source", "--out", "out.npz")
    assert code == 0, said
    run = runs["cyclegan"]
    back = dataclasses.replace(run, experiment=override(run.experiment, {"model.direction": "to_source"}))
    images = run.experiment.data.open().batch(0, 5)["image"]
    with np.load("out.npz") as arrays:
        np.testing.assert_array_equal(arrays["arr_0"], back.sample(5, image=images))
        assert (arrays["arr_0"] != run.sample(5, source=images)).any()


def test_samples_of_the_data_are_beside_their_sources(imagegen, runs):
    code, _, said = imagegen("sample", "cyclegan", "--n", 1)
    assert code == 0, said
    source = runs["cyclegan"].experiment.data.open().batch(0, 1)["source"]
    np.testing.assert_array_equal(cells("grid.png", 1, 1, 2 * CELL)[0, 0, ::4, :CELL:4], source[0, :, :, 0])


@pytest.mark.slow
def test_truncated_samples(imagegen, runs):
    assert imagegen("sample", "stylegan2", "--n", 3, "--truncation", 0.25, "--out", "t.npz", "--labels", "4")[0] == 0
    with np.load("t.npz") as arrays:
        np.testing.assert_array_equal(arrays["arr_0"], runs["stylegan2"].sample(3, [4, 4, 4], truncation=0.25))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dcgan", "--source", "a.png"), "a DCGAN makes images from none"),
        (("dcgan", "--truncation", "0.5"), "a DCGAN has none"),
        (("dcgan", "--guidance", "2"), "--guidance 2.0: a DCGAN has none"),
        (
            ("stylegan2", "--truncation", "1.01"),
            "argument --truncation: '1.01' must be a finite number, at least 0 and at most 1",
        ),
        (("stylegan2", "--labels", "3,12"), "--labels: 12 is out of range: this model knows 0 to 9"),
        (("cyclegan", "--source", "missing.png"), "missing.png"),
        (("cyclegan", "--source", "missing"), "there is no folder or zip"),
        (("cyclegan", "--source", "bad.png"), "bad.png is damaged or no image"),
        (("cyclegan", "--source", "good.png", "--n", "2"), "--n 2: there are 1 images in --source"),
        (("dcgan", "--n", "0"), "argument --n: '0' must be an integer, at least 1"),
    ],
)
def test_sample_refuses_bad_input(imagegen, tmp_path, arguments, words):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "good.png").write_bytes(picture(1))
    code, _, said = imagegen("sample", *arguments)
    assert code in (1, 2) and words in said, said
    assert {path.name for path in tmp_path.iterdir()} == {"bad.png", "good.png"}


def test_images_of_a_model_that_is_not_square_must_have_its_size(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(9, (20, 12)))
    assert read_images([str(tmp_path / "a.png")], (12, 20, 3)).shape == (1, 12, 20, 3)
    with pytest.raises(ValueError, match=r"the model wants \(12, 24\) pixels"):
        read_images([str(tmp_path / "a.png")], (12, 24, 3))

"""`imagegen edit` with a denoiser that is the best one of normal data, so that results are known."""

from __future__ import annotations

import dataclasses
import functools
import zipfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from latent_models import filled
from PIL import Image

import imagegen_jax as ig
from imagegen_jax.autoencoders.quantise import EMACodebook
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, Tokenizer
from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.autoencoders.vqvae import VQVAE
from imagegen_jax.autoregressive.maskgit import MaskGIT
from imagegen_jax.cli.common import runs as run_options
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.run import Run
from imagegen_jax.core.state import create
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.meanflow import MeanFlow
from imagegen_jax.diffusion.process.process import RectifiedFlow
from imagegen_jax.diffusion.process.times import Uniform
from imagegen_jax.diffusion.sampling.levels import Karras, ShiftedFlow
from imagegen_jax.nn.backbones.transformers.bert import BERT

SIZE, CELL = 8, 32  # of an image, and of one in a grid, where small ones are magnified
TRACED = []  # grows each time that a network becomes part of a program


class Silent(nn.Module):
    """F = 0, with which EDM's preconditioning is the best denoiser of N(0, 0.5^2)."""

    @nn.compact
    def __call__(self, x, t, conditioning):
        TRACED.append(x.shape)
        return x * self.param("nothing", nn.initializers.zeros, ())


class Means(nn.Module):
    """F of the best denoiser of N(m, 0.5^2), in which m is a fifth of the class's distance from 4.5."""

    @nn.compact
    def __call__(self, x, t, conditioning):
        TRACED.append(x.shape)
        nothing = self.param("nothing", nn.initializers.zeros, ())
        m, sigma = (conditioning.labels @ (jnp.arange(10) - 4.5)) / 5, jnp.exp(4 * t)
        return nothing + jnp.zeros_like(x) + (m * sigma / (0.5 * jnp.sqrt(0.25 + sigma**2))).reshape(-1, 1, 1, 1)


class Rough(nn.Module):
    """The velocity epsilon - x_0 of N(0, 0.5^2), with a slope that is a little wrong."""

    @nn.compact
    def __call__(self, z, t, conditioning):
        nothing = self.param("nothing", nn.initializers.zeros, ())
        rate = (t - (1 - t) / 4) / ((1 - t) ** 2 / 4 + t**2)
        return nothing + rate.reshape(-1, 1, 1, 1) * z + 0.01 * jnp.sin(5 * z)


class Velocity(nn.Module):
    """u(z, t, t) = (t - (1 - t) / 4) / ((1 - t)^2 / 4 + t^2) z, the velocity of N(0, 0.5^2)."""

    @nn.compact
    def __call__(self, z, t, conditioning):
        nothing = self.param("nothing", nn.initializers.zeros, ())
        rate = (t - (1 - t) / 4) / ((1 - t) ** 2 / 4 + t**2)
        return nothing + rate.reshape(-1, 1, 1, 1) * z


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs at step 0: of grey images, of colours, of classes, of no denoiser, and of one that completes images."""
    silent = Silent()
    levels = Karras(12, 0.01, 20.0)
    models = {
        "grey": Diffusion(silent, levels=levels, image_shape=(SIZE, SIZE, 1)),
        "colour": Diffusion(silent, levels=levels, image_shape=(SIZE, SIZE, 3)),
        "classes": Diffusion(silent, levels=levels, image_shape=(SIZE, SIZE, 1), num_classes=10, label_dropout=0.1),
        "means": Diffusion(Means(), levels=levels, image_shape=(SIZE, SIZE, 1), num_classes=10),
        "meanflow": MeanFlow(Velocity(), (SIZE, SIZE, 1), 0, 0.0, levels=levels),
        "flow": Diffusion(
            Rough(), "velocity", RectifiedFlow(), Uniform(), levels=ShiftedFlow(40), image_shape=(SIZE, SIZE, 1)
        ),
        "vae": VAE(image_shape=(SIZE, SIZE, 1)),
        "codes": MaskGIT(
            VQVAE((SIZE, SIZE, 1), Tokenizer(ResidualEncoder(4, 1), EMACodebook(8, 2), ResidualDecoder(4, 1))),
            BERT(1, 16, 2),
            num_classes=10,
            steps=2,
        ),
    }
    found = {}
    for name, model in models.items():
        experiment = ig.Experiment(name, model, Digits(SIZE), {"network": Adam(1e-3)}, batch_size=8)
        image = jnp.zeros((2, *model.image_shape))
        nets = filled(model.init, jax.random.key(0), {"image": image, "label": jnp.zeros(2, jnp.int32)})
        if name not in ("vae", "codes"):  # of the others all is known
            nets = jax.tree.map(jnp.zeros_like, nets)
        found[name] = Run(experiment, create(nets, {}, {}), tmp_path_factory.mktemp(name))
    beyond = jax.tree.map(lambda x: x + 3e38, found["grey"].state.params)  # finite, but twice as much is not
    found["lost"] = dataclasses.replace(found["grey"], state=found["grey"].state.replace(params=beyond))
    return found


@pytest.fixture
def imagegen(imagegen, runs, monkeypatch, tmp_path):
    """Runs `imagegen edit ...` in an empty folder, where `runs` are to be had by their names."""
    monkeypatch.setattr(run_options, "load", lambda run, modules, step=None: runs[run.name])
    monkeypatch.chdir(tmp_path)
    return functools.partial(imagegen, "edit")


def save(name, size=SIZE, mode="L", seed=0):
    """Writes a random picture, and gives its values."""
    channels = {"L": (), "RGB": (3,)}[mode]
    values = np.random.default_rng(seed).integers(60, 196, (size, size, *channels)).astype(np.uint8)
    Image.fromarray(values).save(name)
    return values.astype(int)


def shown(name):
    """The picture given and the one found, from a grid of one."""
    pad = 2 * CELL // SIZE
    picture = np.asarray(Image.open(name)).astype(int)[pad:-pad, pad:-pad][:: CELL // SIZE, :: CELL // SIZE]
    assert picture.shape[:2] == (SIZE, 2 * SIZE)
    return picture[:, :SIZE], picture[:, SIZE:]


@pytest.mark.slow
def test_a_model_that_completes_images_needs_no_denoiser(imagegen):
    """The mask's grid is that of codes: with half a patch known, the other half is drawn all the same."""
    values = save("a.png")
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, 3:] = 255
    Image.fromarray(mask).save("mask.png")
    assert imagegen("inpaint", "codes", "a.png", "--mask", "mask.png", "--labels", 3)[0] == 0
    given, found = shown("inpaint.png")
    np.testing.assert_array_equal(found[:, :3], values[:, :3])
    assert (given[:, 3:] == 255).all() and np.abs(found - values)[:, 3:].mean() > 5


@pytest.mark.slow
@pytest.mark.parametrize("method", ["replacement", "repaint", "pigdm", "dps"])
def test_what_is_black_in_the_mask_stays(imagegen, method):
    values = save("a.png")
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save("mask.png")
    repeats = ("--repeats", 2) if method == "repaint" else ()
    assert imagegen("inpaint", "grey", "a.png", "--mask", "mask.png", "--method", method, *repeats)[0] == 0
    given, found = shown("inpaint.png")
    np.testing.assert_array_equal(found[:, :4], values[:, :4])
    assert (given[:, 4:] == 255).all() and np.abs(found - values)[:, 4:].mean() > 5


@pytest.mark.slow
def test_strength_says_how_much_is_redrawn(imagegen):
    values, changes = save("a.png"), []
    for strength in (0, 0.4, 1):
        assert imagegen("redraw", "grey", "a.png", "--strength", strength)[0] == 0
        given, found = shown("redraw.png")
        np.testing.assert_array_equal(given, values)
        changes.append(np.abs(found - values).mean())
    assert changes[0] == 0 < changes[1] < changes[2]


@pytest.mark.slow
def test_a_meanflow_redraws_as_the_denoiser_does_that_it_is(imagegen):
    """Its velocity at one time is that of the same normal data."""
    save("a.png")
    found = []
    for run in ("meanflow", "grey"):
        assert imagegen("redraw", run, "a.png", "--strength", "0.5", "--out", f"{run}.png")[0] == 0
        found.append(shown(f"{run}.png")[1])
    np.testing.assert_allclose(found[0], found[1], atol=30)
    assert np.abs(found[0] - found[1]).mean() < 12  # steps of Euler against Heun's


@pytest.mark.slow
@pytest.mark.parametrize(("method", "tolerance"), [("pigdm", 12), ("dps", 60)])
def test_an_enlarged_image_has_the_means_that_were_given(imagegen, method, tolerance):
    """But for those in range that stay so; with `dps` but for the noise that it assumes."""
    small = save("a.png", size=2)
    assert imagegen("enlarge", "grey", "a.png", "--factor", 4, "--method", method)[0] == 0
    given, found = shown("enlarge.png")
    np.testing.assert_array_equal(given, small.repeat(4, 0).repeat(4, 1))
    np.testing.assert_allclose(found.reshape(2, 4, 2, 4).mean(axis=(1, 3)), small, atol=tolerance)
    assert found.std() > given.std()


@pytest.mark.slow
def test_a_coloured_image_has_the_grey_that_was_given(imagegen):
    grey = save("a.png")
    assert imagegen("colour", "colour", "a.png")[0] == 0
    given, found = shown("colour.png")
    np.testing.assert_array_equal(given[..., 0], grey)
    inside = ((found > 0) & (found < 255)).all(axis=-1)
    np.testing.assert_allclose(found.mean(axis=-1)[inside], grey[inside], atol=2)
    assert np.ptp(found, axis=-1).mean() > 20


def blurred(image, sigma):
    """By its Fourier transform, as if opposite edges met."""
    f = np.fft.fftfreq(SIZE)
    damping = np.exp(-2 * (np.pi * sigma) ** 2 * (f[:, None] ** 2 + f**2))
    return np.fft.ifft2(np.fft.fft2(image) * damping).real


@pytest.mark.slow
def test_a_deblurred_image_blurs_to_the_one_given(imagegen):
    sharp = save("sharp.png")
    Image.fromarray(blurred(sharp, 0.8).round().astype(np.uint8)).save("a.png")
    assert imagegen("deblur", "grey", "a.png", "--sigma", 0.8)[0] == 0
    given, found = shown("deblur.png")
    np.testing.assert_allclose(blurred(found, 0.8), given, atol=3)
    assert np.abs(found - sharp).mean() < 0.6 * np.abs(given - sharp).mean()


@pytest.mark.slow
def test_what_resembles_an_image_has_its_means_and_is_another(imagegen):
    values = save("a.png") // 4 + 96
    Image.fromarray(values.astype(np.uint8)).save("a.png")
    assert imagegen("resemble", "grey", "a.png", "--factor", 4)[0] == 0
    given, found = shown("resemble.png")
    means = [x.reshape(2, 4, 2, 4).mean(axis=(1, 3)) for x in (given, found)]
    np.testing.assert_allclose(means[1], means[0], atol=12)
    assert np.abs(found - given).mean() > 20
    assert imagegen("ilvr", "grey", "a.png", "--factor", 4, "--low", 100, "--out", "free.png")[0] == 0
    assert np.abs(shown("free.png")[1].reshape(2, 4, 2, 4).mean(axis=(1, 3)) - means[0]).max() > 5


@pytest.mark.slow
def test_morphing_begins_and_ends_at_the_images(imagegen):
    values = [save(f"{i}.png", seed=i) for i in range(2)]
    assert imagegen("morph", "grey", "0.png", "1.png", "--columns", 3, "--model.levels.steps", 200)[0] == 0
    pad = 2 * CELL // SIZE
    picture = np.asarray(Image.open("morph.png")).astype(int)
    ends = [picture[pad : pad + CELL : 4, x : x + CELL : 4] for x in (pad, pad + 2 * (CELL + pad))]
    for found, wanted in zip(ends, values, strict=True):
        np.testing.assert_allclose(found, wanted, atol=4)


@pytest.mark.slow
def test_another_class_has_what_is_its_own(imagegen):
    """Classes that differ in their mean alone: a picture comes out brighter or darker by that, and else the same."""
    values = save("a.png") // 4 + 96  # far from black and white
    Image.fromarray(values.astype(np.uint8)).save("a.png")
    more = ("--model.levels.steps", 200)
    assert imagegen("reclass", "means", "a.png", "--from", 4, "--to", "4,5,3", *more)[0] == 0
    pad = 2 * CELL // SIZE
    picture = np.asarray(Image.open("reclass.png")).astype(int)[pad : pad + CELL : 4]
    given, same, bright, dark = (picture[:, x : x + CELL : 4] for x in range(pad, 4 * (CELL + pad), CELL + pad))
    np.testing.assert_array_equal(given, values)
    np.testing.assert_allclose(same, values, atol=3)
    np.testing.assert_allclose(bright - same, 127.5 / 5, atol=3)
    np.testing.assert_allclose(dark - same, -127.5 / 5, atol=3)
    assert imagegen("reclass", "means", "a.png", "--from", 4, "--to", 5, "--strength", 0)[0] == 0
    given, found = (np.asarray(Image.open("reclass.png")).astype(int)[pad : pad + CELL : 4, x : x + CELL : 4]
                    for x in (pad, 2 * pad + CELL))  # fmt: skip
    np.testing.assert_array_equal(found, given)


@pytest.mark.slow
def test_a_second_run_guides_an_edit(imagegen):
    """A guide that is the model itself changes nothing, however strong."""
    save("a.png")
    assert imagegen("redraw", "grey", "a.png", "--out", "alone.png")[0] == 0
    assert imagegen("redraw", "grey", "a.png", "--guide", "grey", "--guidance", "3", "--out", "guided.png")[0] == 0
    np.testing.assert_allclose(shown("guided.png")[1], shown("alone.png")[1], atol=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit",
    [
        ("redraw", "a.png"),
        ("inpaint", "a.png", "--mask", "mask.png", "--repeats", "1"),
        ("inpaint", "a.png", "--mask", "mask.png", "--method", "pigdm"),
        ("resemble", "a.png"),
        ("enlarge", "small.png"),
        ("deblur", "a.png", "--sigma", 1.0),
        ("morph", "a.png", "mask.png"),
    ],
    ids=lambda edit: edit[0],
)
def test_seeds_labels_and_guidance_share_a_program(imagegen, edit):
    save("a.png")
    save("small.png", size=2)
    save("mask.png", seed=1)
    name, *rest = edit
    untraced = len(TRACED)
    few = ("--model.levels.steps", 7)  # no other test's
    assert imagegen(name, "classes", *rest, "--labels", 3, "--guidance", 2.0, *few)[0] == 0
    traced = len(TRACED)
    rest = [2.0 if value == 1.0 else value for value in rest]  # the sigma of a blur as well
    seed = () if name == "morph" else ("--seed", 1)  # by way of the images' own noise, not of any that is drawn
    assert imagegen(name, "classes", *rest, "--labels", 5, "--guidance", 3.5, *seed, *few)[0] == 0
    assert len(TRACED) == traced > untraced


@pytest.mark.slow
def test_classes_share_a_program(imagegen):
    save("a.png")
    untraced, few = len(TRACED), ("--model.levels.steps", 7)
    assert imagegen("reclass", "means", "a.png", "--from", 3, "--to", "5,6", *few)[0] == 0
    traced = len(TRACED)
    assert imagegen("reclass", "means", "a.png", "--from", 4, "--to", "1,2", *few)[0] == 0
    assert len(TRACED) == traced > untraced


@pytest.mark.slow
def test_chunks_make_no_difference(imagegen):
    """Where no noise is drawn."""
    for i in range(3):
        save(f"{i}.png", seed=i)
    edit = ("reclass", "means", "0.png", "1.png", "2.png", "--from", "3,4,5", "--to", 5)
    assert imagegen(*edit, "--out", "whole.png")[0] == 0
    assert imagegen(*edit, "--out", "parts.png", "--chunk", 2)[0] == 0
    whole, parts = (np.asarray(Image.open(name)).astype(int) for name in ("whole.png", "parts.png"))
    np.testing.assert_allclose(parts, whole, atol=1)


@pytest.mark.parametrize(("name", "alias"), [("redraw", "sdedit"), ("enlarge", "superres")])
def test_the_names_of_the_field_are_known(imagegen, name, alias):
    save("a.png", size=2 if name == "enlarge" else SIZE)
    assert imagegen(name, "grey", "a.png", "--out", "one.png")[0] == 0
    code, said, _ = imagegen(alias, "grey", "a.png", "--out", "other.png")
    assert code == 0 and "1 images in other.png" in said
    np.testing.assert_array_equal(Image.open("one.png"), Image.open("other.png"))
    assert f"{name} ({alias}" in imagegen("--help")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("redraw", "grey", "large.png"), "large.png: an image of 12x12 pixels, grey, but here it must be 8x8 pixels"),
        (("redraw", "grey", "rgb.png"), "rgb.png: an image of 8x8 pixels, RGB, but here it must be 8x8 pixels, grey"),
        (("redraw", "colour", "a.png"), "a.png: an image of 8x8 pixels, grey, but here it must be 8x8 pixels, RGB"),
        (("redraw", "grey", "folder"), "folder/one/large.png: an image of 12x12 pixels"),
        (("redraw", "grey", "photos.zip"), "photos.zip/rgb.png: an image of 8x8 pixels, RGB"),
        (("enlarge", "grey", "a.png"), "a.png: an image of 8x8 pixels, grey, but here it must be 2x2 pixels, grey"),
        (("colour", "colour", "rgb.png"), "rgb.png: an image of 8x8 pixels, RGB, but here it must be 8x8 pixels, grey"),
        (("inpaint", "grey", "a.png", "--mask", "large.png"), "large.png: an image of 12x12 pixels"),
        (("inpaint", "colour", "rgb.png", "--mask", "rgb.png"), "rgb.png: an image of 8x8 pixels, RGB"),
        (("deblur", "grey", "large.png", "--sigma", "1"), "large.png: an image of 12x12 pixels"),
        (("reclass", "means", "large.png", "--from", "1", "--to", "2"), "large.png: an image of 12x12 pixels"),
    ],
)
def test_images_of_another_size_or_mode_are_refused(imagegen, tmp_path, arguments, words):
    save("a.png")
    save("rgb.png", mode="RGB")
    save("large.png", size=12)
    (tmp_path / "folder" / "one").mkdir(parents=True)
    save("folder/one/large.png", size=12)
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.write("rgb.png")
    code, _, error = imagegen(*arguments)
    assert code == 1 and words in error and "add --fit" in error
    assert not (tmp_path / f"{arguments[0]}.png").exists()


def test_images_that_are_made_to_fit(imagegen):
    """The centre square, at the model's size and grey, as of a data set."""
    Image.new("RGB", (20, 12), (100, 100, 100)).save("photo.png")
    assert imagegen("redraw", "grey", "photo.png", "--strength", 0, "--fit")[0] == 0
    assert (np.stack(shown("redraw.png")) == 100).all()
    assert imagegen("enlarge", "grey", "photo.png", "--fit")[0] == 0
    assert (shown("enlarge.png")[0] == 100).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("reclass", "grey", "a.png", "--from", "3", "--to", "5"), "this model knows no classes to go between"),
        (("reclass", "means", "a.png", "--from", "3", "--to", "12"), "--to: 12 is out of range"),
        (
            ("reclass", "means", "a.png", "--from", "3", "--to", "5", "--strength", "3"),
            "argument --strength: '3' must be a finite number, at least 0 and at most 1",
        ),
        (("reclass", "means", "a.png", "--from", "3", "--to", "5", "--labels", "3"), "--labels 3: here classes have"),
        (("redraw", "grey", "a.png", "--guide", "grey"), "guided by a Diffusion, but how strongly"),
        (("redraw", "vae", "a.png"), "a VAE has no denoiser"),
        (
            ("redraw", "grey", "a.png", "--strength", "2"),
            "argument --strength: '2' must be a finite number, at least 0 and at most 1",
        ),
        (("redraw", "grey", "a.png", "--guidance", "2"), "model.label_dropout=0"),
        (("redraw", "classes", "a.png"), "say of which one the images are, such as --labels 0"),
        (("redraw", "classes", "a.png", "--labels", "12"), "out of range"),
        (("redraw", "grey", "missing.png"), "missing.png"),
        (("inpaint", "grey", "a.png", "--mask", "white.png"), "the mask says that nothing is known"),
        (("inpaint", "grey", "a.png", "--mask", "black.png"), "the mask says that all is known"),
        (("inpaint", "codes", "a.png", "--mask", "black.png", "--labels", "3"), "the mask says that all is known"),
        (("inpaint", "codes", "a.png", "--mask", "a.png", "--method", "dps"), "--method dps: of edits by a denoiser"),
        (("inpaint", "codes", "a.png", "--mask", "a.png"), "say of which one the images are, such as --labels 0"),
        (
            ("inpaint", "grey", "a.png", "--mask", "black.png", "--repeats", "-1"),
            "argument --repeats: '-1' must be an integer, at least 1",
        ),
        (
            ("inpaint", "grey", "a.png", "--mask", "a.png", "--repeats", "2", "--method", "dps"),
            "read by --method repaint",
        ),
        (("inpaint", "grey", "a.png", "--mask", "a.png", "--noise", "0.1"), "read by --method pigdm or dps alone"),
        (("deblur", "grey", "a.png", "--sigma", "0"), "argument --sigma: '0' must be a finite number, above 0"),
        (("deblur", "grey", "a.png", "--sigma", "1", "--method", "dps", "--noise", "0"), "--noise 0.0: must be"),
        (("resemble", "grey", "a.png", "--factor", "1"), "argument --factor: '1' must be an integer, at least 2"),
        (("enlarge", "grey", "a.png", "--factor", "3"), "--factor 3: must divide"),
        (("colour", "grey", "a.png"), "this model's images are grey themselves"),
        (("morph", "grey", "a.png"), "at least 2 are needed"),
        (("redraw", "means", "a.png", "--labels", "1,2"), "--labels 1,2: 2 classes for 1 images"),
        (("reclass", "means", "a.png", "--from", "3,4", "--to", "5"), "--from 3,4: 2 classes for 1 images"),
        (("reclass", "means", "a.png", "--from", "three", "--to", "5"), "--from: there is no class 'three'"),
        (("redraw", "grey", "a.png", "--model.coupling", "optimal"), "--model.coupling optimal: changes nothing"),
        (("morph", "grey", "a.png", "white.png", "--model.solver", "euler"), "--model.solver euler: changes nothing"),
        (("morph", "grey", "a.png", "white.png", "--seed", "1"), "--seed 1: nothing is drawn at random here"),
        (("reclass", "means", "a.png", "--from", "3", "--to", "5", "--seed", "0"), "--seed 0: nothing is drawn"),
        (
            ("redraw", "lost", "a.png"),
            "1 of 1 images are not finite numbers, so none is written; the weights are finite",
        ),
        (("morph", "lost", "a.png", "white.png"), "2 of 2 images are not finite numbers"),
        (("redraw", "meanflow", "a.png", "--model.floor", "1"), "--model.floor 1: changes nothing"),
    ],
)
def test_what_cannot_be_is_refused(imagegen, arguments, words):
    save("a.png")
    for name, value in (("white", 255), ("black", 0)):
        Image.fromarray(np.full((SIZE, SIZE), value, np.uint8)).save(f"{name}.png")
    code, out, error = imagegen(*arguments)
    assert code in (1, 2) and words in error and not out


@pytest.mark.slow
def test_guidance_and_labels_reach_the_network(imagegen):
    """Class m is (m - 4.5) / 5 x 127.5 away from grey, and by a guidance of 2 twice as far."""
    save("a.png")
    found = []
    for label, guidance in ((3, 1), (6, 1), (6, 2)):
        options = ("--strength", 1, "--labels", label, "--guidance", guidance, "--model.label_dropout", 0.1)
        assert imagegen("redraw", "means", "a.png", *options)[0] == 0
        found.append(shown("redraw.png")[1].mean())
    np.testing.assert_allclose(found, [89, 166, 196], atol=16)


@pytest.mark.slow
def test_a_flow_begins_at_pure_noise_and_still_finds_the_image(imagegen):
    """At sigma 99,999 its network's errors are multiplied by sigma^2, in the gradient of an inverse problem."""
    values = save("a.png")
    assert imagegen("deblur", "flow", "a.png", "--sigma", 0.3)[0] == 0
    assert np.abs(shown("deblur.png")[1] - values).mean() < 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("redraw", "grey", "--strength", 0.04), "strength=0.04 of 12 step(s) is none"),
        (("redraw", "grey", "--model.levels.steps", 1), "strength=0.5 of 1 step(s) is none"),
        (("reclass", "means", "--from", 3, "--to", 4, "--model.levels.steps", 1), "from one level above 0 alone"),
    ],
)
def test_edits_without_a_step_to_take_are_refused(imagegen, arguments, words):
    save("a.png")
    code, _, error = imagegen(*arguments[:2], "a.png", *arguments[2:])
    assert code == 1 and words in error

"""`imagegen edit inpaint` with a model of pixels: what is known stays, and what cannot be is one message."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from latent_models import filled
from PIL import Image

import imagegen_jax as ig
from imagegen_jax.autoregressive.gated import GatedPixelCNN
from imagegen_jax.autoregressive.pixelcnn import PixelCNN
from imagegen_jax.cli.common import runs as run_options
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.run import Run
from imagegen_jax.core.state import create
from imagegen_jax.data import Digits

SIZE, CELL, PAD = 8, 32, 8  # of an image, of one in a grid, where small ones are magnified, and of the grid's margin


@pytest.fixture
def inpaint(imagegen, monkeypatch, tmp_path):
    """Runs `imagegen edit inpaint` by an untrained model, in a folder with an image and masks."""
    model = PixelCNN((SIZE, SIZE, 1), GatedPixelCNN(4, 1, 3, 4), num_classes=10)
    experiment = ig.Experiment("pixels", model, Digits(), {"network": Adam(1e-3)}, batch_size=8)
    batch = {"image": jnp.zeros((1, SIZE, SIZE, 1)), "label": jnp.zeros(1, jnp.int32)}
    nets = filled(model.init, jax.random.key(0), batch)
    run = Run(experiment, create(nets, {}, {}), tmp_path)
    monkeypatch.setattr(run_options, "load", lambda path, modules, step=None: run)
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE)).astype(np.uint8)
    Image.fromarray(values).save("a.png")
    for name, rows in (("lower", slice(4, 8)), ("black", slice(0)), ("white", slice(8))):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[rows] = 255
        Image.fromarray(mask).save(f"{name}.png")
    return values, lambda mask, *more: imagegen("edit", "inpaint", "run", "a.png", "--mask", f"{mask}.png", *more)


@pytest.mark.slow
def test_what_is_black_in_the_mask_stays(inpaint):
    values, run = inpaint
    assert run("lower", "--labels", "3")[0] == 0
    picture = np.asarray(Image.open("inpaint.png"))[PAD:-PAD, PAD:-PAD][:: CELL // SIZE, :: CELL // SIZE]
    given, found = picture[:, :SIZE], picture[:, SIZE:]
    np.testing.assert_array_equal(found[:4], values[:4])
    assert (given[4:] == 255).all() and np.abs(found[4:].astype(int) - values[4:]).mean() > 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("black", "--labels", "3"), "the mask says that all is known"),
        (("white", "--labels", "3"), "the mask says that nothing is known"),
        (("lower", "--labels", "3", "--method", "dps"), "--method dps: of edits by a denoiser, but a PixelCNN draws"),
        (("lower", "--labels", "3", "--repeats", "2"), "--repeats 2: of edits by a denoiser"),
        (("lower",), "say of which one the images are, such as --labels 0"),
    ],
)
def test_what_cannot_be_is_refused(inpaint, arguments, words):
    code, _, error = inpaint[1](*arguments)
    assert code == 1 and words in error

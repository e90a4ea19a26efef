"""Edits by text, in this process, of an untrained run that draws 8 x 8 pixels by prompts: files, words and refusals."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from latent_models import attentive, filled
from PIL import Image

import imagegen_jax as ig
from imagegen_jax.cli.common import runs as run_options
from imagegen_jax.core.arrays.texts import keep_tokenizer
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.run import Run
from imagegen_jax.core.run_folder import store_rows
from imagegen_jax.core.state import create
from imagegen_jax.data import Captioned, Shapes
from imagegen_jax.data.pictures.captions import written
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.nn.backbones.dit import DiT
from imagegen_jax.nn.text_encoders.small import TextTransformer
from imagegen_jax.text import Words, WordVocabulary

pytestmark = pytest.mark.slow
SIDE, CELL = 8, 32  # of an image, and of one in a picture, where small ones are magnified
MODEL = Diffusion(
    DiT(patch=4, depth=1, width=16, heads=2, cross_attention=True), levels=Karras(2), solver=Euler(), clip=True,
    image_shape=(SIDE, SIDE, 3), token_dropout=0.1,
    text=TextTransformer(vocabulary_size=20, context=8, width=8, depth=1, heads=2),
)  # fmt: skip
WORDS = "a red circle blue star"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("text"), Words.built([WORDS], context=8)
    found = tokenizer.encode(["a red circle"] * 2)
    batch = {"image": np.zeros((2, SIDE, SIDE, 3)), "text": found.tokens, "text_mask": found.mask}
    optim = {"network": Adam(1e-3), "text": Adam(1e-3)}
    data = Captioned(Shapes(8, size=16), WordVocabulary(context=8))
    experiment = ig.Experiment("text", MODEL, data, optim, batch_size=8)
    store_rows(folder, {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in batch.items()}, ())
    keep_tokenizer(folder / "tokenizer", tokenizer)
    nets = attentive(filled(MODEL.init, jax.random.key(0), batch))
    return Run(experiment, create(nets, {}, {}), folder)


@pytest.fixture
def imagegen(imagegen, run, monkeypatch, tmp_path):
    """Runs `imagegen edit ...` in an empty folder, where the run is to be had by any name."""
    monkeypatch.setattr(run_options, "load", lambda *_, **__: run)
    monkeypatch.chdir(tmp_path)
    return functools.partial(imagegen, "edit")


PAIR = ("--prompt", "a red circle", "--prompt", "a blue star")


def test_a_way_between_prompts_is_a_picture_or_a_video(imagegen, run, tmp_path):
    """From the first prompt's own image to the last's; the video goes on and back, and starts with the same."""
    code, said, _ = imagegen("interpolate", "run", *PAIR, "--frames", 2, "--n", 2, "--out", "a.png", "--guidance", 2)
    assert code == 0 and "3 images from the first prompt to the last, 2 times, in a.png" in said
    with Image.open("a.png") as picture:
        assert picture.size[0] == 3 * (CELL + 16) and picture.info["prompts"]
        still = np.asarray(picture.convert("RGB")).astype(int)
    code, said, _ = imagegen("interpolate", "run", *PAIR, "--frames", 2, "--n", 2, "--out", "a.gif", "--guidance", 2)
    assert code == 0 and "4 frames in a.gif" in said
    with Image.open("a.gif") as video:
        assert video.n_frames == 4
    assert np.abs(still[-40:, :48] - still[-40:, -48:]).max() > 5


def test_a_reworded_picture_lies_below_the_first(imagegen):
    """The first row is that of another rewording, by the same seed."""
    height, rows = CELL + 16, []
    for more in (("--to", "a blue circle"), ("--reweight", "red=3", "--cross-replace", "0", "--self-replace", "0")):
        code, said, _ = imagegen("reword", "run", "--prompt", "a red circle", *more, "--n", 2, "--guidance", 2)
        assert code == 0 and "2 images by the prompt and by what it becomes in reword.png" in said
        with Image.open("reword.png") as picture:
            assert picture.info["prompts"]
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        head = len(written("a red circle", pixels.shape[1]))
        rows.append((pixels[head : head + height], pixels[-height:]))
    np.testing.assert_array_equal(rows[0][0], rows[1][0])
    assert all(np.abs(first - second).max() > 5 for first, second in rows)


def test_given_images_are_drawn_anew_by_prompts(imagegen):
    """img2img and inpainting: other prompts, other images; what is black in the mask stays."""
    values = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(values).save("given.png")
    Image.fromarray(np.where(np.arange(SIDE) < 4, 0, 255).astype(np.uint8)[None].repeat(SIDE, 0)).save("mask.png")
    found = {}
    for edit, more in (("redraw", ("--strength", "1")), ("inpaint", ("--mask", "mask.png", "--method", "replacement"))):
        for prompt in ("a red circle", "a blue star"):
            assert imagegen(edit, "run", "given.png", *more, "--prompt", prompt, "--guidance", 2)[0] == 0
            with Image.open(f"{edit}.png") as picture:
                pixels = np.asarray(picture.convert("RGB")).astype(int)
            found[edit, prompt] = pixels[8:-8, 8:-8][::4, ::4][:, SIDE:]
        assert np.abs(found[edit, "a red circle"] - found[edit, "a blue star"]).max() > 5
    np.testing.assert_array_equal(found["inpaint", "a blue star"][:, :4], values[:, :4])


def test_what_is_not_read_or_missing_is_said(imagegen):
    for arguments, message in (
        (("interpolate", "run", "--prompt", "a red circle"), "1 prompt: name at least two to go between"),
        (("interpolate", "run", *PAIR, "--latents", 3), "--latents 3: of a model of latents"),
        (("reword", "run", "--prompt", "a red circle"), "nothing is reworded: say what the prompt becomes"),
        (("reword", "run", "--prompt", "a red circle", "--reweight", "star=2"), "'star' is no word of the prompt"),
        (("reword", "run", "--prompt", "a red circle", "--reweight", "red"), "not of the form WORD=FACTOR"),
        (("reword", "run", "--prompt", "a red circle", "--reweight", "red=2", "--reweight", "Red=3"), "a word once"),
        (("interpolate", "run", *PAIR, "--fps", 9, "--out", "a.png"), "--fps 9: of a video"),
        (("attention", "run", "--prompt", "a red circle", "--labels", "1"), "--labels"),
    ):
        code, _, error = imagegen(*arguments)
        assert code and message in error.replace("\n", " ")

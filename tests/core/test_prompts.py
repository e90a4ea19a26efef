"""Text to image from data to picture: what a run keeps, what prompts draw, and which of them are refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import imagegen_jax as ig
from imagegen_jax.cli.common.prompts import PromptRequest, drawn_texts, texts_in_turn, with_prompts
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.arrays.texts import notes_of
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.optim import SGD, Adam
from imagegen_jax.data import Captioned, Digits, Shapes
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.text_encoders.small import TextTransformer
from imagegen_jax.text import WordVocabulary

PROMPTS = ["a small red circle", "a large blue cross on the left"]


class Sees(nn.Module):
    """The image and the mean of the tokens that are seen, mixed by a layer."""

    @nn.compact
    def __call__(self, x, t, conditioning):
        tokens, mask = conditioning.tokens, conditioning.token_mask[..., None]
        mean = (tokens * mask).sum(1) / jnp.maximum(mask.sum(1), 1)
        h = jnp.concatenate([x, jnp.broadcast_to(mean[:, None, None], (*x.shape[:3], mean.shape[-1]))], -1)
        return nn.Dense(x.shape[-1])(h)


MODEL = Diffusion(
    Sees(), levels=Karras(3), image_shape=(16, 16, 3), token_dropout=0.1,
    text=TextTransformer(vocabulary_size=40, context=12, width=8, depth=1, heads=2),
)  # fmt: skip
EXPERIMENT = ig.Experiment(
    "text", MODEL, Captioned(Shapes(40, size=16), WordVocabulary(context=12)),
    {"network": Adam(1e-2), "text": Adam(1e-2)}, batch_size=8, steps=2, samples=4, mesh=MeshShape(data=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGEGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        return ig.fit(EXPERIMENT, tmp_path_factory.mktemp("run") / "run", quiet=True)


def difference(one, other):
    return np.abs(one.astype(int) - other).max()


def test_prompts_are_encoded_where_the_data_are_not_at_hand(run, place, tmp_path):
    """The run keeps the tokenizer's files; the data would be drawn anew into an empty cache."""
    folder = shutil.copytree(run.workdir, tmp_path / "copy")
    loaded = ig.load(folder, modules=[__name__])
    images = loaded.sample(prompts=PROMPTS)
    assert images.shape == (2, 16, 16, 3) and not (tmp_path / "cache").exists()
    encoded = EXPERIMENT.data.open().tokenizer.encode(PROMPTS)
    np.testing.assert_array_equal(images, run.sample(2, text=encoded.tokens, text_mask=encoded.mask))
    (folder / "tokenizer" / "words.txt").unlink()
    with pytest.raises(RunFolderError, match=r"the tokenizer of .*copy cannot be read .*words.txt"):
        _ = ig.load(folder, modules=[__name__]).tokenizer


def test_prompts_change_what_is_drawn_and_one_stands_for_all(run):
    one, other = run.sample(prompts=PROMPTS)
    assert difference(one, other) > 5
    np.testing.assert_array_equal(run.sample(2, prompts=PROMPTS[0]), run.sample(prompts=[PROMPTS[0]] * 2))


def test_guidance_leads_away_from_no_text_or_from_a_negative_prompt(run):
    """D_u + s (D_c - D_u): with the prompt itself as negative one that is D_c, and an empty one is no text."""
    plain = run.sample(prompts=PROMPTS)
    guided = run.sample(prompts=PROMPTS, guidance=4.0)
    assert difference(plain, guided) > 5
    assert difference(plain, run.sample(prompts=PROMPTS, negative_prompts=PROMPTS, guidance=4.0)) <= 1
    np.testing.assert_array_equal(guided, run.sample(prompts=PROMPTS, negative_prompts=" ", guidance=4.0))
    swapped = run.sample(prompts=PROMPTS, negative_prompts=PROMPTS[::-1], guidance=0.0)
    assert difference(swapped, run.sample(prompts=PROMPTS[::-1])) <= 1


def test_prompts_are_drawn_with_a_guide(run):
    """Which reads them as well; by a scale of 1 the run draws as without it."""
    guided = run.guided_by(run)
    assert difference(guided.sample(prompts=PROMPTS, guidance=1.0), run.sample(prompts=PROMPTS)) <= 1


def test_grids_follow_captions_of_the_data_and_name_them(run, place):
    with Image.open(run.workdir / "samples" / "00000002.png") as picture:
        named = json.loads(picture.text["prompts"])
    assert tuple(named) == EXPERIMENT.data.open().texts(0, 4)


def test_texts_that_are_cut_and_unknown_words_are_said(run):
    long = "a small red circle on the left and a purple dragon on the right"
    cut, unknown = notes_of(run.tokenizer, [long, "a red circle", long])
    assert cut.startswith("1 of 2 texts are longer than 12 tokens and were cut, the first is 'a small red")
    assert unknown == "not in the vocabulary, and so not followed: dragon"
    assert notes_of(run.tokenizer, PROMPTS) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n": 3, "prompts": PROMPTS}, "2 prompts for 3 images: give one an image, or one for all"),
        ({"prompts": PROMPTS, "negative_prompts": ["a"] * 3}, "3 negative prompts for 2 images"),
        ({"prompts": []}, r"prompts=\[\]: no prompt is given.*: give one an image"),
        ({"prompts": ["a", " "]}, "prompt 2 is empty: say what to draw"),
        ({"prompts": PROMPTS, "negative_prompts": "a circle"}, "a negative prompt is what guidance leads away from"),
        ({}, "how many images. Give n, or a list of prompts"),
    ],
)
def test_what_cannot_be_drawn_is_refused(run, given, words):
    with pytest.raises(ValueError, match=words):
        run.sample(**given)


def test_prompts_for_a_model_without_text_are_refused(run):
    model = dataclasses.replace(MODEL, text=None, token_dropout=0.0)
    other = dataclasses.replace(run, experiment=dataclasses.replace(EXPERIMENT, model=model))
    with pytest.raises(ValueError, match=r"prompts given, but this Diffusion reads no text: .* recipe shapes_text"):
        other.sample(prompts=PROMPTS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": Digits()}, "model.text reads captions, but the data have none: use captioned data"),
        ({"model.text.context": 9}, "data.tokenizer.context=12, model.text.context=9: make them the same"),
        ({"model.text.vocabulary_size": 5}, "has 33 tokens, but model.text.vocabulary_size=5: set it to at least 33"),
        ({"model.token_shape": (2, 3)}, r"model.token_shape=\(2, 3\), but model.text makes the tokens"),
        ({"optim": {"network": SGD(0.1)}}, "the model trains 'text', which has no optimizer"),
        (
            {"model.train_text": False, "optim": {"network": SGD(0.1)}},
            "the network 'text' is frozen and has no weights",
        ),
        ({"model.text": None}, "model.token_dropout=0.1, model.token_shape=None.* or a text encoder .model.text."),
    ],
)
def test_models_and_data_that_do_not_go_together_are_refused(place, changes, words):
    with pytest.raises(ValueError, match=words):
        ig.Program(ig.override(EXPERIMENT, changes))


@pytest.mark.slow
def test_a_frozen_encoder_of_another_run_stays_as_it_is(run, place, tmp_path):
    frozen = ig.override(EXPERIMENT, {"model.train_text": False, "optim": {"network": SGD(0.1)}, "samples": 1})
    frozen = dataclasses.replace(frozen, pretrained=FrozenMap({"text": str(run.workdir)}))
    trained = ig.fit(frozen, tmp_path / "frozen", quiet=True)
    for network, same in (("text", True), ("network", False)):
        one, other = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(r.nets[network])]) for r in (run, trained))
        assert np.array_equal(one, other) == same


@pytest.mark.slow
def test_a_command_draws_by_prompts(run, imagegen, place, tmp_path):
    words = ["sample", run.workdir, "--module", __name__, "--n", "4", "--guidance", "2", "--out"]
    prompts = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    code, out, err = imagegen(*words, "a.npz", *prompts, "--negative-prompt", "a green dragon")
    assert code == 0 and "not followed: dragon" in err
    (tmp_path / "prompts.txt").write_text("\n".join([PROMPTS[0], "", PROMPTS[1]]))
    assert imagegen(*words, "grid.png", "--prompts", tmp_path / "prompts.txt")[0] == 0
    each = [PROMPTS[0]] * 2 + [PROMPTS[1]] * 2
    with np.load("a.npz") as arrays, Image.open("grid.png") as picture:
        assert arrays["prompts"].tolist() == each == json.loads(picture.text["prompts"])
        expected = run.sample(prompts=each, negative_prompts="a green dragon", guidance=2.0)
        np.testing.assert_array_equal(arrays["arr_0"], expected)


@pytest.fixture
def pipe():
    """A pipe of prompts, which is empty when it is read again."""
    reading, writing = os.pipe()
    os.write(writing, "\n".join(PROMPTS).encode())
    os.close(writing)
    yield f"/dev/fd/{reading}"
    os.close(reading)


def test_edits_that_ask_for_prompts_twice_read_a_pipe_once(pipe):
    request = with_prompts(PromptRequest(prompts=pipe))
    assert texts_in_turn(request, MODEL, 3) == texts_in_turn(request, MODEL, 3) == (*PROMPTS, PROMPTS[0])


def test_prompts_may_come_by_a_pipe(run, imagegen, place, pipe):
    code, _, err = imagegen(
        "sample", run.workdir, "--module", __name__, "--n", "2", "--prompts", pipe, "--out", "a.npz"
    )
    assert code == 0, err
    with np.load("a.npz") as arrays:
        assert arrays["prompts"].tolist() == PROMPTS


def test_more_prompts_than_images_are_refused(run):
    """Where --source says how many images there are, nothing else does."""
    with pytest.raises(ValueError, match="2 prompts for 1 images: name fewer prompts, or more images"):
        drawn_texts(tuple(PROMPTS), run, 1, 0)


@pytest.mark.slow
def test_edits_follow_prompts(run, imagegen, place):
    """With all of the noise, a given image leaves nothing: what is drawn is what the prompt draws."""
    Image.fromarray(Shapes(1, size=16).image(0)).save("a.png")
    words = ["edit", "redraw", run.workdir, "a.png", "--module", __name__, "--strength", "1"]
    assert imagegen(*words, "--prompt", PROMPTS[0], "--out", "one.png")[0] == 0
    assert imagegen(*words, "--prompt", PROMPTS[1], "--out", "other.png")[0] == 0
    one, other = (np.asarray(Image.open(name)) for name in ("one.png", "other.png"))
    assert (one != other).any()
    code, _, err = imagegen(*words)
    assert code == 1 and "this model reads text: say what the images are to show, such as --prompt" in err
    code, _, err = imagegen(*words, "--prompt", "a", "--prompt", "b")
    assert code == 1 and "2 prompts for 1 images: name fewer" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--prompt", "a", "--prompts", "x"), "--prompts x: --prompt is given too"),
        (("--prompts", "x"), "--prompts x: no text in UTF-8 can be read there"),
        (("--prompts", "latin"), "--prompts latin: no text in UTF-8 can be read there"),
        (("--prompts", "empty"), "--prompts empty: it holds no prompt"),
        (("--prompt", "a", "--prompt", "b", "--n", "1"), "--n 1: there are 2 prompts"),
    ],
)
def test_prompts_of_a_command_that_cannot_be_read_are_refused(run, imagegen, place, words, message):
    with open("latin", "wb") as file:
        file.write("grün".encode("latin-1"))
    open("empty", "w").close()
    code, _, err = imagegen("sample", run.workdir, "--module", __name__, *words)
    assert code == 1 and message in err

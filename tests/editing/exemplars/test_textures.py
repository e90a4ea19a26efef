"""Textures from one picture, and their judges: copies and noise are told from what is new and alike."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imagegen_jax.editing.exemplars import neighbours
from imagegen_jax.editing.exemplars.neighbours import Neighbours, grown
from imagegen_jax.editing.exemplars.quilting import Quilting, quilted
from imagegen_jax.metrics.scores.textures import gram_distance, verbatim_share
from imagegen_jax.nn.backbones import mobilenet

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def blobs():
    """Noise without fine detail, in colours: [40 40 3]."""
    noise = np.asarray(Image.fromarray(RNG.integers(0, 256, (14, 14, 3), np.uint8)).resize((40, 40)))
    return np.clip((noise.astype(float) - 128) * 1.5 + 128, 0, 255).astype(np.uint8)


def test_a_copy_is_verbatim_and_noise_is_not(blobs):
    assert verbatim_share(blobs[5:35, 3:33], blobs) == 1
    assert verbatim_share(RNG.integers(0, 256, (30, 30, 3), np.uint8), blobs) == 0
    half = blobs.copy()
    half[:, 20:] = 255 - half[:, 20:]
    assert 0 < verbatim_share(half, blobs) < 1
    with pytest.raises(ValueError, match="image of 9x9 pixels"):
        verbatim_share(blobs[:9, :9], blobs)


def test_the_gram_distance_sees_shuffled_pixels_that_have_the_same_colours(blobs):
    rng = np.random.default_rng(1)
    weights = {
        name: rng.normal(0, 1 / np.sqrt(np.prod(shape[:-1])), shape).astype(np.float32)
        if "kernel" in name
        else np.full(shape, float(name.endswith(("gamma", "moving_variance"))), np.float32)
        for name, shape in mobilenet.shapes(1).items()
    }
    shuffled = RNG.permutation(blobs.reshape(-1, 3)).reshape(blobs.shape)
    assert gram_distance(weights, blobs, blobs, (0, 1)) == 0
    mirrored = gram_distance(weights, blobs[::-1, ::-1], blobs, (0, 1))
    assert 2 * mirrored < gram_distance(weights, shuffled, blobs, (0, 1))


@pytest.mark.parametrize("make", [
    lambda exemplar, size, seed: grown(exemplar, size, Neighbours(patch=5, coarsest=20, passes=3), seed),
    lambda exemplar, size, seed: quilted(exemplar, size, Quilting(12, 4), seed),
], ids=["neighbours", "quilting"])  # fmt: skip
def test_stripes_stay_stripes_and_a_seed_decides(make, blobs):
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[:, np.arange(40) % 8 < 4] = (200, 120, 40)
    image = list(make(stripes, (48, 56), 0))[-1].astype(float)
    assert image.shape == (48, 56, 3) and image.std(0).mean() < 0.6 * image.std(1).mean()
    once, again, other = (list(make(blobs, (32, 32), seed))[-1] for seed in (0, 0, 1))
    assert (once == again).all() and np.abs(once.astype(int) - other).mean() > 2


def test_patches_are_looked_up_as_they_are_at_the_coarsest_scale_alone(blobs, monkeypatch):
    seen = []
    monkeypatch.setattr(neighbours, "_at_scale", lambda image, scale, how, first: seen.append(first) or image)
    list(grown(blobs, (40, 48), Neighbours(patch=5, coarsest=20), 0))
    assert seen == [True, False, False]


def test_patches_that_nothing_is_near_to_come_first_where_alpha_is_small():
    """Two keys are near to all queries, one is far: with the weight of Eq. 3 it is chosen by its nearest query."""
    keys = np.zeros((40, 147), np.float32)
    keys[:, 0] = np.linspace(0, 10, 40)
    keys[39] = 0
    keys[39, 1] = 60
    asked = np.zeros((9, 147), np.float32)
    asked[:, 0] = np.linspace(0.1, 9, 9)
    asked[4, 1] = 20
    chosen = [neighbours._nearest(asked, keys, Neighbours(alpha=alpha)) for alpha in (1e-6, 1e6)]
    assert 39 in chosen[0] and 39 not in chosen[1]


def test_the_command_writes_a_texture_and_refuses_what_is_too_small(blobs, imagegen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(blobs).save("blobs.png")
    code, said, _ = imagegen(
        "edit", "texture", "blobs.png", "--size", 24, "--exemplar-size", 30, "--out", "new/out.png"
    )
    assert code == 0 and "patches of 16x16 that the exemplar holds as they are" in said
    assert Image.open("new/out.png").size == (24, 24)
    assert "without a trained model" in imagegen("provenance", "new/out.png")[1]
    words = ("--method", "quilting", "--block", 12, "--size", 24, "--no-metadata", "--out", "silent.png")
    assert imagegen("edit", "texture", "blobs.png", *words)[0] == 0
    assert "says nothing" in imagegen("provenance", "silent.png")[1]
    for words, names in (
        (("blobs.png", "--exemplar-size", 20), "the exemplar has 20x20 pixels"),
        (("blobs.png", "--method", "quilting", "--block", 40), "blocks of 40 need more"),
        (("blobs.png", "--block", 8), "--method quilting"),
        (("absent.png",), "absent.png"),
        (("blobs.png", "--size", 16), "this exemplar needs"),
    ):
        code, _, error = imagegen("edit", "texture", *words)
        assert code != 0 and names in str(code) + error

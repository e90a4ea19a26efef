"""Style transfer: its distance in closed form, its gradient, and what a few steps do at random weights."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from imagegen_jax.core.arrays.image import to_float
from imagegen_jax.editing.exemplars import style
from imagegen_jax.editing.exemplars.style import Transfer, sliced_wasserstein, transferred
from imagegen_jax.nn.backbones import mobilenet

KEY, RNG = jax.random.key(0), np.random.default_rng(0)
SMALL = Transfer(steps=8, content_weight=0.0, rate=0.1, directions=8, side=8)


@pytest.fixture(scope="module")
def weights():
    """MobileNetV1 with random kernels, and norms that do nothing."""
    rng, found = np.random.default_rng(1), {}
    for name, shape in mobilenet.shapes().items():
        if "kernel" in name:
            found[name] = rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)
        else:
            found[name] = np.full(shape, float(name.endswith(("gamma", "moving_variance"))), np.float32)
    return found


@pytest.fixture(scope="module")
def pictures():
    """A picture of large squares, and one of red stripes."""
    content = np.kron(RNG.integers(40, 216, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::4, 0] = stripes[:, 1::4, 0] = 230
    return content, stripes


def test_the_distance_of_shifted_vectors_is_that_of_the_shift_along_each_axis():
    a, shift = RNG.normal(size=(50, 6)).astype(np.float32), np.arange(6, dtype=np.float32)
    axes = np.array(jax.random.normal(KEY, (6, 32)))
    axes /= np.linalg.norm(axes, axis=0)
    found = sliced_wasserstein(a, RNG.permutation(a) + shift, KEY)
    np.testing.assert_allclose(found, ((shift @ axes) ** 2).mean(), rtol=1e-5)


def test_sets_of_different_sizes_are_compared_at_the_quantiles_of_the_first():
    a = RNG.normal(size=(40, 3)).astype(np.float32)
    assert float(sliced_wasserstein(a, np.repeat(a, 2, axis=0), KEY)) < 1e-10
    assert float(sliced_wasserstein(a, np.repeat(a[:20], 2, axis=0), KEY)) > 1e-3


def test_the_gradient_is_that_of_sorted_differences():
    values, wanted = RNG.normal(size=(2, 3, 20)).astype(np.float32)
    plain = jax.grad(lambda values: 5 * jnp.mean((jnp.sort(values, axis=1) - wanted) ** 2))(values)
    np.testing.assert_allclose(jax.grad(lambda v: 5 * style._sorted_distance(v, wanted))(values), plain, atol=1e-6)


def after(weights, pictures, transfer):
    content, stripes = (to_float(jnp.asarray(picture)) for picture in pictures)
    steps = list(transferred(weights, content, stripes, transfer, KEY))
    return [float(step.loss) for step in steps], np.asarray(steps[-1].image)


def test_steps_take_the_colour_of_the_style(weights, pictures):
    losses, image = after(weights, pictures, SMALL)
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0]
    content = pictures[0] / 127.5 - 1
    assert image.shape == content.shape and np.abs(image).max() <= 1
    redness = [x[..., 0].mean() - x[..., 1:].mean() for x in (content, image)]
    assert redness[1] > redness[0] + 0.1


@pytest.mark.slow
def test_a_weight_of_the_content_keeps_it_and_gram_matrices_do_as_well(weights, pictures):
    content = pictures[0] / 127.5 - 1
    _, free = after(weights, pictures, dataclasses.replace(SMALL, content_weight=0.0, loss="gram"))
    losses, kept = after(weights, pictures, dataclasses.replace(SMALL, content_weight=1000.0, loss="gram"))
    assert np.isfinite(losses).all()
    assert np.abs(kept - content).mean() < 0.5 * np.abs(free - content).mean()


def test_the_command_writes_the_picture_and_the_way_and_says_how_near_they_are(
    weights, pictures, imagegen, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    np.savez("weights.npz", **weights)
    for name, picture in zip(("content.png", "stripes.png"), pictures, strict=True):
        Image.fromarray(picture).save(name)
    words = ("edit", "style", "content.png", "--style", "stripes.png", "--mobilenet", "weights.npz")
    code, said, _ = imagegen(*words, "--steps", 4, "--video", "way.gif", "--out", "new/out.png")
    assert code == 0 and "SSIM to the content" in said and said.count("Gram distance to the style") == 2
    assert Image.open("new/out.png").size == (32, 32)
    with Image.open("way.gif") as way:
        assert way.n_frames == 3  # the content, and two of four steps
    for written in ("new/out.png", "way.gif"):
        code, said, _ = imagegen("provenance", written)
        assert code == 0 and "of images that it was given" in said and "imagegen edit style content=content.png" in said
    code, _, error = imagegen("provenance", "new/out.png", "--redraw", "again.png")
    assert code == 1 and "made of other pictures, which are not in it" in error
    Image.fromarray(pictures[1][:16]).save("small.png")
    for wrong, names in (
        (("edit", "style", "small.png", *words[3:]), "the content has 16x32 pixels"),
        ((*words, "--out", "out.gif"), "out.gif"),
        ((*words, "--video", "way.png"), "--video way.png"),
        ((*words[:-1], "stripes.png"), "stripes.png"),
    ):
        code, _, error = imagegen(*wrong)
        assert code != 0 and names in str(code) + error

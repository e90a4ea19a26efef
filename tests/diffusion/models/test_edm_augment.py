"""EDM's augmentation: the identity, each transform on a known image, what the network is told, and how often."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.model import Inputs
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.models.edm_augment import Change, EDMAugment, changed
from imagegen_jax.nn.backbones.ncsnpp import SongUNet
from imagegen_jax.nn.backbones.unet import UNet

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # a sixth of the time

KEY = jax.random.key(0)
IMAGE = jax.random.uniform(KEY, (16, 16, 3), minval=-1.0)
SIDE = 32
AT = np.linspace(-1, 1, SIDE) * (SIDE - 1) / 2  # of pixels, from the centre


def change(**parts):
    zeros = dict.fromkeys(Change._fields, jnp.float32(0)) | {"mirrored": jnp.array(False), "inverted": jnp.array(False)}
    return Change(**zeros | {name: jnp.asarray(value, zeros[name].dtype) for name, value in parts.items()})


def spot(row, column, wide=2.0, high=2.0):
    """A smooth spot at a place from the centre, down and to the right, with its deviations."""
    rows, columns = np.meshgrid(AT, AT, indexing="ij")
    return np.exp(-0.5 * ((rows - row) / high) ** 2 - 0.5 * ((columns - column) / wide) ** 2)[..., None]


@jit
def changed_and_told(image, done):
    return changed(image, done), done.labels()


def test_with_probability_0_images_are_as_they_were():
    """Bit for bit, and so the network is told."""
    images = jnp.stack([IMAGE, IMAGE[::-1]])
    found, labels = jit(EDMAugment(0.0))(images, jax.random.split(KEY, 2))
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(labels, np.zeros((2, EDMAugment.labels)))


@pytest.mark.parametrize(("mirrored", "inverted"), [(True, False), (False, True), (True, True)])
def test_flips_are_exact(mirrored, inverted):
    done = change(mirrored=mirrored, inverted=inverted)
    expected = IMAGE[:: -1 if inverted else 1, :: -1 if mirrored else 1]
    found, labels = changed_and_told(IMAGE, done)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(labels, [mirrored, inverted, *[0] * 7])


@pytest.mark.parametrize(
    ("done", "expected", "labels"),
    [
        (change(scale=2.0), spot(-4 * 2**0.4, 6 * 2**0.4, 2 * 2**0.4, 2 * 2**0.4), [0, 0, 2, 0, 0, 0, 0, 0, 0]),
        (change(turn=np.pi / 2), spot(-6, -4), [0, 0, 0, -1, 1, 0, 0, 0, 0]),
        (change(stretch=2.0), spot(-4 / 2**0.4, 6 * 2**0.4, 2 * 2**0.4, 2 / 2**0.4), [0, 0, 0, 0, 0, 2, 0, 0, 0]),
        (
            change(stretch=-2.0, direction=np.pi / 2),
            spot(-4 / 2**0.4, 6 * 2**0.4, 2 * 2**0.4, 2 / 2**0.4),
            [0, 0, 0, 0, 0, 0, -2, 0, 0],
        ),
        (change(right=-1.0), spot(-4, 2), [0, 0, 0, 0, 0, 0, 0, -1, 0]),
        (change(down=0.5), spot(-2, 6), [0, 0, 0, 0, 0, 0, 0, 0, 0.5]),
    ],
    ids=["scale", "turn", "stretch", "squeeze", "right", "down"],
)
def test_each_transform_of_a_spot(done, expected, labels):
    """Of one up and to the right of the centre; shifts are in eighths of the side, 4 pixels."""
    image = jnp.asarray(spot(-4, 6), jnp.float32)
    found, told = changed_and_told(image, done)
    np.testing.assert_allclose(found, expected, atol=0.02)
    np.testing.assert_allclose(told, labels, atol=1e-6)


def test_a_turn_of_a_right_angle_is_that_of_pixels():
    """Also with all that comes before and after it: flips first, then the turn, then the shift."""
    image = jnp.asarray(spot(-4, 6), jnp.float32)
    done = change(mirrored=True, turn=np.pi / 2, down=0.5)
    expected = np.roll(np.rot90(np.asarray(image)[:, ::-1]), 2, axis=0)
    np.testing.assert_allclose(changed_and_told(image, done)[0][2:-2], expected[2:-2], atol=0.02)


@pytest.mark.slow
def test_how_often_each_takes_place():
    """Within four deviations of what Table 6 says; draws of one image do not depend on those of another."""
    n, p = 20_000, 0.3
    drawn = jax.jit(jax.vmap(EDMAugment(p).draw))(jax.random.split(KEY, n))
    labels = np.asarray(jax.vmap(Change.labels)(drawn))
    assert labels.shape == (n, EDMAugment.labels)
    rates = {0: 0.5, 1: p / 2, 2: p, 4: p, 5: p, 6: p / 2, 7: p, 8: p}
    for label, rate in rates.items():
        assert np.mean(labels[:, label] != 0) == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / n)), label
    for label in (2, 7, 8):
        assert labels[labels[:, label] != 0, label].std() == pytest.approx(1, rel=0.04)
    turned = labels[:, 4] != 0
    np.testing.assert_allclose((labels[turned, 3] + 1) ** 2 + labels[turned, 4] ** 2, 1, rtol=1e-5)
    assert abs(labels[turned, 3].mean() + 1) < 0.04  # evenly around the circle
    together = np.corrcoef((labels[:, [1, 2, 4, 5, 7]] != 0).T)
    assert np.abs(together - np.eye(5)).max() < 4 / np.sqrt(n)  # each by itself
    assert ((labels[:, 7] != 0) == (labels[:, 8] != 0)).all()


def test_a_wrong_probability():
    with pytest.raises(ValueError, match=r"augment.probability=1.2: must be from 0 to 1"):
        EDMAugment(1.2)


# --- in the model ----------------------------------------------------------------------------------------------------

TINY = SongUNet(8, (1,), 1, attention_at=(), dropout=0.0)


@pytest.mark.slow
def test_the_network_is_told_and_sampling_tells_it_nothing():
    """The loss depends on the weights of the labels' layer, samples do not."""
    model = Diffusion(TINY, image_shape=(8, 8, 1), augment=EDMAugment(1.0))
    batch = {"image": jax.random.uniform(KEY, (4, 8, 8, 1), minval=-1.0)}
    nets = model.init(KEY, batch)
    shape = nets["network"]["params"]["augment"]["kernel"].shape
    assert shape == (EDMAugment.labels, 8)
    randomised = jax.tree.map(lambda w: w + 0.1 * jax.random.normal(KEY, w.shape), nets)
    inputs = Inputs(batch, KEY, jax.random.split(KEY, 4), jnp.int32(0), {})
    slope = jit(jax.grad(lambda nets: model.loss(nets, inputs)[0]))(randomised)["network"]["params"]
    assert np.all(np.abs(np.asarray(slope["augment"]["kernel"])).max(axis=1) > 0)
    x, sigma = batch["image"], jnp.full(4, 0.7)
    denoise = jit(lambda nets: model.denoiser(nets, {})(x, sigma))
    other = jax.tree.map(jnp.copy, randomised)
    other["network"]["params"]["augment"]["kernel"] += 1.0
    np.testing.assert_array_equal(denoise(randomised), denoise(other))


def test_only_a_network_that_can_be_told():
    with pytest.raises(ValueError, match="a UNet cannot be told .* use a SongUNet"):
        Diffusion(UNet(), augment=EDMAugment())

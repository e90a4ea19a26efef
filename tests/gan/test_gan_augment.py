"""Augmentation: identities, closed forms of transforms, adaptation, and that what is rare enough does not leak."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.gan.augment import ADA, DiffAugment
from imagegen_jax.nn import affine

KEY = jax.random.key(0)
IMAGE = jax.random.uniform(KEY, (20, 18, 3), minval=-1.0)
SQUARE = jax.random.uniform(KEY, (16, 16, 3), minval=-1.0)
NOTHING = ADA(blits=False, geometry=False, colour=False)


def keys(n):
    return jax.random.split(KEY, n)


def many(image, n):
    return jnp.broadcast_to(image, (n, *image.shape))


# --- affine ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_identity_gives_the_image_back():
    """The filter is orthogonal to its shifts, so doubling and halving lose nothing, at the border either."""
    taps = np.asarray(affine.SYM6)
    np.testing.assert_allclose([taps @ taps, taps[2:] @ taps[:-2], taps.sum()], [1, 0, 2**0.5], atol=1e-9)
    for image in (IMAGE, IMAGE[:8, :8, :1]):
        np.testing.assert_allclose(affine.warp(image, jnp.eye(3)), image, atol=1e-5)


def moved(image, rows, columns):
    """Pixels so many rows and columns on, mirrored at the border."""
    at = [np.arange(side) + by for side, by in zip(image.shape, (rows, columns), strict=False)]
    row, column = (np.minimum(i % (2 * s), 2 * s - 1 - i % (2 * s)) for i, s in zip(at, image.shape, strict=False))
    return image[row][:, column]


@pytest.mark.parametrize(("rows", "columns"), [(3, -2), (-1, 0)])
def test_shifts_by_whole_pixels_are_exact(rows, columns):
    found = np.asarray(jax.jit(lambda y, x: affine.warp(IMAGE, affine.translation(y, x)))(float(rows), float(columns)))
    inner = slice(6, -6)
    wanted = moved(np.asarray(IMAGE), rows, columns)
    np.testing.assert_allclose(found[inner, inner], wanted[inner, inner], atol=1e-5)


@pytest.mark.slow
def test_what_lies_beyond_the_border_is_mirrored():
    image = smooth(24, 24)
    for rows, columns in ((9, 0), (0, -30), (-5, 60)):
        found = affine.warp(image, affine.translation(float(rows), float(columns)))
        np.testing.assert_allclose(found, moved(image, rows, columns), atol=0.1)


def smooth(height, width):
    row, column = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return jnp.stack([jnp.sin(0.4 * row), jnp.cos(0.3 * column), jnp.sin(0.3 * (row + column))], axis=-1)


@pytest.mark.slow
def test_flips_quarter_turns_and_scales_of_a_smooth_image():
    image = smooth(16, 16)
    inner = slice(3, -3)
    for matrix, wanted in (
        (affine.scaling(1.0, -1.0), image[:, ::-1]),
        (affine.rotation(jnp.pi / 2), jnp.rot90(image, -1)),
        (affine.rotation(jnp.float32(jnp.pi)), image[::-1, ::-1]),
    ):
        found = affine.warp(image, matrix)
        np.testing.assert_allclose(found[inner, inner], wanted[inner, inner], atol=0.03)
    half = affine.warp(smooth(32, 32), affine.scaling(0.5, 0.5))[8:24, 8:24]  # twice as large
    row = (np.arange(8, 24) - 15.5) / 2 + 15.5
    np.testing.assert_allclose(half[:, 0, 0], np.sin(0.4 * row), atol=0.03)


def test_colours():
    grey, red = jnp.full((1, 1, 3), 0.4), jnp.array([[[0.5, -0.1, -0.1]]])
    turned = affine.recolour(red, affine.hue(jnp.float32(2 * jnp.pi / 3)))
    np.testing.assert_allclose(turned[0, 0], [-0.1, 0.5, -0.1], atol=1e-6)  # a third of the circle: red to green
    np.testing.assert_allclose(affine.recolour(grey, affine.hue(jnp.float32(1.0))), grey, atol=1e-6)
    np.testing.assert_allclose(affine.recolour(grey, affine.saturation(jnp.float32(3.0))), grey, atol=1e-6)
    np.testing.assert_allclose(affine.recolour(red, affine.saturation(jnp.float32(0.0))), [[[0.1] * 3]], atol=1e-6)
    np.testing.assert_allclose(affine.recolour(grey, affine.luma_flip()), -grey, atol=1e-6)
    np.testing.assert_allclose(affine.recolour(red, affine.luma_flip())[0, 0], [0.3, -0.3, -0.3], atol=1e-6)
    np.testing.assert_allclose(affine.recolour(grey, affine.contrast(jnp.float32(2.0))), 2 * grey, atol=1e-6)
    np.testing.assert_allclose(affine.recolour(grey, affine.brightness(jnp.float32(0.1))), grey + 0.1, atol=1e-6)
    single = affine.recolour(grey[..., :1], affine.luma_flip())
    np.testing.assert_allclose(single, -grey[..., :1], atol=1e-6)
    with pytest.raises(ValueError, match="4 channels"):
        affine.recolour(jnp.zeros((1, 1, 4)), affine.luma_flip())


# --- ADA -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("image", [IMAGE, IMAGE[..., :1]])
def test_nothing_happens_at_p_0_and_nearly_all_changes_at_p_1(image):
    augment, images = ADA(), many(image, 32)
    same = jax.jit(augment)(images, keys(32), jnp.float32(0))
    np.testing.assert_allclose(same, images, atol=1e-5)
    changed = jax.jit(augment)(images, keys(32), jnp.float32(1))
    assert (abs(changed - images).mean(axis=(1, 2, 3)) > 0.05).all() and jnp.isfinite(changed).all()


@pytest.mark.slow
def test_each_group_of_transforms_is_done_with_probability_p():
    """Of 3 blits the identity of each has 1/2, 1/4 and about 1/16; of 5 colours only the luma flip, 1/2."""
    images = many(SQUARE, 2000)
    for name, p, unchanged in (
        ("blits", 0.3, (1 - 0.15) * (1 - 0.225) * (1 - 0.3 * 24 / 25)),
        ("geometry", 0.2, 0.8**4),
        ("colour", 0.3, 0.7**4 * 0.85),
    ):
        augment = dataclasses.replace(NOTHING, **{name: True})
        found = jax.jit(augment)(images, keys(2000), jnp.float32(p))
        share = jnp.mean(abs(found - images).max(axis=(1, 2, 3)) < 1e-3)
        np.testing.assert_allclose(share, unchanged, atol=0.04, err_msg=name)


@pytest.mark.slow
def test_transforms_follow_the_key_of_the_row():
    augment, images = ADA(), many(SQUARE, 6)
    augment = jax.jit(augment)
    whole = augment(images, keys(6), jnp.float32(0.7))
    np.testing.assert_allclose(augment(images[4:], keys(6)[4:], jnp.float32(0.7)), whole[4:], atol=1e-5)


def test_p_follows_how_sure_the_discriminator_is():
    """Up by rows / images every 4th step while more than 80 % of the logits are positive, and else down to 0."""
    augment = ADA(images=800.0)
    state, sure, unsure = augment.start(), jnp.ones(10), jnp.array([1.0] * 7 + [-1.0] * 3)
    found = []
    for step in range(16):
        state = augment.follow(state, sure if step < 8 else unsure, jnp.int32(step))
        found.append(float(state["p"]))
    np.testing.assert_allclose(found, [0] * 3 + [0.05] * 4 + [0.1] * 4 + [0.05] * 4 + [0], atol=1e-6)
    fixed = ADA(target=None, p=0.3)
    assert fixed.follow(fixed.start(), sure, jnp.int32(3))["p"] == jnp.float32(0.3)


def test_p_stays_within_0_and_1():
    for start, logits, end in ((0.99, 1.0, 1.0), (0.01, -1.0, 0.0)):
        augment = ADA(p=start, images=10.0, every=1)
        assert augment.follow(augment.start(), jnp.full(4, logits), jnp.int32(0))["p"] == end
    with pytest.raises(ValueError, match="p must be from 0 to 1"):
        ADA(p=1.5)


@pytest.mark.slow
def test_what_is_rare_enough_does_not_leak():
    """Four orientations of one image, in shares that a generator must match. Turned with probability p by a quarter
    turn or more, shares q become T q with T = (1 - p) I + p / 4: two generators that look alike to the discriminator
    are alike, as long as T can be inverted (section 2.2). At p = 0.75 that gives q back; at p = 1 all q look alike.
    """
    corner = jnp.zeros((8, 8, 1)).at[:3, :3].set(1.0)
    orientations = jnp.stack([jnp.rot90(corner, k) for k in range(4)])
    shares = np.array([0.7, 0.2, 0.1, 0.0])
    which = np.repeat(np.arange(4), (shares * 4000).astype(int))

    def turned(p):
        """The shares of orientations of augmented images."""
        matrix = jax.vmap(lambda key: blits_without_flips_and_shifts(key, p))(keys(len(which)))
        images = jax.vmap(affine.warp)(orientations[which], matrix)
        found = jnp.argmax(jnp.einsum("nhwc,khwc->nk", images, orientations), axis=1)
        return np.bincount(found, minlength=4) / len(which)

    def blits_without_flips_and_shifts(key, p):
        chance, turns = jax.random.split(key)
        quarter = affine.rotation(jax.random.randint(turns, (), 0, 4) * (jnp.pi / 2))
        return jnp.where(jax.random.bernoulli(chance, p), quarter, jnp.eye(3))

    seen = turned(0.75)
    np.testing.assert_allclose(seen, 0.25 * shares + 0.75 / 4, atol=0.03)
    back = np.linalg.solve(0.25 * np.eye(4) + 0.75 / 4, seen)
    np.testing.assert_allclose(back, shares, atol=0.1)
    np.testing.assert_allclose(turned(1.0), 0.25, atol=0.03)


# --- DiffAugment -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_cutout_is_a_square_of_half_the_side():
    only = DiffAugment(colour=False, translation=0.0)
    found = only(jnp.ones((500, 16, 12, 2)), keys(500))
    gone = 1 - found[..., 0]
    assert set(np.unique(found)) == {0.0, 1.0}
    assert gone.sum(axis=(1, 2)).max() == 8 * 6 and gone.any(axis=(1, 2)).all()
    rows, columns = gone.max(axis=2), gone.max(axis=1)
    np.testing.assert_array_equal(gone, rows[:, :, None] * columns[:, None])
    assert gone.mean(axis=0).min() > 0.05  # each pixel is covered by some


@pytest.mark.slow
def test_translation_is_by_whole_pixels_and_brings_zeros():
    only = DiffAugment(colour=False, cutout=0.0)
    found = np.asarray(only(many(SQUARE, 400), keys(400)))
    padded = np.pad(np.asarray(SQUARE), ((2, 2), (2, 2), (0, 0)))
    shifted = {(r, c): padded[r : r + 16, c : c + 16] for r in range(5) for c in range(5)}
    counts = {at: sum(np.allclose(image, wanted, atol=1e-6) for image in found) for at, wanted in shifted.items()}
    assert sum(counts.values()) == 400 and min(counts.values()) > 2


@pytest.mark.slow
def test_colour_keeps_what_it_should():
    """Brightness is uniform with width 1; a grey image stays grey; without colour the image is as it was."""
    only = DiffAugment(translation=0.0, cutout=0.0)
    grey = only(jnp.full((4000, 2, 2, 3), 0.2), keys(4000))
    np.testing.assert_allclose(grey, jnp.broadcast_to(grey[:, :1, :1, :1], grey.shape), atol=1e-6)
    assert -0.3 <= grey.min() < -0.29 and 0.69 < grey.max() <= 0.7
    np.testing.assert_allclose(grey.mean(), 0.2, atol=0.02)
    nothing = DiffAugment(colour=False, translation=0.0, cutout=0.0)
    np.testing.assert_array_equal(nothing(many(SQUARE, 3), keys(3)), many(SQUARE, 3))
    spread = only(many(SQUARE, 2000), keys(2000)).std(axis=(1, 2, 3)) / SQUARE.std()
    assert 0.2 < spread.min() < 0.6 and 1.5 < spread.max() < 3

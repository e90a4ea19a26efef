"""Decoding in parts: equal to whole decoding where a tile's border is out of reach, and smaller in memory."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.core.arrays.tiles import Decoding

LATENTS = jax.random.normal(jax.random.key(0), (3, 20, 14, 2))
REACH = 2  # pixels, of the two convolutions below


def decode(z):
    """Each latent as 2x2 pixels, then two 3x3 means of neighbours, with zeros around."""
    x = jnp.sum(z, axis=-1, keepdims=True).repeat(2, axis=1).repeat(2, axis=2)
    for _ in range(2):
        x = jnp.tanh(jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME") / 3)
    return x


@pytest.mark.parametrize("images", [1, 2, 3, 8])
def test_slices_are_the_whole(images):
    """Also where their number does not divide that of images, and where there are more than these."""
    np.testing.assert_allclose(Decoding(images)(decode, LATENTS), decode(LATENTS), atol=1e-6)


def test_tiles_are_the_whole_where_their_borders_are_out_of_reach():
    """And near it elsewhere: by the numbers below, tiles begin at rows 0, 6 and 12, and at columns 0 and 6."""
    whole, found = decode(LATENTS), Decoding(tile=8)(decode, LATENTS)
    assert found.shape == whole.shape == (3, 40, 28, 1)
    gap = np.abs(found - whole).max(axis=(0, 3))
    borders = [np.array([12, 16, 24, 28]), np.array([12, 16])]  # of pixels: begins and ends of tiles, inside
    far = [
        np.abs(np.arange(length)[:, None] + 0.5 - at).min(axis=1) > REACH
        for length, at in zip(gap.shape, borders, strict=True)
    ]
    exact = np.logical_and.outer(*far)
    assert exact.mean() > 0.4 and gap[exact].max() < 1e-6
    assert 1e-3 < gap.max() < 0.5 * float(jnp.abs(whole).max())


def test_a_constant_decoder_is_blended_to_a_constant():
    """Weights are a partition of one; tiles as large as the latents, or larger, are the whole."""
    ones = lambda z: jnp.ones((len(z), 4 * z.shape[1], 4 * z.shape[2], 3))  # noqa: E731
    for tile, overlap in ((5, 0.25), (5, 0.0), (3, 0.9)):
        np.testing.assert_allclose(Decoding(tile=tile, overlap=overlap)(ones, LATENTS), 1, atol=1e-6)
    np.testing.assert_array_equal(Decoding(tile=20)(decode, LATENTS), decode(LATENTS))


def test_parts_take_less_memory():
    """By what the compiler plans: with slices a part of the images' activations, with tiles a part of each one's."""
    z = jax.ShapeDtypeStruct((8, 64, 64, 2), jnp.float32)

    def wide(z):
        for channels in (64, 64, 1):
            kernel = jnp.ones((3, 3, z.shape[-1], channels))
            z = jax.lax.conv_general_dilated(z, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return z

    def planned(decoding):
        program = jax.jit(functools.partial(decoding, wide)).lower(z).compile()
        return program.memory_analysis().temp_size_in_bytes

    whole, sliced, tiled = (planned(Decoding(*parts)) for parts in ((None, None), (1, None), (1, 32)))
    assert sliced < whole / 4 and tiled < sliced / 1.5

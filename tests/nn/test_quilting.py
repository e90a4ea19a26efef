"""Quilting: seams against all paths, and the one block that goes on as the canvas does."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagegen_jax.nn.patches import quilting

RNG = np.random.default_rng(0)


def test_the_seam_is_the_best_of_all_paths():
    seam = jax.jit(lambda difference: quilting._right_of_seam(difference, 6))
    for _ in range(5):
        difference = RNG.random((5, 3)).astype(np.float32)
        paths = [p for p in itertools.product(range(3), repeat=5) if np.abs(np.diff(p)).max() <= 1]
        best = min(paths, key=lambda path: difference[np.arange(5), path].sum())
        found = np.asarray(seam(difference))
        assert found.shape == (5, 6) and found[:, 3:].all()
        assert tuple(found.argmax(1)) == best


def test_a_canvas_is_gone_on_with_by_the_block_that_fits():
    picture = RNG.random((14, 14, 1)).astype(np.float32)
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    right = jnp.stack([picture[5 * i : 5 * i + 9, 5 * j : 5 * j + 9] for i, j in places])
    others = RNG.random((20, 9, 9, 1)).astype(np.float32)
    candidates = jnp.concatenate([others, right])
    choose = quilting.nearly_best(0.1)
    add = jax.jit(lambda canvas, among, place, key: quilting.with_block(canvas, among, place, 4, choose, key))
    canvas = add(jnp.zeros((14, 14, 1)), right[:1], jnp.array([0, 0]), jax.random.key(0))
    for i, place in enumerate(places[1:]):
        canvas = add(canvas, candidates, jnp.array(place), jax.random.key(i))
    np.testing.assert_array_equal(canvas, picture)


def test_blocks_cover_a_row():
    assert [quilting.places_of(size, 24, 8) for size in (8, 24, 25, 40, 41)] == [1, 1, 2, 2, 3]
    with pytest.raises(ValueError, match="overlap=24: must be above 0 and below"):
        quilting.places_of(64, 24, 24)

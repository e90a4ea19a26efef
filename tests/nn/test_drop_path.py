"""Stochastic depth: whole rows are dropped at the rate that was asked for, each by its own key, and the mean stays."""

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.nn.dropout import DropPath


def test_rows_are_dropped_whole_and_the_mean_stays():
    x, keys = jnp.ones((4096, 2, 3)), jax.random.split(jax.random.key(0), 4096)
    dropped = np.asarray(DropPath(0.25).apply({}, x, keys))
    rows = dropped[:, 0, 0]
    np.testing.assert_array_equal(dropped, np.broadcast_to(rows[:, None, None], x.shape))
    np.testing.assert_allclose(np.unique(rows), [0, 1 / 0.75])
    np.testing.assert_allclose(rows.mean(), 1, atol=5 * (0.25 / 0.75 / 4096) ** 0.5)
    np.testing.assert_array_equal(dropped[:7], DropPath(0.25).apply({}, x[:7], keys[:7]))
    np.testing.assert_array_equal(x, DropPath(0.25).apply({}, x, None))

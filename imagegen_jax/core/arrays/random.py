"""Random numbers by rows: each row of a batch draws from a key of its own, so that slices of a batch draw the same."""

from __future__ import annotations

import jax
from jaxtyping import Array, Bool, Float, Int, Key

from imagegen_jax.core.model import PRNGKeys


def streams(keys: PRNGKeys, n: int) -> Key[Array, "n b"]:
    """Splits the key of each row into `n`: [B] -> [n B], to be unpacked as `n` streams of keys [B]."""
    return jax.vmap(lambda key: jax.random.split(key, n), out_axes=1)(keys)


def normal_rows(keys: PRNGKeys, shape: tuple[int, ...]) -> Float[Array, "b ..."]:
    """Draws standard normal rows of `shape`, each from its own key: [B] -> [B *shape]."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def bernoulli_rows(keys: PRNGKeys, share: float) -> Bool[Array, " b"]:
    """Draws True with the probability `share`, each row from its own key: [B] -> [B]."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, share))(keys)


def integer_rows(keys: PRNGKeys, below: int, shape: tuple[int, ...] = ()) -> Int[Array, "b ..."]:
    """Draws rows of `shape` of integers from 0 to below `below`, each from its own key: [B] -> [B *shape]."""
    return jax.vmap(lambda key: jax.random.randint(key, shape, 0, below))(keys)


def uniform_rows(
    keys: PRNGKeys, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()
) -> Float[Array, "b ..."]:
    """Draws rows of `shape` from [`low`, `high`), each from its own key: [B] -> [B *shape]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape, minval=low, maxval=high))(keys)


def fold_rows(keys: PRNGKeys, number: int | Int[Array, ""]) -> PRNGKeys:
    """Folds one number into the key of each row: [B] -> [B]."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)

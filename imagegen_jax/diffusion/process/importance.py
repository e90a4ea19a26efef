"""Training times drawn by the size of their recent losses (Nichol & Dhariwal 2021, arXiv 2102.09672, section 3.3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.random import integer_rows
from imagegen_jax.core.model import PRNGKeys

HISTORY = 10  # losses kept of each time
UNIFORM = 0.001  # the share of times that are drawn evenly, whatever their losses

History = dict[str, Array]  # the last "losses" [T, HISTORY] of each time, and the "count" [T] of all its losses so far


def no_losses(steps: int) -> History:
    """Returns the empty history of `steps` times, as it is before training."""
    return {"losses": jnp.zeros((steps, HISTORY)), "count": jnp.zeros(steps, jnp.int32)}


def drawn_times(steps: int, history: History | None, keys: PRNGKeys) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
    """Draws one of `steps` times for each key, evenly where there is no history; returns the weights of losses too."""
    if history is not None:
        return important_times(history, keys)
    t = integer_rows(keys, steps)
    return t, jnp.ones(t.shape)


def important_times(history: History, keys: PRNGKeys) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
    """Draws a time for each key, and returns the times with the weights that keep the mean loss unbiased.

    p_t ~ sqrt(E[L_t^2])   (Eq. 18), once each time has a full history; uniform before.
    """
    steps = len(history["count"])
    size = jnp.sqrt(jnp.mean(history["losses"] ** 2, axis=1))
    p = (1 - UNIFORM) * size / jnp.maximum(jnp.sum(size), jnp.finfo(jnp.float32).tiny) + UNIFORM / steps
    p = jnp.where(jnp.all(history["count"] >= HISTORY), p, 1 / steps)
    t = jax.vmap(lambda key: jax.random.categorical(key, jnp.log(p)))(keys)
    return t, 1 / (steps * p[t])


def remembered(history: History, t: Int[Array, " b"], losses: Float[Array, " b"]) -> History:
    """Adds a batch's losses to the history, row by row, since a time may occur twice. The history has no gradient."""

    def add(i: Int[Array, ""], kept: tuple[Array, Array]) -> tuple[Array, Array]:
        before, count = kept
        at = count[t[i]] % HISTORY
        return before.at[t[i], at].set(losses[i]), count.at[t[i]].add(1)

    kept, count = jax.lax.fori_loop(0, len(t), add, (history["losses"], history["count"]))
    return {"losses": jax.lax.stop_gradient(kept), "count": count}

"""The weights of attention to tokens, for those who want to look at them: kept as a network computes."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Weights = Float[Array, "b l m"]  # how much each place looks at each token: they add up to 1 over the tokens

_kept: contextvars.ContextVar[list[Weights] | None] = contextvars.ContextVar("kept", default=None)


@contextlib.contextmanager
def keeping_attention() -> Iterator[list[Weights]]:
    """Keeps the weights of all attention to tokens that is computed under it, in order: a list that fills.

    What is traced under it returns them from the same function, since they are values of that trace.
    """
    found: list[Weights] = []
    token = _kept.set(found)
    try:
        yield found
    finally:
        _kept.reset(token)


def keep_attention(q: Float[Array, "b l n d"], k: Float[Array, "b m n d"], mask: Bool[Array, "b 1 1 m"] | None) -> None:
    """Keeps the weights of these queries and keys, as means over the heads n, where somebody asks for them."""
    found = _kept.get()
    if found is None:
        return
    logits = jnp.einsum("bqnd,bknd->bnqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    logits = logits if mask is None else jnp.where(mask, logits, -jnp.inf)
    weights = jnp.nan_to_num(jax.nn.softmax(logits))  # zeros where no token is seen
    found.append(jnp.mean(weights, axis=1))

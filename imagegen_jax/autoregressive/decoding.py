"""How codes are drawn from logits, and one after another: guidance, temperature, the likeliest alone, and a cache.

What is decided at sampling is an array in `conditions`, a number or one for each image, so that another value compiles
nothing anew. What is not there does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from imagegen_jax.autoregressive.codes import both_conditionings, guided, with_unconditional
from imagegen_jax.core.model import Batch, PRNGKey, Variables
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.backbones.transformers.code_network import AnyCausalNetwork, Codes

DECODING = ("temperature", "top_k", "top_p")  # conditions of each draw

Logits = Float[Array, "b v"]


def check_decoding(conditions: Batch, vocabulary: int) -> None:
    """Raises ValueError for a temperature, top_k or top_p that nothing can be drawn by."""
    _check(conditions, "temperature", lambda t: t > 0, "must be above 0; near 0 takes the likeliest codes, 1 draws")
    _check(conditions, "top_p", lambda p: (p > 0) & (p <= 1), "must be above 0 and at most 1, which leaves all codes")
    whole = f"must be an integer from 1 to {vocabulary}, the number of codes that there are"
    _check(conditions, "top_k", lambda k: (k >= 1) & (k <= vocabulary) & (k == np.round(k)), whole)


def _check(conditions: Batch, name: str, holds: Any, rule: str) -> None:
    if name not in conditions:
        return
    values = np.asarray(conditions[name])
    wrong = values[~np.asarray(holds(values), bool)]
    if wrong.size:
        raise ValueError(f"{name}={wrong.ravel()[0]}: {rule}")


def truncated(logits: Logits, top_k: Num[Array, "*b"] | None = None, top_p: Num[Array, "*b"] | None = None) -> Logits:
    """Leaves the `top_k` largest logits, and of these the fewest whose probabilities sum to more than `top_p`.

    The others become -infinity; logits that are equal stay or go together. The second is nucleus sampling (Holtzman et
    al. 2020, arXiv 1904.09751, Eq. 2).
    """
    if top_k is None and top_p is None:
        return logits
    largest = -jnp.sort(-logits, axis=-1)
    place = jnp.arange(logits.shape[-1])
    kept = jnp.ones(logits.shape, bool) if top_k is None else place < _column(top_k)
    if top_p is not None:
        summed = jnp.cumsum(jax.nn.softmax(jnp.where(kept, largest, -jnp.inf)), axis=-1)
        before = jnp.concatenate([jnp.zeros_like(summed[:, :1]), summed[:, :-1]], axis=-1)
        kept &= (before <= _column(top_p)) | (_column(top_p) >= 1)  # sums of all are 1 only nearly
    least = jnp.take_along_axis(largest, jnp.sum(kept, axis=-1, keepdims=True) - 1, axis=-1)
    return jnp.where(logits >= least, logits, -jnp.inf)


def draw(key: PRNGKey, logits: Logits, conditions: Batch) -> Int[Array, " b"]:
    """Draws a code for each row: of softmax(logits / temperature), among those that top_k and top_p leave."""
    if "temperature" in conditions:
        logits = logits / _column(conditions["temperature"])
    kept = truncated(logits, conditions.get("top_k"), conditions.get("top_p"))
    return jax.random.categorical(key, kept).astype(jnp.int32)


def draw_in_order(
    network: AnyCausalNetwork,
    variables: Variables,
    codes: Codes,
    conditioning: Conditioning,
    key: PRNGKey,
    n: int,
    conditions: Batch,
) -> Int[Array, "n ..."]:
    """Draws the codes of `n` images one after another, with a cache: [N *codes.shape].

    The cache has room for all places from the start, so that every step is the same program. With guidance each row
    has a second one without its labels, in the same passes.
    """
    scale = conditions.get("guidance")
    told = conditioning if scale is None else both_conditionings(conditioning)

    def predict(cache: Mapping[str, Any], code: Int[Array, " n"], at: Int[Array, ""]) -> tuple[Logits, Any]:
        before = (code if scale is None else with_unconditional(code))[:, None]
        logits, cache = network.apply({**variables, **cache}, before, codes, told, at, mutable=["cache"])
        return logits[:, 0] if scale is None else guided(logits[:, 0], scale), cache

    def step(carry: tuple[Any, Array], at: Int[Array, ""]) -> tuple[tuple[Any, Array], Array]:
        logits, cache = predict(*carry, at)
        code = draw(jax.random.fold_in(key, at), logits, conditions)
        return (cache, code), code

    first = jnp.zeros(n, jnp.int32)
    shapes = jax.eval_shape(predict, {}, first, jnp.int32(0))[1]
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    _, drawn = jax.lax.scan(step, (empty, first), jnp.arange(codes.length))
    return drawn.T.reshape(n, *codes.shape)


def _column(values: Num[Array, "*b"]) -> Num[Array, "#b 1"]:
    return jnp.asarray(values).reshape(-1, 1)

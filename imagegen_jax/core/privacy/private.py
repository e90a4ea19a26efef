"""DP-SGD (Abadi et al. 2016, arXiv 1607.00133, Algorithm 1): each row's gradient is clipped, and their sum is noised.

    g = (sum_i g_i min(1, C / |g_i|) + N(0, sigma^2 C^2 I)) / L

L is the batch size, the number of rows that is drawn on average (`core.privacy.poisson`). A row is a batch of one to
the model's loss, so that no gradient of a row can look at another one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.microbatches import scan_parts
from imagegen_jax.core.config.bounds import NonNegative, Positive, Range
from imagegen_jax.core.model import Aux, Batch, Inputs, Nets, PRNGKey, PRNGKeys, Scalar

KEPT = "kept"  # the leaf of a private batch that says which rows were drawn; the others only fill it up
_NOISE, _ROWS = 2**32 - 3, 2**32 - 4  # folded into the key of a phase, and into those of rows

Differentiate = Callable[[Any, Any, Inputs], tuple[Nets, Aux]]  # of what is trained, statistics and inputs


@dataclasses.dataclass(frozen=True)
class DifferentialPrivacy:
    """Trains so that no single image of the data changes the weights by more than epsilon and delta allow.

    Epsilon follows from the noise, the batch size, the number of images and the steps: `core.privacy.accountant`.
    """

    clip: Positive = 1.0  # C, the largest norm of the gradient of one row
    noise: NonNegative = 1.0  # sigma, the deviation of the noise over C
    delta: Annotated[float, Range(0, 1, above=True, below=True)] = 1e-5  # should be below one over the images


def private_gradients(
    privacy: DifferentialPrivacy,
    rows: int,
    differentiate: Differentiate,
    trained: Nets,
    stats: Any,
    inputs: Inputs,
    microbatches: int,
) -> tuple[Nets, dict[str, Scalar]]:
    """Returns the gradients of what is `trained`, private, and metrics, which are means over the rows and not private.

    `rows` is L, the number of rows that is drawn on average. Rows that were not drawn count nothing. Raises TypeError,
    while it is traced, where the loss returns statistics of its batch.
    """
    batch = {name: leaf for name, leaf in inputs.batch.items() if name != KEPT}
    kept = inputs.batch[KEPT].astype(jnp.float32)

    def part(batch: Batch, keys: PRNGKeys, kept: Float[Array, " b"]) -> tuple[Nets, dict[str, Scalar]]:
        each = jax.vmap(lambda row, key: _of_row(differentiate, trained, stats, inputs, row, key))
        grads, metrics = each(batch, keys)
        norms = jax.vmap(optax.tree.norm)(grads)
        weights = kept * jnp.minimum(1.0, privacy.clip / jnp.maximum(norms, 1e-12))
        summed = jax.tree.map(lambda g: jnp.tensordot(weights, g, 1), grads)
        metrics |= {"row_norm": norms, "clipped": jnp.float32(norms > privacy.clip)}
        return summed, {name: jnp.sum(jnp.where(kept > 0, value, 0.0)) for name, value in metrics.items()}

    total, metrics = _in_parts(part, (batch, inputs.keys, kept), microbatches)
    noised = _noised(total, jax.random.fold_in(inputs.key, _NOISE), privacy.noise * privacy.clip)
    drawn = jnp.sum(kept)
    means = {name: value / jnp.maximum(drawn, 1.0) for name, value in metrics.items()}
    return jax.tree.map(lambda g: g / rows, noised), means | {"rows": drawn}


def _of_row(
    differentiate: Differentiate, trained: Nets, stats: Any, inputs: Inputs, row: Any, key: PRNGKey
) -> tuple[Nets, dict[str, Scalar]]:
    """Returns the gradients and the metrics of one row, as a batch of it alone, with keys that no other row has."""
    alone, keys = jax.tree.map(lambda leaf: leaf[None], (row, key))
    own = jax.random.fold_in(key, _ROWS)
    grads, aux = differentiate(trained, stats, inputs._replace(batch=alone, key=own, keys=keys))
    if jax.tree.leaves(dict(aux.stats)):
        raise TypeError(
            f"the loss returns statistics of its batch, of {', '.join(aux.stats)}, which are not private: take a "
            "network without them, such as one with group norms in place of batch norms, or leave out --private"
        )
    return grads, dict(aux.metrics)


def _in_parts(part: Callable[..., Any], rows: Any, microbatches: int) -> Any:
    """Sums what `part` makes of parts of rows, one after the other; its sums are of one shape for any of them."""
    if microbatches == 1:
        return part(*rows)
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(part, *rows))

    def add(total: Any, rows: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, part(*rows)), None

    return scan_parts(add, start, rows, microbatches)[0]


def _noised(grads: Nets, key: PRNGKey, deviation: float) -> Nets:
    """Adds normal noise of a deviation to every value, of a key for each array."""
    leaves, structure = jax.tree.flatten(grads)
    noisy = [
        leaf + deviation * jax.random.normal(jax.random.fold_in(key, i), leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, noisy)

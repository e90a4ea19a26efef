"""Image quilting (Efros & Freeman 2001, SIGGRAPH): blocks of pictures side by side, joined where they differ least.

A canvas is filled block by block, row by row. Each block overlaps those on its left and above it; one is drawn among
the candidates that agree with these nearly best, and the seam goes where the disagreement is least.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

PRNGKey = Array
Choose = Callable[[Float[Array, " k"]], Float[Array, " k"]]  # errors of candidates -> logits of which is taken

FLOOR = 1e-4  # squared difference of values in [-1, 1] that counts as agreement, so that equal blocks have rivals


def places_of(size: int, block: int, overlap: int) -> int:
    """Counts the blocks of a row that cover `size` pixels. Raises ValueError where the overlap leaves no step."""
    if not 0 < overlap < block:
        raise ValueError(f"overlap={overlap}: must be above 0 and below the block's {block} pixels")
    return max(1, -(-(size - overlap) // (block - overlap)))


def nearly_best(tolerance: float) -> Choose:
    """Makes the paper's choice: any with at most (1 + tolerance)^2 of the least squared error."""
    return lambda error: jnp.where(error <= error.min() * (1 + tolerance) ** 2 + FLOOR, 0.0, -jnp.inf)


def with_block(
    canvas: Float[Array, "h w c"],
    candidates: Float[Array, "k b b c"],
    place: Int[Array, " 2"],
    overlap: int,
    choose: Choose,
    key: PRNGKey,
) -> Float[Array, "h w c"]:
    """Adds a block at row and column `place` of blocks to a canvas that is filled up to there.

    Which candidate is taken is drawn as `choose` says of their errors, mean squared differences in the overlap. The
    program is the same for all places.
    """
    block = candidates.shape[1]
    start = (*(place * (block - overlap)), 0)
    here = lax.dynamic_slice(canvas, start, candidates.shape[1:])
    above, left = place[0] > 0, place[1] > 0
    edge = jnp.arange(block) < overlap
    known = (above & edge[:, None]) | (left & edge[None, :])
    chosen = candidates[jax.random.categorical(key, choose(errors(candidates, here, known)))]
    difference = jnp.sum((chosen - here) ** 2, axis=-1)
    right_of = _right_of_seam(difference[:, :overlap], block) | ~left
    below = _right_of_seam(difference[:overlap].T, block).T | ~above
    joined = jnp.where((right_of & below)[..., None], chosen, here)
    return lax.dynamic_update_slice(canvas, joined, start)


def errors(
    candidates: Float[Array, "k b b c"], here: Float[Array, "b b c"], known: Bool[Array, "b b"]
) -> Float[Array, " k"]:
    """Computes mean squared differences where the canvas is known, as products of matrices; 0 where nothing is."""
    rows, mask = candidates.reshape(len(candidates), -1), jnp.repeat(known.reshape(-1), here.shape[-1])
    wanted = here.reshape(-1) * mask
    total = rows**2 @ mask - 2 * rows @ wanted + wanted @ wanted
    return jnp.maximum(total, 0) / jnp.maximum(mask.sum(), 1)


def _right_of_seam(difference: Float[Array, "b o"], block: int) -> Bool[Array, "b {block}"]:
    """Finds the path from the first row to the last with the least difference; true on it and on its right."""
    wide = jnp.full((1,), jnp.inf)

    def neighbours(costs: Float[Array, " o"]) -> Float[Array, "3 o"]:
        return jnp.stack([jnp.concatenate([wide, costs[:-1]]), costs, jnp.concatenate([costs[1:], wide])])

    def down(costs: Float[Array, " o"], row: Float[Array, " o"]) -> tuple[Array, Array]:
        before = neighbours(costs)
        return row + before.min(0), before.argmin(0) - 1  # where the path came from, one to the left to one right

    costs, came = lax.scan(down, difference[0], difference[1:])
    last = costs.argmin()

    def up(at: Int[Array, ""], steps: Int[Array, " o"]) -> tuple[Array, Array]:
        before = at + steps[at]
        return before, before

    _, path = lax.scan(up, last, came, reverse=True)
    path = jnp.concatenate([path, last[None]])
    return jnp.arange(block)[None, :] >= path[:, None]

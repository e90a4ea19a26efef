"""Images from between prompts: the vectors of one text become those of the next, while the noise stays the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from imagegen_jax.core.capabilities import Denoising
from imagegen_jax.core.model import Image, Nets, PRNGKey
from imagegen_jax.core.run import Run
from imagegen_jax.editing.restoration import Given
from imagegen_jax.editing.rows import TextOf, as_bytes, made
from imagegen_jax.editing.worded import drawn_by, worded_model
from imagegen_jax.metrics.scores.path_length import lerp, slerp
from imagegen_jax.nn.backbones.conditioning import TEXT, Conditioning, conditioning_of
from imagegen_jax.nn.multihead import Change


class Way(NamedTuple):
    """A way through some prompts, frame by frame."""

    start: Int[np.ndarray, " f"]  # the prompt that a frame comes from
    end: Int[np.ndarray, " f"]  # the one that it goes to
    share: Float[np.ndarray, " f"]  # of the second: 0 to 1


def way(prompts: int, frames: int, closed: bool) -> Way:
    """Goes through so many prompts, with `frames` from each to the next; frame i * `frames` is prompt i.

    A closed way leads back to the first prompt, and leaves and reaches each with speed 0. One that is not ends with the
    last prompt. Raises ValueError for fewer than two prompts or one frame.
    """
    if prompts < 2 or frames < 1:
        raise ValueError(f"a way through {prompts} prompts, {frames} frames each: at least 2 prompts and 1 frame")
    ways = np.arange(prompts if closed else prompts - 1)
    share = np.arange(frames) / frames
    share = (1 - np.cos(np.pi * share)) / 2 if closed else share
    start, end, share = ways.repeat(frames), (ways + 1).repeat(frames) % prompts, np.tile(share, len(ways))
    if closed:
        return Way(start, end, share)
    return Way(np.append(start, ways[-1]), np.append(end, prompts - 1), np.append(share, 1.0))


def interpolated(
    run: Run,
    prompts: Sequence[str],
    frames: int = 30,
    *,
    n: int = 1,
    closed: bool = True,
    arc: bool = False,
    negative: str | None = None,
    seed: int = 0,
    chunk: int = 64,
    check: Callable[[TextOf], None] | None = None,
    **conditions: Any,
) -> UInt8[np.ndarray, "f n h w c"]:
    """Draws `n` images in each frame of a `way` through prompts; an image has the same noise in all frames.

    Vectors of texts go along lines, or with `arc` along arcs, which keep their lengths. `conditions` are as
    `Run.sample` takes them: those that are not scalars have a row for each of the `n`. `check` may look at models'
    programs, as in `made`. Raises ValueError where the model does not draw by text, for an empty prompt, and as `way`
    does.
    """
    worded_model(run.experiment.model)
    path = way(len(prompts), frames, closed)
    frames = len(path.share)
    written = run.prompted(len(prompts), prompts, () if negative is None else (negative,))
    rows = {name: np.asarray(values) for name, values in conditions.items()}
    rows = {name: np.tile(x, (frames, *(1,) * (x.ndim - 1))) if x.ndim else x for name, x in rows.items()}
    start, end, share = (x.repeat(n) for x in path)
    given = {
        "conditions": {**rows, **{name: values[start] for name, values in written.items()}},
        "to": {name: written[name][end] for name in TEXT},
        "share": np.float32(share),
        "keys": np.tile(jax.random.key_data(jax.random.split(jax.random.key(seed), n)), (frames, 1)),
    }
    images = as_bytes(made(run, between, given, chunk=chunk, seed=seed, check=check, arc=arc))
    return images.reshape(frames, n, *images.shape[1:])


def between(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, arc: bool) -> Image:
    """Draws images by what is between the texts of "conditions" and those "to" which it goes, at the "share" [B].

    "keys" [B K] are the data of the key of each row, by which alone its noise is drawn; `key` is not used.
    """
    worded = worded_model(model)

    def one(conditions: Given, to: Given, share: Float[Array, ""], data: Any) -> Image:
        conditions = {name: x[None] if by_row[name] == 0 else x for name, x in conditions.items()}
        other = {**conditions, **{name: x[None] for name, x in to.items()}}
        start, end = (conditioning_of(worded, one, nets) for one in (conditions, other))
        seen, change = mixed(start, end, share[None], arc)
        return drawn_by(worded, nets, conditions, seen, jax.random.wrap_key_data(data), change and (lambda _: change))

    by_row = {name: 0 if jnp.ndim(x) else None for name, x in given["conditions"].items()}
    images: Image = jax.vmap(one, in_axes=(by_row, 0, 0, 0))(
        *(given[name] for name in ("conditions", "to", "share", "keys"))
    )
    return images[:, 0]


def mixed(
    first: Conditioning, second: Conditioning, share: Float[Array, " b"], arc: bool = False
) -> tuple[Conditioning, Change | None]:
    """Mixes what is seen of two texts, place by place, and says how attention has to weigh the places.

    A place that only one text has keeps its vector, and counts in the softmax by that text's share, so that nothing
    jumps: at 0 all is the first's, and at 1 the second's. None: all places count alike.
    """
    tokens, other = first.tokens, second.tokens
    assert tokens is not None and other is not None
    here, there = (x.reshape(-1, x.shape[-1]) for x in (tokens, other))
    found = (slerp if arc else lerp)(here, there, share.repeat(tokens.shape[1])).reshape(tokens.shape)
    found = found.astype(tokens.dtype)
    pooled = None if first.pooled is None or second.pooled is None else lerp(first.pooled, second.pooled, share)
    if first.token_mask is None or second.token_mask is None:
        return first._replace(tokens=found, pooled=pooled), None
    in_first, in_second = first.token_mask[..., None], second.token_mask[..., None]
    found = jnp.where(in_first & in_second, found, jnp.where(in_second, other, tokens))
    weight = lerp(jnp.float32(first.token_mask), jnp.float32(second.token_mask), share)

    def change(weights: Float[Array, "b n q k"], to_tokens: bool) -> Float[Array, "b n q k"]:
        if not to_tokens:
            return weights
        counted = weights * weight[:, None, None]
        return counted / jnp.maximum(jnp.sum(counted, axis=-1, keepdims=True), jnp.finfo(counted.dtype).tiny)

    return first._replace(tokens=found, token_mask=weight > 0, pooled=pooled), change

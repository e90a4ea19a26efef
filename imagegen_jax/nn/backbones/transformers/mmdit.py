"""MMDiT (Esser et al. 2024, arXiv 2403.03206): image and text as two streams with weights of their own, one attention.

Stable Diffusion 3 medium           MMDiT(): 2,028,328,000 parameters, with tokens of 4096 features, pooled 2048
Stable Diffusion 3.5 medium         MMDiT(query_key_norm=True, dual=13, largest=384)
Stable Diffusion 3.5 large          MMDiT(depth=38, width=2432, heads=38, query_key_norm=True)
"""

from __future__ import annotations

import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from imagegen_jax.core.config.bounds import Count, Natural
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.backbones.dit import embedded, frequencies, modulated
from imagegen_jax.nn.backbones.transformers.transformer import Perceptron, Style
from imagegen_jax.nn.embed import positions
from imagegen_jax.nn.multihead import Implementation, attend, check_heads, in_heads
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import check_patches, image, patches, with_source

STYLE = Style(activation="gelu_tanh")  # of the perceptrons

Heads = tuple[Float[Array, "b l n d"], Float[Array, "b l n d"], Float[Array, "b l n d"]]

xavier = nn.initializers.xavier_uniform()
zeros = nn.initializers.zeros_init()


class Projections(nn.Module):
    """Queries, keys and values of a stream, in heads; normed, where that is asked for, over the channels of each."""

    heads: int
    normed: bool
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Heads:
        """Makes queries, keys and values: [B L D] -> thrice [B L N D/N]"""
        dtype = compute_dtype(self.dtype)
        dense = functools.partial(nn.Dense, x.shape[-1], dtype=dtype, kernel_init=xavier)
        q, k, v = (in_heads(dense(name=name)(x), self.heads) for name in ("query", "key", "value"))
        if self.normed:
            q, k = (nn.RMSNorm(1e-6, dtype, name=f"{name}_norm")(y) for name, y in (("query", q), ("key", k)))
        return q, k, v


class JointBlock(nn.Module):
    """Attention of both streams to both, then a perceptron for each: all normed, scaled, shifted and gated (figure 2).

    A `dual` block has a second attention, of the image to itself. Of the last one nobody sees the text any more.
    """

    heads: int
    query_key_norm: bool = False
    dual: bool = False
    last: bool = False
    attention: Implementation = "auto"
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        y: Float[Array, "b m d"],
        c: Float[Array, "b d"],
        seen: Bool[Array, "b 1 1 k"] | None,
    ) -> tuple[Float[Array, "b l d"], Float[Array, "b m d"]]:
        """Changes the patches `x` of an image and the tokens `y` of a text, in which only what is `seen` counts."""
        project = functools.partial(Projections, self.heads, self.query_key_norm, self.dtype)
        image, text = (
            self._modulation(c, "image", 9 if self.dual else 6),
            self._modulation(c, "text", 2 if self.last else 6),
        )
        of_text = project(name="text")(modulated(y, text[0], text[1], self.dtype))
        of_image = project(name="image")(modulated(x, image[0], image[1], self.dtype))
        q, k, v = (jnp.concatenate(both, axis=1) for both in zip(of_text, of_image, strict=True))
        mixed = attend(q, k, v, self.attention, seen).reshape(len(x), -1, x.shape[-1])
        change = image[2] * self._dense(mixed[:, y.shape[1] :], "image_out")
        if self.dual:
            q, k, v = project(name="image_2")(modulated(x, image[6], image[7], self.dtype))
            among = attend(q, k, v, self.attention)
            change = change + image[8] * self._dense(among.reshape(x.shape), "image_2_out")
        x = self._perceptron(x + change, image[3:6], "image_mlp")
        if self.last:
            return x, y
        y = y + text[2] * self._dense(mixed[:, : y.shape[1]], "text_out")
        return x, self._perceptron(y, text[3:6], "text_mlp")

    def _modulation(self, c: Float[Array, "b d"], stream: str, parts: int) -> list[Float[Array, "b 1 d"]]:
        """Makes shifts, scales and gates, in this order, of a stream."""
        dense = nn.Dense(
            parts * c.shape[-1], dtype=compute_dtype(self.dtype), kernel_init=zeros, name=f"{stream}_modulation"
        )
        return jnp.split(dense(nn.silu(c))[:, None], parts, axis=-1)

    def _dense(self, x: Float[Array, "b l d"], name: str) -> Float[Array, "b l d"]:
        return nn.Dense(x.shape[-1], dtype=compute_dtype(self.dtype), kernel_init=xavier, name=name)(x)

    def _perceptron(self, x: Float[Array, "b l d"], parts: list[Float[Array, "b 1 d"]], name: str) -> Array:
        shift, scale, gate = parts
        made = Perceptron(4 * x.shape[-1], STYLE, self.dtype, name=name)
        return x + gate * made(modulated(x, shift, scale, self.dtype))


class MMDiT(nn.Module):
    """Blocks of joint attention over the patches of an image and a text. The defaults are Stable Diffusion 3 medium's.

    Time and pooled text set the modulation. Places are those of the middle of a grid of `largest` x `largest` patches,
    which spans `extent` places. `dual` blocks, the first ones, have a second attention of the image to itself.
    """

    patch: Count = 2
    depth: Count = 24
    width: Count = 1536
    heads: Count = 24
    query_key_norm: bool = False
    dual: Natural = 0
    largest: Count = 192
    extent: Count = 64
    attention: Implementation = "auto"  # see `multihead.attend`
    dtype: Dtype = "auto"

    needed: ClassVar[tuple[str, ...]] = ("tokens", "pooled")

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b h w c"]:
        """Predicts for `x` at times `t` of 0 to 1000: [B H W C], [B] -> [B H W C] in float32.

        Raises ValueError where patches or heads do not fit, or conditions are missing.
        """
        check_seen(self, conditioning, "token_mask", "source", needed=self.needed)
        check_heads(self.width, self.heads)
        check_patches(x.shape[1], x.shape[2], self.patch)
        rows, columns = x.shape[1] // self.patch, x.shape[2] // self.patch
        dtype = compute_dtype(self.dtype)
        dense = functools.partial(nn.Dense, dtype=dtype, kernel_init=xavier)
        c = embedded(frequencies(t), self.width, dtype, "time")
        assert conditioning.pooled is not None  # `check_seen` has seen to it
        c = c + embedded(conditioning.pooled, self.width, dtype, "pooled")
        y = dense(self.width, name="text")(conditioning.tokens)
        h = dense(self.width, name="patch")(patches(with_source(x, conditioning.source), self.patch))
        h = h + self._positions(rows, columns).astype(h.dtype)
        seen = conditioning.token_mask
        if seen is not None:
            seen = jnp.concatenate([seen, jnp.ones(h.shape[:2], bool)], axis=1)[:, None, None]
        for i in range(self.depth):
            kind = (self.query_key_norm, i < self.dual, i == self.depth - 1, self.attention, self.dtype)
            h, y = JointBlock(self.heads, *kind, name=f"block_{i}")(h, y, c, seen)
        modulation = dense(2 * self.width, kernel_init=zeros, name="modulation")(nn.silu(c))
        shift, scale = jnp.split(modulation[:, None], 2, axis=-1)
        h = modulated(h, shift, scale, self.dtype)
        h = dense(self.patch**2 * x.shape[-1], kernel_init=zeros, name="out")(h)
        return image(h, rows, columns, self.patch).astype(jnp.float32)

    def _positions(self, rows: int, columns: int) -> Float[Array, "l d"]:
        """Embeds the places of the grid's middle. Raises ValueError where it has not as many."""
        if max(rows, columns) > self.largest:
            raise ValueError(
                f"an image of {rows}x{columns} patches, but largest={self.largest}: draw a smaller one, or train "
                "with a larger grid"
            )
        step = self.extent / self.largest
        first = ((self.largest - rows) // 2 * step, (self.largest - columns) // 2 * step)
        return positions(rows, columns, self.width, first, (step, step))

    @nn.nowrap
    def table(self) -> Float[Array, "l d"]:
        """Embeds the places of the whole grid, row by row."""
        return self._positions(self.largest, self.largest)

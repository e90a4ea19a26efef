"""DiT (Peebles & Xie 2023, arXiv 2212.09748): a transformer over the patches of a noisy image, made for latents."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from imagegen_jax.core.config.bounds import BelowOne, Count, Positive
from imagegen_jax.core.model import LabelRows, PRNGKeys
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.dropout import Dropout
from imagegen_jax.nn.embed import positions, sinusoidal
from imagegen_jax.nn.multihead import Implementation, MultiHeadAttention, check_heads
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import check_patches, image, patches, with_source

# Blocks, width and heads of Table 1; M, between B and L, is MeanFlow's.
SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "M": (16, 1024, 16), "L": (24, 1024, 16), "XL": (28, 1152, 16)}

normal_init = nn.initializers.normal(0.02)
zeros = nn.initializers.zeros
FREQUENCIES = 256  # sines and cosines that embed a time, in every size


class DiTBlock(nn.Module):
    """Self-attention, then a perceptron, each normed, scaled, shifted and gated by the condition (section 3.2).

    adaLN-Zero: all gates start at 0, so that the block starts as the identity. Cross-attention comes between the two,
    as in PixArt (Chen et al. 2023, arXiv 2310.00426, section 2.3), and starts at 0 as well.
    """

    heads: int
    expansion: int = 4
    dropout: float = 0.0
    attention: Implementation = "auto"
    dtype: Dtype = "auto"
    mlp_epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        c: Float[Array, "b d"],
        keys: PRNGKeys | None = None,
        tokens: Float[Array, "b m e"] | None = None,
        token_mask: Bool[Array, "b m"] | None = None,
    ) -> Float[Array, "b l d"]:
        d = x.shape[-1]
        dense = functools.partial(
            nn.Dense, dtype=compute_dtype(self.dtype), kernel_init=nn.initializers.xavier_uniform()
        )
        attend = functools.partial(MultiHeadAttention, self.heads, self.attention, dtype=self.dtype)
        modulation = dense(6 * d, kernel_init=zeros, name="modulation")(nn.silu(c))
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(modulation[:, None], 6, axis=-1)
        h = modulated(x, shift_1, scale_1, self.dtype)
        x = x + gate_1 * attend(name="self_attention")(h)
        if tokens is not None:
            x = x + attend(out_init=zeros, name="cross_attention")(x, tokens, token_mask)
        h = modulated(x, shift_2, scale_2, self.dtype, self.mlp_epsilon)
        h = nn.gelu(dense(self.expansion * d, name="mlp_0")(h), approximate=True)
        h = Dropout(self.dropout, name="dropout")(h, keys)
        return x + gate_2 * dense(d, name="mlp_1")(h)


class DiT(nn.Module):
    """Blocks of attention over patches; time and class set the scale, shift and gate of their layers.

    The defaults are DiT-XL/2's; `dit` makes the other sizes by name. A prediction of noise and variance has twice as
    many `out_channels` as the image (the official networks: 8, for 4). With `skips` the last blocks also see the output
    of their mirror images, as in U-ViT (Bao et al. 2022, arXiv 2209.12152, section 3.1). `remat` keeps only the input
    of each block, and computes the block again in the backward pass. See `multihead.attend` for `attention`.
    """

    patch: Count = 2  # height and width of a patch, in pixels
    depth: Count = 28
    width: Count = 1152
    heads: Count = 16
    expansion: Count = 4  # of the perceptrons' hidden layer
    out_channels: Count | None = None  # None: the image's
    cross_attention: bool = False  # in each block, to the tokens
    skips: bool = False
    dropout: BelowOne = 0.0
    remat: bool = False
    attention: Implementation = "auto"
    dtype: Dtype = "auto"
    endpoint: bool = False  # whether times are embedded down to the lowest frequency, as diffusers does
    mlp_epsilon: Positive = 1e-6  # of the norm before each perceptron; diffusers' default is 1e-5

    channels_field: ClassVar[str] = "out_channels"
    label_rows: ClassVar[LabelRows] = "dropped"

    @nn.nowrap
    def output_channels(self, channels: int) -> int:
        """Returns `out_channels`, or the image's."""
        return self.out_channels or channels

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b h w d"]:
        """Predicts for `x` at times `t`, counted 0 to 999 as in DiT's code: [B H W C], [B] -> [B H W D] in float32.

        A dropped label has an embedding of its own, which makes K + 1 for K classes, and none without labels. A `span`
        is t - r on the scale of `t`, r being the second time of a mean velocity: with it this is MeanFlow's network
        (Geng et al. 2025, arXiv 2505.13447, section 4.3), where t is in [0, 1]. Raises ValueError where patches, heads
        or tokens do not fit.
        """
        check_seen(self, conditioning, "labels", "source", "span", cross_attention=self.cross_attention)
        labels, tokens, token_mask, source, span, *_, keys = conditioning
        check_heads(self.width, self.heads)
        check_patches(x.shape[1], x.shape[2], self.patch)
        rows, columns = x.shape[1] // self.patch, x.shape[2] // self.patch
        dense = functools.partial(nn.Dense, dtype=compute_dtype(self.dtype))
        c = self._embed(t, labels, span)
        h = patches(with_source(x, source), self.patch)
        h = dense(self.width, kernel_init=nn.initializers.xavier_uniform(), name="patch")(h)
        h = h + positions(rows, columns, self.width).astype(h.dtype)
        h = self._blocks(h, c, keys, tokens, token_mask)
        modulation = dense(2 * self.width, kernel_init=zeros, name="modulation")(nn.silu(c))
        shift, scale = jnp.split(modulation[:, None], 2, axis=-1)
        h = modulated(h, shift, scale, self.dtype)
        h = dense(self.patch**2 * (self.out_channels or x.shape[-1]), kernel_init=zeros, name="out")(h)
        return image(h, rows, columns, self.patch).astype(jnp.float32)

    def _embed(
        self, t: Num[Array, " b"], labels: Float[Array, "b k"] | None, span: Num[Array, " b"] | None
    ) -> Float[Array, "b d"]:
        dtype = compute_dtype(self.dtype)
        c = embedded(sinusoidal(t, FREQUENCIES, endpoint=self.endpoint), self.width, dtype, "time")
        if span is not None:
            c = c + embedded(frequencies(span), self.width, dtype, "span")
        if labels is None:
            return c
        labels = jnp.concatenate([labels, 1 - labels.sum(axis=1, keepdims=True)], axis=1)
        return c + nn.Dense(self.width, False, dtype=dtype, kernel_init=normal_init, name="label")(labels)

    def _blocks(self, h: Float[Array, "b l d"], *inputs: Any) -> Float[Array, "b l d"]:
        cls = nn.remat(DiTBlock) if self.remat else DiTBlock
        init = nn.initializers.xavier_uniform()
        states: list[Array] = []
        shared = (self.heads, self.expansion, self.dropout, self.attention, self.dtype, self.mlp_epsilon)
        for i in range(self.depth):
            mirrored = self.depth - 1 - i
            if self.skips and mirrored < i - 1:  # a block sees the one before it anyway
                h = jnp.concatenate([h, states[mirrored]], axis=-1)
                h = nn.Dense(self.width, dtype=h.dtype, kernel_init=init, name=f"skip_{i}")(h)
            block = cls(*shared, name=f"block_{i}")
            h = block(h, *inputs)
            states.append(h)
        return h


def dit(size: str, **fields: Any) -> DiT:
    """Makes the network of a name such as "XL/2": one of `SIZES`, then the size of a patch.

    The paper has patches of 2, 4 and 8; `fields` are further ones of `DiT`. Raises ValueError for an unknown name.
    """
    name, _, patch = size.partition("/")
    if name not in SIZES or not patch.isdecimal() or patch == "0":
        raise ValueError(f"there is no DiT of size {size!r}: use one of {', '.join(SIZES)}, then a patch, as in 'XL/2'")
    depth, width, heads = SIZES[name]
    return DiT(patch=int(patch), depth=depth, width=width, heads=heads, **fields)


def frequencies(values: Num[Array, " b"]) -> Float[Array, "b f"]:
    """Embeds times or sizes as sines and cosines.

    Sines come first, where the references have cosines: only a layer's inputs are in another order.
    """
    return sinusoidal(values, FREQUENCIES, endpoint=False)


def embedded(x: Float[Array, "b f"], width: int, dtype: jnp.dtype, name: str) -> Float[Array, "b d"]:
    """Applies two dense layers, with a swish between: [B F] -> [B D]"""
    dense = functools.partial(nn.Dense, width, dtype=dtype, kernel_init=normal_init)
    return dense(name=f"{name}_1")(nn.silu(dense(name=f"{name}_0")(x)))


def modulated(
    x: Float[Array, "b l d"],
    shift: Float[Array, "b 1 d"],
    scale: Float[Array, "b 1 d"],
    dtype: Dtype,
    epsilon: float = 1e-6,
) -> Float[Array, "b l d"]:
    """Returns LayerNorm(x) (1 + scale) + shift, where the norm has no weights of its own."""
    norm = nn.LayerNorm(epsilon, compute_dtype(dtype), use_bias=False, use_scale=False)
    return norm(x) * (1 + scale) + shift

"""The encoder of T5 (Raffel et al. 2020, arXiv 1910.10683) in version 1.1, whose perceptrons have a gate.

XXL, of PixArt and Stable Diffusion 3      T5Encoder(): 4,762,310,656 parameters
XL, large, base, small                     width 2048, 1024, 768, 512; depth 24, 24, 12, 8; heads 32, 16, 12, 6;
                                           hidden 5120, 2816, 2048, 1024
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.backbones.transformers.transformer import Style, norm, normal_init
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.text_encoders.block import TextBlock
from imagegen_jax.nn.text_encoders.encoding import TextEncoding

STYLE = Style("rms", "geglu_tanh", bias=False, causal=False, epsilon=1e-6)


class T5Encoder(nn.Module):
    """Words, and blocks of attention that learn of places by how far apart they are. The defaults are v1.1 XXL's."""

    vocabulary_size: Count = 32_128
    context: Count = 120  # PixArt's; Stable Diffusion 3 has 256. There are no weights for places
    width: Count = 4096
    depth: Count = 24
    heads: Count = 64
    head_channels: Count = 64
    hidden: Count = 10_240  # of the perceptrons
    buckets: Count = 32  # of distances, half of them to later places
    max_distance: Count = 128  # from here on they are in one bucket
    masked: bool = True  # False: padding is seen like any token, as in Stable Diffusion 3
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, text: Int[Array, "b m"], mask: Bool[Array, "b m"], keys: PRNGKeys | None = None) -> TextEncoding:
        """Encodes texts, of which `mask` is False where a token only fills a row up: [B M], [B M] -> [B M D], [B M]

        Nothing is dropped out by `keys`.
        """
        seen = mask if self.masked else None
        h = nn.Embed(
            self.vocabulary_size, self.width, dtype=compute_dtype(self.dtype), embedding_init=normal_init, name="word"
        )(text)
        table = self.param("distance", normal_init, (self.buckets, self.heads))
        bias = jnp.moveaxis(table[buckets(text.shape[1], self.buckets, self.max_distance)], -1, 0)[None]
        for i in range(self.depth):
            block = TextBlock(
                self.heads, self.hidden, STYLE, self.head_channels, scaled=False, dtype=self.dtype, name=f"block_{i}"
            )
            h = block(h, seen, bias)
        return TextEncoding(norm(STYLE, self.dtype, "norm")(h), seen)


def buckets(length: int, count: int, max_distance: int) -> Int[np.ndarray, "q k"]:
    """Returns the bucket of the distance from each place to each other (section 2.1).

    The first half is for places before, the second for those after. Of each half, half of the buckets are for one
    distance each, and the others are wider and wider.
    """
    place = np.arange(length)
    distance = place - place[:, None]
    half, exact = count // 2, count // 4
    far = np.abs(distance)
    share = np.log(np.maximum(far, exact) / np.float32(exact), dtype=np.float32) / np.float32(
        math.log(max_distance / exact)
    )
    wide = np.minimum(exact + (share * (half - exact)).astype(int), half - 1)
    return np.where(far < exact, far, wide) + half * (distance > 0)

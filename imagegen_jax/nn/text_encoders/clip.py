"""CLIP's text encoder (Radford et al. 2021, arXiv 2103.00020), and others of its kind.

    OpenAI's ViT-L/14, of Stable Diffusion 1      CLIPText(): 123,060,480 parameters
    OpenCLIP's H, of Stable Diffusion 2           CLIPText(width=1024, depth=23, heads=16, activation="gelu")
    OpenCLIP's bigG, of SDXL                      CLIPText(width=1280, depth=32, heads=20, activation="gelu",
                                                      layer="penultimate", last_norm=False, projection=1280)
    latent diffusion's, which it calls BERT       CLIPText(30_522, width=1280, depth=32, heads=8, head_channels=64,
                                                      activation="gelu", causal=False, projection_bias=False)

Stable Diffusion 2 takes what the last but one of 24 blocks puts out: the last one is not in its files.
"""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.backbones.transformers.transformer import Style, norm, normal_init
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.text_encoders.block import Embedding, TextBlock
from imagegen_jax.nn.text_encoders.encoding import TextEncoding


class CLIPText(nn.Module):
    """Learned words and places, and blocks in which a token sees itself and those before it. Defaults: ViT-L/14's.

    What cross-attention sees is the output of the last block or of the one before it, with or without the last norm;
    the pooled vector is that of the text's end after the last block and norm, and after a `projection` if there is one.
    """

    vocabulary_size: Count = 49_408
    context: Count = 77
    width: Count = 768
    depth: Count = 12
    heads: Count = 12
    head_channels: Count | None = None  # None: width / heads
    expansion: Count = 4  # of the perceptrons' hidden layer
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    causal: bool = True
    projection_bias: bool = True  # of queries, keys and values
    layer: Literal["last", "penultimate"] = "last"
    last_norm: bool = True  # of what cross-attention sees
    projection: Count | None = None  # features of the pooled vector; None: the width, as it is
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, text: Int[Array, "b m"], mask: Bool[Array, "b m"], keys: PRNGKeys | None = None) -> TextEncoding:
        """Encodes texts, whose last token where `mask` is True is the end: [B M], [B M] -> [B M D], None, [B P]

        Padding is seen like any token, as in training and in Stable Diffusion. Nothing is dropped out by `keys`.
        """
        style = Style(activation=self.activation, causal=self.causal)
        states = [Embedding(self.vocabulary_size, self.context, self.width, self.dtype, name="embedding")(text)]
        for i in range(self.depth):
            block = TextBlock(
                self.heads, self.expansion * self.width, style, self.head_channels, self.projection_bias,
                dtype=self.dtype, name=f"block_{i}",
            )  # fmt: skip
            states.append(block(states[-1]))
        last = norm(style, self.dtype, "norm")
        tokens = states[-1 if self.layer == "last" else -2]
        tokens = last(tokens) if self.last_norm else tokens
        pooled = at_end(last(states[-1]), mask)
        if self.projection:
            dtype = compute_dtype(self.dtype)
            pooled = nn.Dense(self.projection, False, dtype=dtype, kernel_init=normal_init, name="projection")(pooled)
        return TextEncoding(tokens, None, pooled)


def at_end(h: Float[Array, "b m d"], mask: Bool[Array, "b m"]) -> Float[Array, "b d"]:
    """Returns the vector of each text's last token that is no padding."""
    last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    return jnp.take_along_axis(h, last[:, None, None], axis=1)[:, 0]

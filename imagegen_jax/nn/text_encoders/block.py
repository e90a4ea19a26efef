"""The block that published text encoders are made of, and the vectors that the first of them sees."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int

from imagegen_jax.nn.attention import SequenceAttention
from imagegen_jax.nn.backbones.transformers.transformer import Perceptron, Style, norm, normal_init
from imagegen_jax.nn.precision import Dtype, compute_dtype


class TextBlock(nn.Module):
    """Attention and a perceptron, each added to what it sees; the norm is of what they see, or of the sum."""

    heads: int
    hidden: int  # width of the perceptron's hidden layer
    style: Style
    head_channels: int | None = None
    projection_bias: bool = True  # of queries, keys and values, where the style has biases
    scaled: bool = True  # see `SequenceAttention`
    post_norm: bool = False
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b m d"],
        mask: Bool[Array, "b m"] | None = None,
        bias: Float[Array, "1 n m m"] | None = None,
    ) -> Float[Array, "b m d"]:
        """Changes the places of a text, each of which sees those where `mask` is True: [B M D] -> [B M D]"""
        attention = SequenceAttention(
            self.heads, self.head_channels, self.style.bias and self.projection_bias, self.style.bias,
            self.style.causal, self.scaled, "auto", normal_init, normal_init, self.dtype, name="attention",
        )  # fmt: skip
        mlp = Perceptron(self.hidden, self.style, self.dtype, name="mlp")
        norm_0, norm_1 = (norm(self.style, self.dtype, name) for name in ("norm_0", "norm_1"))
        if self.post_norm:
            x = norm_0(x + attention(x, None, mask, bias))
            return norm_1(x + mlp(x))
        x = x + attention(norm_0(x), None, mask, bias)
        return x + mlp(norm_1(x))


class Embedding(nn.Module):
    """A learned vector for each word and for each place of a text."""

    vocabulary_size: int
    context: int
    width: int
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, text: Int[Array, "b m"]) -> Float[Array, "b m d"]:
        """Adds both: [B M] -> [B M D]. Raises ValueError where a text is longer than the context."""
        length = text.shape[1]
        if length > self.context:
            raise ValueError(f"a text of {length} tokens, but context={self.context}: cut it, as tokenizers do")
        dtype = compute_dtype(self.dtype)
        word = nn.Embed(self.vocabulary_size, self.width, dtype=dtype, embedding_init=normal_init, name="word")
        place = self.param("place", normal_init, (self.context, self.width))
        return word(text) + place[:length].astype(dtype)

"""What a text encoder is, and what a denoising network sees of a text."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, Protocol

from jaxtyping import Array, Bool, Float, Int

from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import PRNGKeys
from imagegen_jax.nn.module import Module


class TextEncoding(NamedTuple):
    """Texts as vectors, a row each."""

    tokens: Float[Array, "b m e"]  # what cross-attention sees
    mask: Bool[Array, "b m"] | None = None  # False where it does not look; None: it looks at all
    pooled: Float[Array, "b f"] | None = None  # a vector of the whole text; None where the encoder has none


class TextEncoder(Module, Protocol):
    """A linen module that reads texts, as tokenizers write them (`text.tokenizer.Encoded`)."""

    @property
    def context(self) -> int:
        """The length of the rows that it reads, start, end and padding included."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens that it knows: they are integers from 0 to below it."""
        ...

    def __call__(self, text: Int[Array, "b m"], mask: Bool[Array, "b m"], keys: PRNGKeys | None = None) -> Any:
        """Encodes texts, of which `mask` is False where a token only fills a row up; `keys` are for dropout.

        [B M], [B M] -> TextEncoding
        """
        ...


AnyTextEncoder = Annotated[
    TextEncoder,
    Choices(
        "imagegen_jax.nn.text_encoders.small:TextTransformer",
        "imagegen_jax.nn.text_encoders.clip:CLIPText",
        "imagegen_jax.nn.text_encoders.t5:T5Encoder",
        "imagegen_jax.nn.text_encoders.bert:BERTText",
        "imagegen_jax.nn.text_encoders.joined:JoinedText",
    ),
]

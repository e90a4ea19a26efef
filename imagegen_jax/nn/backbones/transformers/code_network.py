"""What networks over the codes of a tokenizer have in common: which codes there are, and how they are called."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Protocol

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from imagegen_jax.core.config.choices import Choices
from imagegen_jax.nn.backbones.conditioning import Conditioning
from imagegen_jax.nn.module import Module


@jax.tree_util.register_static  # so that it may be given to a traced function
@dataclasses.dataclass(frozen=True)
class Codes:
    """The codes of an image: how many there are to choose from, and how they lie."""

    vocabulary: int  # a code is 0 to vocabulary - 1
    shape: tuple[int, ...]  # such as rows and columns

    @property
    def length(self) -> int:
        """The number of codes of an image."""
        return math.prod(self.shape)


class CausalNetwork(Module, Protocol):
    """A network that predicts each code from those before it."""

    def __call__(
        self, before: Int[Array, "b l"], codes: Codes, conditioning: Conditioning, at: Int[Array, ""] | None = None
    ) -> Any:
        """Returns the logits [B L+1 V] of codes 0 to L, given the codes 0 to L - 1 in `before`.

        With `at` it goes on with a sequence, of which the collection "cache" holds the rest: `before` [B 1] is the code
        before place `at`, not read at 0, and the logits [B 1 V] are of the code there.
        """
        ...


AnyCausalNetwork = Annotated[CausalNetwork, Choices("imagegen_jax.nn.backbones.transformers.gpt:GPT")]


class MaskedNetwork(Module, Protocol):
    """A network that predicts the codes that are masked from those that are not, wherever they lie."""

    def __call__(self, given: Int[Array, "b l"], codes: Codes, conditioning: Conditioning) -> Any:
        """Returns the logits [B L V] of every code, where `given` has `codes.vocabulary` in place of masked ones."""
        ...


AnyMaskedNetwork = Annotated[MaskedNetwork, Choices("imagegen_jax.nn.backbones.transformers.bert:BERT")]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ScaleCodes:
    """The codes of an image at several scales, the coarsest first."""

    vocabulary: int  # a code is 0 to vocabulary - 1
    sizes: tuple[int, ...]  # height and width of each scale's grid

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of codes of each scale."""
        return tuple(size**2 for size in self.sizes)

    @property
    def length(self) -> int:
        """The number of codes of an image."""
        return sum(self.counts)

    @property
    def starts(self) -> tuple[int, ...]:
        """The place of each scale's first code, and the number of codes."""
        return tuple(np.cumsum((0, *self.counts)).tolist())

    @property
    def scale_of(self) -> Int[np.ndarray, " l"]:
        """The scale of each code."""
        return np.repeat(np.arange(len(self.sizes)), self.counts)


class ScaleNetwork(Module, Protocol):
    """A network that predicts the codes of each scale from those of the coarser ones."""

    def __call__(
        self, inputs: Float[Array, "b m e"], codes: ScaleCodes, conditioning: Conditioning, scale: int | None = None
    ) -> Any:
        """Returns the logits [B L V] of all codes, given the inputs of all scales but the first, which has none.

        With a `scale` its logits alone, of its own inputs; the collection "cache" holds the scales before it.
        """
        ...


AnyScaleNetwork = Annotated[ScaleNetwork, Choices("imagegen_jax.nn.backbones.transformers.next_scale:NextScale")]

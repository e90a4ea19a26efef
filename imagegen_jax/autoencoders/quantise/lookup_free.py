"""Quantisers whose book is a rule: each value of a vector is rounded by itself, so that nothing can collapse."""

from __future__ import annotations

import math
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from imagegen_jax.autoencoders.quantise.quantiser import (
    Codes,
    Quantised,
    Vectors,
    product,
    straight_through,
)
from imagegen_jax.core.config.bounds import NonNegative, Positive
from imagegen_jax.core.config.given import LARGEST, Range
from imagegen_jax.core.model import PRNGKey, Scalar

EPSILON = 1e-3  # by which the bound stays within the outermost levels
LARGEST_BITS = 30  # of codes that are 32-bit integers


class FSQ(nn.Module):
    """Finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505, appendix A.1): no loss, and no book to learn.

    Values are bounded by tanh and rounded to one of `levels` numbers each; the default has 1,000 codes.
    """

    levels: tuple[Annotated[int, Range(2, 1024)], ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        if not self.levels or self.codebook_size > LARGEST:
            codes = self.codebook_size if self.levels else "no"
            raise ValueError(
                f"levels={self.levels}: {codes} codes, but there must be at least 2 and at most {LARGEST}: give a "
                "number of levels for each value of a vector, or fewer or smaller ones"
            )
        super().__post_init__()

    @property
    def codebook_size(self) -> int:
        """The number of codes: the product of the levels."""
        return math.prod(self.levels)

    @property
    def dim(self) -> int:
        """The number of values in a vector: one for each of the levels."""
        return len(self.levels)

    def __call__(self, vectors: Vectors, key: PRNGKey | None = None) -> Quantised:
        """Quantises vectors: [B ... D] -> vectors [B ... D] in [-1, 1], codes [B ...]; the key is not read."""
        bounded = self.bound(vectors.astype(jnp.float32))
        rounded = straight_through(bounded, jnp.round(bounded))
        digits = jnp.round(stop_gradient(rounded)).astype(jnp.int32) + self._half()
        codes = jnp.sum(digits * self._places(), axis=-1)
        return Quantised(rounded / self._half(), codes, jnp.zeros(()), {})

    def lookup(self, codes: Codes) -> Vectors:
        """Returns the vectors that codes stand for: [...] -> [... D]"""
        digits = codes[..., None] // self._places() % np.array(self.levels)
        return (digits - self._half()) / self._half()

    def bound(self, vectors: Vectors) -> Vectors:
        """Bounds values so that rounding gives as many numbers as there are levels; of even ones, one more below 0.

        The shift that brings 0 back to about 0 is a tangent in the authors' code, and so here.
        """
        levels = np.array(self.levels)
        half = (levels - 1) * (1 - EPSILON) / 2
        offset = np.where(levels % 2 == 1, 0.0, 0.5)
        return jnp.tanh(vectors + np.tan(offset / half)) * half - offset

    def _half(self) -> np.ndarray:
        return np.array(self.levels) // 2

    def _places(self) -> np.ndarray:
        return np.cumprod((1, *self.levels[:-1]))


class LFQ(nn.Module):
    """Lookup-free quantisation: codes are the signs of values (Yu et al. 2023, arXiv 2310.05737, section 3.1).

    The loss is `entropy` times (the entropy of each choice less `diversity` times that of all of them), Eq. 4, and
    `commitment` times |z - sg(q)|^2. Entropies take an array of 2^bits numbers, whatever the batch.
    """

    bits: Annotated[int, Range(1, LARGEST_BITS)] = 18
    entropy: NonNegative = 0.1
    diversity: NonNegative = 1.0
    commitment: NonNegative = 0.25
    temperature: Positive = 0.01  # of softmax(2 z.c / temperature), by which a code is chosen where entropies are taken

    @property
    def codebook_size(self) -> int:
        """The number of codes: 2^bits."""
        return 2**self.bits

    @property
    def dim(self) -> int:
        """The number of values in a vector: one a bit."""
        return self.bits

    def __call__(self, vectors: Vectors, key: PRNGKey | None = None) -> Quantised:
        """Quantises vectors: [B ... D] -> vectors [B ... D] of -1 and 1, codes [B ...]; with a key, with entropies."""
        z = vectors.astype(jnp.float32)
        positive = z > 0
        codes = jnp.sum(positive * self._places(), axis=-1)
        chosen = jnp.where(positive, 1.0, -1.0)
        commitment = jnp.mean((z - chosen) ** 2)
        loss, metrics = self.commitment * commitment, {"commitment": commitment}
        if key is not None and self.entropy:
            of_each, of_all = bit_entropies(4 * z.reshape(-1, self.dim) / self.temperature)
            loss += self.entropy * (of_each - self.diversity * of_all)
            metrics |= {"entropy_of_each": of_each, "entropy_of_all": of_all}
        return Quantised(straight_through(z, chosen), codes, loss, metrics)

    def lookup(self, codes: Codes) -> Vectors:
        """Returns the vectors that codes stand for: [...] -> [... D]"""
        return jnp.where(codes[..., None] & self._places(), 1.0, -1.0)

    def _places(self) -> np.ndarray:
        return 2 ** np.arange(self.bits - 1, -1, -1)


def bit_entropies(logits: Float[Array, "n bits"]) -> tuple[Scalar, Scalar]:
    """Returns the mean entropy of rows of independent bits, and that of the mean over rows of codes' probabilities.

    Both in nats, as `entropies` of all codes gives them: a softmax of 2 z.c over signs c is one of bits whose logits
    are 4 z. The mean of codes' probabilities is one product of those of the first bits and of the others, so that no
    array is of rows times codes.
    """
    surprise = jax.nn.sigmoid(logits) * jax.nn.softplus(-logits) + jax.nn.sigmoid(-logits) * jax.nn.softplus(logits)
    half = logits.shape[1] // 2
    mean = product(_joint(logits[:, :half]).T, _joint(logits[:, half:])) / len(logits)
    of_mean = -jnp.sum(mean * jnp.log(jnp.maximum(mean, jnp.finfo(jnp.float32).tiny)))
    return jnp.mean(jnp.sum(surprise, axis=1)), of_mean


def _joint(logits: Float[Array, "n bits"]) -> Float[Array, "n k"]:
    """Returns the probability of each combination of independent bits: [N bits] -> [N 2^bits]"""
    found = jnp.ones((len(logits), 1))
    for i in range(logits.shape[1]):
        bit = jax.nn.sigmoid(jnp.stack([-logits[:, i], logits[:, i]], axis=1))
        found = (found[:, :, None] * bit[:, None]).reshape(len(logits), -1)
    return found

"""Vector quantisation: each vector of an encoder's output becomes the nearest of a book of code vectors.

A quantiser is a linen module, so that its book is a part of the tokenizer's network: parameters where gradients train
it, the collection "codebook" where averages of what it stands for do.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int

from imagegen_jax.core.config.bounds import BelowOne, Count, NonNegative
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import PRNGKey, Scalar
from imagegen_jax.nn.module import Module

Vectors = Float[Array, "b *grid d"]
Codes = Int[Array, "b *grid"]


class Quantised(NamedTuple):
    """What becomes of an encoder's output."""

    vectors: Vectors  # of the codes; their gradient goes to the encoder as if nothing had been rounded
    codes: Codes
    loss: Scalar  # to be added to the reconstruction's
    metrics: dict[str, Scalar]


class Quantiser(Module, Protocol):
    """Maps vectors to codes, and codes to vectors."""

    @property
    def codebook_size(self) -> int:
        """The number of codes."""
        ...

    @property
    def dim(self) -> int:
        """The number of values in a vector."""
        ...

    def __call__(self, vectors: Vectors, key: PRNGKey | None = None) -> Quantised:
        """Quantises vectors; with a key as in training, where the collection "codebook" is mutable."""
        ...

    def lookup(self, codes: Codes) -> Vectors:
        """Returns the vectors that codes stand for."""
        ...


AnyQuantiser = Annotated[Quantiser, Choices("imagegen_jax.autoencoders.quantise:EMACodebook")]


class EMACodebook(nn.Module):
    """A book whose vectors are moving averages of the outputs that chose them (van den Oord et al. 2017, appendix A.1).

    A code that is chosen less often than `restart_below` times the mean starts anew from an output of the batch, drawn
    at random (Dhariwal et al. 2020, arXiv 2005.00341, section 3.1): so the whole book starts from the first batch, and
    none of it stays dead. With accumulated gradients the averages take a step for each part of a batch.
    """

    codebook_size: Count = 512  # K
    dim: Count = 64  # D
    decay: BelowOne = 0.99  # gamma in Eqs. 6 to 8
    commitment: NonNegative = 0.25  # beta in Eq. 3
    restart_below: NonNegative = 0.05  # 0: codes that are dead stay so

    def setup(self) -> None:
        shape = (self.codebook_size, self.dim)
        self.embedding = self.variable("codebook", "embedding", lambda: self._drawn(shape))
        self.sums = self.variable("codebook", "sums", lambda: jnp.zeros(shape))
        self.counts = self.variable("codebook", "counts", lambda: jnp.zeros(self.codebook_size))

    def _drawn(self, shape: tuple[int, int]) -> Float[Array, "k d"]:
        return jax.random.normal(self.make_rng("params"), shape) if self.is_initializing() else jnp.zeros(shape)

    def __call__(self, vectors: Vectors, key: PRNGKey | None = None) -> Quantised:
        """Quantises vectors: [B ... D] -> vectors [B ... D], codes [B ...]; with a key, the book takes a step."""
        z = vectors.astype(jnp.float32)
        flat = stop_gradient(z).reshape(-1, self.dim)
        restarted = self._restart(flat, key) if key is not None and self.restart_below else jnp.zeros(())
        codes = nearest(flat, self.embedding.value)
        if key is not None:
            self._average(flat, codes)
        codes = codes.reshape(z.shape[:-1])
        chosen = self.lookup(codes)
        commitment = jnp.mean((z - chosen) ** 2)
        metrics = {"commitment": commitment, "restarted": restarted}
        return Quantised(straight_through(z, chosen), codes, self.commitment * commitment, metrics)

    def lookup(self, codes: Codes) -> Vectors:
        """Returns the vectors that codes stand for: [...] -> [... D]."""
        return self.embedding.value[codes]

    def _restart(self, flat: Float[Array, "n d"], key: PRNGKey) -> Scalar:
        """Puts outputs in the place of codes that are hardly chosen, and returns the share of these."""
        mean = len(flat) / self.codebook_size
        dead = self.counts.value < self.restart_below * mean
        rows = jax.random.choice(key, flat, (self.codebook_size,))
        self.counts.value = jnp.where(dead, mean, self.counts.value)
        self.sums.value = jnp.where(dead[:, None], mean * rows, self.sums.value)
        self.embedding.value = jnp.where(dead[:, None], rows, self.embedding.value)
        return jnp.mean(dead)

    def _average(self, flat: Float[Array, "n d"], codes: Int[Array, " n"]) -> None:
        """Moves counts, sums and the book towards what chose each code (Eqs. 6 to 8)."""
        chosen = jax.nn.one_hot(codes, self.codebook_size)
        self.counts.value = self._moved(self.counts.value, chosen.sum(0))
        self.sums.value = self._moved(self.sums.value, chosen.T @ flat)
        alive = self.counts.value > jnp.finfo(jnp.float32).tiny
        means = self.sums.value / jnp.where(alive, self.counts.value, 1.0)[:, None]
        self.embedding.value = jnp.where(alive[:, None], means, self.embedding.value)

    def _moved(self, average: Array, value: Array) -> Array:
        return self.decay * average + (1 - self.decay) * value


def nearest(flat: Float[Array, "n d"], book: Float[Array, "k d"]) -> Int[Array, " n"]:
    """Returns the number of the nearest code vector, by Euclidean distance, for each row: [N D], [K D] -> [N]."""
    products = jnp.matmul(flat, book.T, precision="highest")
    return jnp.argmin(jnp.sum(book**2, axis=1) - 2 * products, axis=1)


def straight_through(vectors: Vectors, chosen: Vectors) -> Vectors:
    """Returns `chosen`, with a gradient that goes to `vectors` unchanged (van den Oord et al. 2017, section 3.2)."""
    return vectors + stop_gradient(chosen - vectors)

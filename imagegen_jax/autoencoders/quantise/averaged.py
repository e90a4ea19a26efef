"""A book of codes that no gradient trains: it follows averages of the outputs that chose each code."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int

from imagegen_jax.autoencoders.quantise.quantiser import (
    Codes,
    Quantised,
    Size,
    Vectors,
    nearest,
    normalise,
    product,
    straight_through,
)
from imagegen_jax.core.config.bounds import BelowOne, Count, NonNegative
from imagegen_jax.core.model import PRNGKey, Scalar


class EMACodebook(nn.Module):
    """A book whose vectors are moving averages of the outputs that chose them (van den Oord et al. 2017, appendix A.1).

    A code that is chosen less often than `restart_below` times the mean starts anew from an output of the batch, drawn
    at random (Dhariwal et al. 2020, arXiv 2005.00341, section 3.1): so the whole book starts from the first batch, and
    none of it stays dead. With accumulated gradients the averages take a step for each part of a batch.
    """

    codebook_size: Size = 512  # K
    dim: Count = 64  # D
    decay: BelowOne = 0.99  # gamma in Eqs. 6 to 8
    commitment: NonNegative = 0.25  # beta in Eq. 3
    restart_below: NonNegative = 0.05  # 0: codes that are dead stay so
    normalised: bool = False  # whether outputs and codes have length 1 (Yu et al. 2022, arXiv 2110.04627, section 3.2)

    def setup(self) -> None:
        shape = (self.codebook_size, self.dim)
        self.embedding = self.variable("codebook", "embedding", lambda: self._drawn(shape))
        self.sums = self.variable("codebook", "sums", lambda: jnp.zeros(shape))
        self.counts = self.variable("codebook", "counts", lambda: jnp.zeros(self.codebook_size))

    def _drawn(self, shape: tuple[int, int]) -> Float[Array, "k d"]:
        if not self.is_initializing():
            return jnp.zeros(shape)
        return self._length_one(jax.random.normal(self.make_rng("params"), shape))

    def __call__(self, vectors: Vectors, key: PRNGKey | None = None) -> Quantised:
        """Quantises vectors: [B ... D] -> vectors [B ... D], codes [B ...]; with a key, the book takes a step."""
        z = self._length_one(vectors.astype(jnp.float32))
        flat = stop_gradient(z).reshape(-1, self.dim)
        restarted = jnp.zeros(()) if key is None else self._restart(flat, key)
        codes = nearest(flat, self.embedding.value)
        if key is not None:
            self._average(flat, codes)
        codes = codes.reshape(z.shape[:-1])
        chosen = self.lookup(codes)
        commitment = jnp.mean((z - chosen) ** 2)
        metrics = {"commitment": commitment, "restarted": restarted}
        return Quantised(straight_through(z, chosen), codes, self.commitment * commitment, metrics)

    def lookup(self, codes: Codes) -> Vectors:
        """Returns the vectors that codes stand for: [...] -> [... D]"""
        return self.embedding.value[codes]

    def choose(self, flat: Float[Array, "n d"]) -> Int[Array, " n"]:
        """Returns the nearest code of each row: [N D] -> [N]"""
        return nearest(self._length_one(flat), self.embedding.value)

    def follow(self, flat: Float[Array, "n d"], codes: Int[Array, " n"], key: PRNGKey) -> dict[str, Scalar]:
        """Takes a step towards the rows that chose codes, then restarts those that hardly any row chooses."""
        flat = stop_gradient(self._length_one(flat))
        self._average(flat, codes)
        return {"restarted": self._restart(flat, key)}

    def _restart(self, flat: Float[Array, "n d"], key: PRNGKey) -> Scalar:
        """Puts outputs in the place of codes that are hardly chosen, and returns the share of these."""
        if not self.restart_below:
            return jnp.zeros(())
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
        self.sums.value = self._moved(self.sums.value, product(chosen.T, flat))
        alive = self.counts.value > jnp.finfo(jnp.float32).tiny
        means = self._length_one(self.sums.value / jnp.where(alive, self.counts.value, 1.0)[:, None])
        self.embedding.value = jnp.where(alive[:, None], means, self.embedding.value)

    def _moved(self, average: Array, value: Array) -> Array:
        return self.decay * average + (1 - self.decay) * value

    def _length_one(self, vectors: Array) -> Array:
        return normalise(vectors) if self.normalised else vectors

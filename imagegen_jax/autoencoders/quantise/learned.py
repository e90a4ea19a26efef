"""Books of codes that gradients train, with the rest of the network."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int

from imagegen_jax.autoencoders.quantise.quantiser import (
    Codes,
    Quantised,
    Size,
    Vectors,
    distances,
    entropies,
    nearest,
    normalise,
    product,
    straight_through,
)
from imagegen_jax.core.config.bounds import Count, NonNegative, Positive
from imagegen_jax.core.model import PRNGKey, Scalar


def _uniform(limit: float) -> Initializer:
    """Returns an initialiser that draws from -limit to limit."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


class Codebook(nn.Module):
    """A book that is drawn towards the outputs that chose it: |sg(z) - e|^2 + beta |z - sg(e)|^2   (VQ-VAE, Eq. 3).

    `swapped` puts beta on the first term, as the published VQGANs were trained (Esser et al. 2021, arXiv 2012.09841:
    `legacy` in taming-transformers). `normalised` divides outputs and codes by their lengths, as ViT-VQGAN and LlamaGen
    do. `entropy` weighs the entropy of each choice less that of all of them, of softmax(-distance / temperature), as in
    MaskGIT's tokenizer.
    """

    codebook_size: Size = 1024  # K
    dim: Count = 256  # D
    commitment: NonNegative = 0.25  # beta
    swapped: bool = False
    normalised: bool = False
    entropy: NonNegative = 0.0
    temperature: Positive = 0.01  # of the entropies
    start: Positive | None = None  # codes start within so much of 0; None: 1 / codebook_size, as VQ-VAE's and VQGAN's

    def setup(self) -> None:
        initialise = _uniform(self.start or 1 / self.codebook_size)
        self.embedding = self.param("embedding", initialise, (self.codebook_size, self.dim))

    def __call__(self, vectors: Vectors, key: PRNGKey | None = None) -> Quantised:
        """Quantises vectors: [B ... D] -> vectors [B ... D], codes [B ...]; the key is not read."""
        z = self._length_one(vectors.astype(jnp.float32))
        flat = z.reshape(-1, self.dim)
        squared = jnp.sum(flat**2, axis=1, keepdims=True) + distances(flat, self._book())
        codes = jnp.argmin(squared, axis=1).reshape(z.shape[:-1])
        chosen = self.lookup(codes)
        commitment = jnp.mean((z - stop_gradient(chosen)) ** 2)
        following = jnp.mean((stop_gradient(z) - chosen) ** 2)
        loss = commitment + self.commitment * following if self.swapped else following + self.commitment * commitment
        metrics = {"commitment": commitment}
        if self.entropy:
            of_each, of_all = entropies(-squared / self.temperature)
            loss, metrics = loss + self.entropy * (of_each - of_all), metrics | _named(of_each, of_all)
        return Quantised(straight_through(z, chosen), codes, loss, metrics)

    def lookup(self, codes: Codes) -> Vectors:
        """Returns the vectors that codes stand for: [...] -> [... D]"""
        return self._book()[codes]

    def choose(self, flat: Float[Array, "n d"]) -> Int[Array, " n"]:
        """Returns the nearest code of each row: [N D] -> [N]"""
        return nearest(self._length_one(flat), self._book())

    def follow(self, flat: Float[Array, "n d"], codes: Int[Array, " n"], key: PRNGKey) -> dict[str, Scalar]:
        """Does nothing: gradients train the book."""
        return {}

    def _book(self) -> Float[Array, "k d"]:
        return self._length_one(self.embedding)

    def _length_one(self, vectors: Array) -> Array:
        return normalise(vectors) if self.normalised else vectors


class GumbelCodebook(nn.Module):
    """A book whose codes are drawn from a softmax of the encoder's output (Jang et al. 2017, arXiv 1611.01144; DALL-E).

    In training the draw is relaxed at a temperature that falls from `temperature` to `last_temperature` in a cosine
    over `annealed_over` steps, which the book counts itself, and rounded with straight-through gradients; the loss is
    `kl_weight` times the divergence of the softmax from the uniform distribution. Without a key the likeliest code is
    taken, where taming-transformers draws also then. With accumulated gradients each part of a batch is a step.
    """

    codebook_size: Size = 8192  # K
    dim: Count = 256  # D
    temperature: Positive = 1.0
    last_temperature: Positive = 1 / 16
    annealed_over: Count = 150_000  # steps
    kl_weight: NonNegative = 5e-4

    def setup(self) -> None:
        self.logits = nn.Dense(self.codebook_size, dtype=jnp.float32, precision="highest")
        self.embedding = self.param("embedding", nn.initializers.normal(1.0), (self.codebook_size, self.dim))
        self.steps = self.variable("codebook", "steps", lambda: jnp.zeros((), jnp.int32))

    def __call__(self, vectors: Vectors, key: PRNGKey | None = None) -> Quantised:
        """Quantises vectors: [B ... D] -> vectors [B ... D], codes [B ...]; with a key, the codes are drawn."""
        logits = self.logits(vectors.astype(jnp.float32))
        kl = _kl_to_uniform(logits)
        if key is None:
            codes = jnp.argmax(logits, axis=-1)
            return Quantised(self.lookup(codes), codes, self.kl_weight * kl, {"kl": kl})
        noise = jax.random.gumbel(jax.random.fold_in(key, self.steps.value), logits.shape)
        temperature = annealed(self.steps.value, self.temperature, self.last_temperature, self.annealed_over)
        self.steps.value = self.steps.value + 1
        soft = jax.nn.softmax((logits + noise) / temperature)
        codes = jnp.argmax(soft, axis=-1)
        chosen = product(straight_through(soft, jax.nn.one_hot(codes, self.codebook_size)), self.embedding)
        return Quantised(chosen, codes, self.kl_weight * kl, {"kl": kl, "temperature": temperature})

    def lookup(self, codes: Codes) -> Vectors:
        """Returns the vectors that codes stand for: [...] -> [... D]"""
        return self.embedding[codes]


def annealed(step: Array, first: float, last: float, over: int) -> Scalar:
    """Returns a value that falls from `first` to `last` in half a cosine over so many steps, and stays there."""
    done = jnp.minimum(step / over, 1.0)
    return last + (first - last) * 0.5 * (1 + jnp.cos(math.pi * done))


def _kl_to_uniform(logits: Float[Array, "... k"]) -> Scalar:
    """Returns the mean of sum_k p_k log(p_k K), in nats."""
    log_p = jax.nn.log_softmax(logits)
    return jnp.mean(jnp.sum(jnp.exp(log_p) * log_p, axis=-1)) + math.log(logits.shape[-1])


def _named(of_each: Scalar, of_all: Scalar) -> dict[str, Scalar]:
    return {"entropy_of_each": of_each, "entropy_of_all": of_all}

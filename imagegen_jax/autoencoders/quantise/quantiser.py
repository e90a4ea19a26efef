"""Vector quantisation: each vector of an encoder's output becomes one of a book of code vectors.

A quantiser is a linen module, so that its book is a part of the tokenizer's network: parameters where gradients train
it, the collection "codebook" where averages of what it stands for do.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, Protocol, cast, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int

from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.config.given import LARGEST, Range
from imagegen_jax.core.model import PRNGKey, Scalar
from imagegen_jax.nn.module import Module

Vectors = Float[Array, "b *grid d"]
Codes = Int[Array, "b *codes"]
Size = Annotated[int, Range(2, LARGEST)]  # of a book: with a single code, all images are the same


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
        """The number of codes in a book."""
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


AnyQuantiser = Annotated[
    Quantiser,
    Choices(
        "imagegen_jax.autoencoders.quantise.averaged:EMACodebook",
        "imagegen_jax.autoencoders.quantise.learned:Codebook, GumbelCodebook",
        "imagegen_jax.autoencoders.quantise.lookup_free:FSQ, LFQ",
        "imagegen_jax.autoencoders.quantise.residual:Residual",
        "imagegen_jax.autoencoders.quantise.multiscale:MultiScaleCodebook",
    ),
]


@runtime_checkable
class ShapesCodes(Protocol):
    """A quantiser that does not give each vector of a grid one code out of one book."""

    @property
    def books(self) -> int:
        """The number of books: above 1, the last axis of the codes counts them."""
        ...

    def code_shape(self, grid: tuple[int, int]) -> tuple[int, ...]:
        """Returns the shape of the codes of a grid of vectors. Raises ValueError for a grid that it does not take."""
        ...


@runtime_checkable
class ByScale(Protocol):
    """Quantises to square grids of codes, from coarse to fine; each adds to those before."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The height and width of each grid."""
        ...

    def next_inputs(self, codes: Codes) -> Float[Array, "b m d"]:
        """Returns what the grids so far tell of each next one, at its size."""
        ...

    def for_grid(self, grid: tuple[int, int]) -> Any:
        """Returns this quantiser for another grid of vectors. Raises ValueError where it takes none such."""
        ...


def books_of(quantiser: Quantiser) -> int:
    """Returns the number of books of a quantiser: 1 for most."""
    return quantiser.books if isinstance(quantiser, ShapesCodes) else 1


def code_shape_of(quantiser: Quantiser, grid: tuple[int, int]) -> tuple[int, ...]:
    """Returns the shape of the codes of a grid of vectors: that of the grid, for most quantisers."""
    return quantiser.code_shape(grid) if isinstance(quantiser, ShapesCodes) else grid


def another(quantiser: Quantiser) -> Quantiser:
    """Returns a quantiser with the same fields, to have a book of its own as a part of a network."""
    return cast(Quantiser, cast(nn.Module, quantiser).clone(parent=None))


def product(a: Float[Array, "... n k"], b: Float[Array, "k d"]) -> Float[Array, "... n d"]:
    """Multiplies matrices in whole float32, where accelerators would round to fewer digits than codes differ by."""
    return jnp.matmul(a, b, precision="highest")


def distances(flat: Float[Array, "n d"], book: Float[Array, "k d"]) -> Float[Array, "n k"]:
    """Returns the squared distance of each row to each code vector, less the row's own square: [N D], [K D] -> [N K]"""
    return jnp.sum(book**2, axis=1) - 2 * product(flat, book.T)


def nearest(flat: Float[Array, "n d"], book: Float[Array, "k d"]) -> Int[Array, " n"]:
    """Returns the number of the nearest code vector, by Euclidean distance, for each row: [N D], [K D] -> [N]"""
    return jnp.argmin(distances(flat, book), axis=1)


def straight_through(vectors: Vectors, chosen: Vectors) -> Vectors:
    """Returns `chosen`, with a gradient that goes to `vectors` unchanged (van den Oord et al. 2017, section 3.2)."""
    return vectors + stop_gradient(chosen - vectors)


def normalise(vectors: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Divides vectors by their Euclidean length, or by 1e-12 where they are shorter."""
    squared = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.maximum(squared, 1e-24))


def entropies(logits: Float[Array, "n k"]) -> tuple[Scalar, Scalar]:
    """Returns the mean entropy of rows' softmax, and the entropy of its mean over rows, in nats: sure, but diverse.

    The difference of the two is the entropy loss of Yu et al. 2023 (arXiv 2310.05737, Eq. 4).
    """
    log_p = jax.nn.log_softmax(logits)
    p = jnp.exp(log_p)
    mean = jnp.mean(p, axis=0)
    tiny = jnp.finfo(jnp.float32).tiny
    of_mean = -jnp.sum(mean * jnp.log(jnp.maximum(mean, tiny)))
    return -jnp.mean(jnp.sum(p * log_p, axis=1)), of_mean

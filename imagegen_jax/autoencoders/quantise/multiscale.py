"""Multi-scale residual quantisation: an image's vectors as grids of codes from coarse to fine, which VAR predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, Protocol

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient
from jaxtyping import Array, Float, Int

from imagegen_jax.autoencoders.quantise.learned import Codebook
from imagegen_jax.autoencoders.quantise.quantiser import Codes, Quantised, Vectors, straight_through
from imagegen_jax.core.config.bounds import Count, NonNegative, Share
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import PRNGKey, Scalar
from imagegen_jax.nn.module import Module

Flat = Float[Array, "n d"]


class Book(Module, Protocol):
    """A quantiser whose choice of codes and learning can be had apart."""

    @property
    def codebook_size(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def choose(self, flat: Flat) -> Int[Array, " n"]:
        """Returns the code of each row."""
        ...

    def follow(self, flat: Flat, codes: Int[Array, " n"], key: PRNGKey) -> dict[str, Scalar]:
        """Learns from the rows that chose codes, where it does so without gradients, and returns metrics."""
        ...

    def lookup(self, codes: Codes) -> Vectors:
        """Returns the vectors that codes stand for."""
        ...


AnyBook = Annotated[
    Book,
    Choices(
        "imagegen_jax.autoencoders.quantise.learned:Codebook",
        "imagegen_jax.autoencoders.quantise.averaged:EMACodebook",
    ),
]


class Smooth(nn.Module):
    """The convolution phi that follows enlarging: (1 - ratio) h + ratio conv(h)   (VAR, Algorithms 1 and 2)."""

    ratio: float

    @nn.compact
    def __call__(self, h: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        """Smooths vectors: [B H W D] -> [B H W D]"""
        return (1 - self.ratio) * h + self.ratio * nn.Conv(h.shape[-1], (3, 3), dtype=jnp.float32)(h)


class _Choice(NamedTuple):
    """What the scales made of vectors."""

    rows: list[Flat]  # that chose, by scale
    codes: list[Int[Array, "b n"]]
    sums: list[Vectors]  # of all scales up to one


class MultiScaleCodebook(nn.Module):
    """Quantises what is left over at one size after the other, with one book (Tian et al. 2024, arXiv 2404.02905).

    At each of `sizes`, the remainder is averaged down to that size, each vector takes the nearest code, and the codes'
    vectors are enlarged (bicubic), smoothed by one of the convolutions, and taken off (Algorithm 1). Codes are flat,
    from coarse to fine. The loss is the mean over sizes of |sg(z) - q|^2 + commitment |z - sg(q)|^2, with q the sum so
    far. An `EMACodebook` as the `book` follows averages and restarts dead codes; the published one is trained by
    gradients. Of the book's own losses (`commitment`, `swapped`, `entropy`) none is taken.
    """

    book: AnyBook = Codebook(codebook_size=4096, dim=32)
    sizes: tuple[Count, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    convolutions: Count = 4  # K phis, shared among the sizes
    ratio: Share = 0.5  # of the convolution in each
    commitment: NonNegative = 0.25  # beta

    @property
    def codebook_size(self) -> int:
        """The number of codes."""
        return self.book.codebook_size

    @property
    def dim(self) -> int:
        """The number of values in a vector."""
        return self.book.dim

    @property
    def books(self) -> int:
        """The number of books: one for all sizes."""
        return 1

    def code_shape(self, grid: tuple[int, int]) -> tuple[int, ...]:
        """Returns the number of codes of all sizes. Raises ValueError where sizes do not rise to that of the grid."""
        sizes = self.sizes
        if any(low >= high for low, high in zip(sizes, sizes[1:], strict=False)) or grid != (sizes[-1], sizes[-1]):
            raise ValueError(
                f"quantiser.sizes={sizes}: must rise, and end with the height and width of the encoder's grid, which "
                f"is {grid[0]}x{grid[1]}; the grid must be square"
            )
        return (sum(self.counts),)

    @nn.nowrap
    def for_grid(self, grid: tuple[int, int]) -> MultiScaleCodebook:
        """Returns this quantiser for another grid of vectors: sizes of the same proportions, and 1, are its own."""
        sizes = {round(size * grid[0] / self.sizes[-1]) for size in self.sizes}
        found: MultiScaleCodebook = self.clone(sizes=tuple(sorted({1, *sizes} - {0})))
        return found

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of codes of each size."""
        return tuple(size**2 for size in self.sizes)

    def setup(self) -> None:
        self.smooth = [Smooth(self.ratio) for _ in range(self.convolutions)]

    def __call__(self, vectors: Vectors, key: PRNGKey | None = None) -> Quantised:
        """Quantises vectors: [B S S D] -> vectors [B S S D], codes [B N]; with a key as in training."""
        z = vectors.astype(jnp.float32)
        choice = self._choose(stop_gradient(z))
        codes = jnp.concatenate(choice.codes, axis=1)
        following = jnp.mean(jnp.stack([jnp.mean((stop_gradient(z) - q) ** 2) for q in choice.sums]))
        commitment = jnp.mean(jnp.stack([jnp.mean((z - stop_gradient(q)) ** 2) for q in choice.sums]))
        metrics = {"commitment": commitment, "left_over": jnp.mean(stop_gradient(z - choice.sums[-1]) ** 2)}
        if key is not None:
            rows, chosen = jnp.concatenate(choice.rows), jnp.concatenate([one.reshape(-1) for one in choice.codes])
            metrics |= self.book.follow(rows, chosen, key)
        loss = following + self.commitment * commitment
        return Quantised(straight_through(z, choice.sums[-1]), codes, loss, metrics)

    def lookup(self, codes: Codes) -> Vectors:
        """Returns the vectors that codes stand for: [B N] -> [B S S D]"""
        return sum((h for _, h in self._contributions(codes)), start=jnp.zeros(()))

    def next_inputs(self, codes: Codes) -> Float[Array, "b m d"]:
        """Returns what the sizes so far tell of each next one, averaged down to it, flat: what VAR reads.

        [B M] -> [B M' D]: M codes are those of the first k sizes, M' vectors those of the sizes from the second to the
        one after the k-th. Raises ValueError where M is not the codes of whole sizes, or there is no next one.
        """
        q, found = jnp.zeros(()), []
        for i, h in self._contributions(codes):
            q = q + h
            if i + 1 < len(self.sizes):
                found.append(_resized(q, averaging(self.sizes[-1], self.sizes[i + 1])).reshape(len(q), -1, self.dim))
        return jnp.concatenate(found, axis=1)

    def _choose(self, z: Vectors) -> _Choice:
        left, q, found = z, jnp.zeros(()), _Choice([], [], [])
        for i, size in enumerate(self.sizes):
            rows = _resized(stop_gradient(left), averaging(self.sizes[-1], size)).reshape(-1, self.dim)
            codes = self.book.choose(rows).reshape(len(z), -1)
            h = self._enlarged(codes, i)
            left, q = left - h, q + h
            for kept, new in zip(found, (rows, codes, q), strict=True):
                kept.append(new)
        return found

    def _contributions(self, codes: Codes) -> Iterator[tuple[int, Vectors]]:
        ends = np.cumsum(self.counts).tolist()
        if codes.shape[1] not in ends:
            raise ValueError(f"{codes.shape[1]} codes are not those of whole sizes: there may be {ends} of them")
        for i, end in enumerate(ends[: ends.index(codes.shape[1]) + 1]):
            yield i, self._enlarged(codes[:, end - self.counts[i] : end], i)

    def _enlarged(self, codes: Int[Array, "b n"], i: int) -> Vectors:
        """Returns what the codes of one size add: [B size^2] -> [B S S D]"""
        size, largest = self.sizes[i], self.sizes[-1]
        h = self.book.lookup(codes).reshape(len(codes), size, size, self.dim)
        return self.smooth[self._shared_by(i)](_resized(h, bicubic(size, largest)))

    def _shared_by(self, i: int) -> int:
        """Returns which of the convolutions a size takes: the one nearest to its place, as the authors' code has it."""
        k = self.convolutions
        edge = 1 / 3 / k if k == 4 else 1 / 2 / k
        return int(np.argmin(np.abs(np.linspace(edge, 1 - edge, k) - i / max(1, len(self.sizes) - 1))))


def _resized(x: Float[Array, "b h w d"], matrix: np.ndarray) -> Float[Array, "b n n d"]:
    """Resizes both sides by a matrix [N S]: [B S S D] -> [B N N D]"""
    if np.array_equal(matrix, np.eye(len(matrix))):
        return x
    return jnp.einsum("ip,jq,bpqd->bijd", matrix, matrix, x, precision="highest")


def averaging(size: int, smaller: int) -> np.ndarray:
    """Returns the matrix [smaller size] that averages the pixels under each new one, as torch's "area" does."""
    matrix: Any = np.zeros((smaller, size), np.float32)
    for i in range(smaller):
        first, end = i * size // smaller, -(-(i + 1) * size // smaller)
        matrix[i, first:end] = 1 / (end - first)
    return matrix


def bicubic(size: int, larger: int) -> np.ndarray:
    """Returns the matrix [larger size] of cubic interpolation with a = -0.75, as torch's "bicubic": edges repeat."""
    matrix: Any = np.zeros((larger, size), np.float32)
    for i in range(larger):
        at = (i + 0.5) * size / larger - 0.5
        first = int(np.floor(at))
        for tap, weight in zip(range(first - 1, first + 3), _cubic(at - first), strict=True):
            matrix[i, min(max(tap, 0), size - 1)] += weight
    return matrix


def _cubic(t: float, a: float = -0.75) -> Sequence[float]:
    """Returns the weights of the four pixels around a place, `t` after the second."""

    def near(x: float) -> float:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return far(t + 1), near(t), near(1 - t), far(2 - t)

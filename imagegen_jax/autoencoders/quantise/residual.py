"""Residual quantisation: what a code leaves over is quantised again, several times."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagegen_jax.autoencoders.quantise.averaged import EMACodebook
from imagegen_jax.autoencoders.quantise.learned import GumbelCodebook
from imagegen_jax.autoencoders.quantise.quantiser import (
    AnyQuantiser,
    Codes,
    Quantised,
    Quantiser,
    ShapesCodes,
    Vectors,
    another,
    straight_through,
)
from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import PRNGKey


class Residual(nn.Module):
    """Quantises a vector, then what is left of it, and so on (Lee et al. 2022, arXiv 2203.01941, section 3.1).

    A vector becomes `depth` codes, [H W depth], and their sum stands for it. Each book is one of `quantiser`'s kind, or
    with `shared` all are the same one. Losses are added: as each book's error is that of the sum up to it, this is the
    commitment of Eq. 7. Raises ValueError for a quantiser that does not give each vector a code, and for a
    `GumbelCodebook`: its gradient goes through the vectors, in whose place the encoder's are here.
    """

    quantiser: AnyQuantiser = EMACodebook()
    depth: Count = 4  # D
    shared: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.quantiser, ShapesCodes | GumbelCodebook):
            why = (
                "no gradient would reach its book"
                if isinstance(self.quantiser, GumbelCodebook)
                else "it does not give each vector one code"
            )
            raise ValueError(
                f"quantiser.quantiser={type(self.quantiser).__name__} of a Residual: {why}: use EMACodebook, Codebook, "
                "FSQ or LFQ"
            )
        super().__post_init__()

    @property
    def codebook_size(self) -> int:
        """The number of codes in a book."""
        return self.quantiser.codebook_size

    @property
    def dim(self) -> int:
        """The number of values in a vector."""
        return self.quantiser.dim

    @property
    def books(self) -> int:
        """The number of books, or of uses of the one that is shared."""
        return self.depth

    def code_shape(self, grid: tuple[int, int]) -> tuple[int, ...]:
        """Returns the shape of the codes of a grid of vectors: (height, width, depth)."""
        return *grid, self.depth

    def setup(self) -> None:
        self.parts = () if self.shared else tuple(another(self.quantiser) for _ in range(self.depth))

    def __call__(self, vectors: Vectors, key: PRNGKey | None = None) -> Quantised:
        """Quantises vectors: [B ... D] -> vectors [B ... D], codes [B ... depth]; with a key as in training."""
        z = left = vectors.astype(jnp.float32)
        found = []
        for depth, part in enumerate(self._each()):
            found.append(part(left, None if key is None else jax.random.fold_in(key, depth)))
            left = left - jax.lax.stop_gradient(found[-1].vectors)
        chosen = sum((one.vectors for one in found), start=jnp.zeros(()))
        metrics = {name: jnp.mean(jnp.stack([one.metrics[name] for one in found])) for name in found[0].metrics}
        codes = jnp.stack([one.codes for one in found], axis=-1)
        return Quantised(straight_through(z, chosen), codes, jnp.stack([one.loss for one in found]).sum(), metrics)

    def lookup(self, codes: Codes) -> Vectors:
        """Returns the vectors that codes stand for: [... depth] -> [... D]"""
        each = (part.lookup(codes[..., depth]) for depth, part in enumerate(self._each()))
        return sum(each, start=jnp.zeros(()))

    def _each(self) -> tuple[Quantiser, ...]:
        return (self.quantiser,) * self.depth if self.shared else self.parts

"""How much of a codebook is in use, counted over as many images as an epoch has, not over a batch."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from imagegen_jax.autoencoders.quantise import Codes
from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import Scalar


class CodeUse(nn.Module):
    """Keeps how many images ago each code was last chosen, in the collection "codebook".

    With several books the last axis of the codes counts them, and metrics are means over books.
    """

    codebook_size: int
    books: int
    window: Count  # in images: a code that was not chosen for so many is dead

    def setup(self) -> None:
        shape = (self.books, self.codebook_size)
        self.unchosen = self.variable("codebook", "unchosen_images", lambda: jnp.full(shape, self.window, jnp.int32))

    def __call__(self, codes: Codes) -> dict[str, Scalar]:
        """Takes the codes of a batch into account and returns metrics: [B ...] or [B ... books]

        `codebook_used` and `codebook_dead` are the share that was chosen within the window and the number of codes that
        were not; `codebook_perplexity` is the batch's.
        """
        of_book = codes.reshape(-1, self.books).T if self.books > 1 else codes.reshape(1, -1)
        rows = jnp.arange(self.books)[:, None]
        older = jnp.minimum(self.unchosen.value + len(codes), self.window)
        if not self.is_initializing():
            self.unchosen.value = older.at[rows, of_book].set(0)
        used = jnp.mean(self.unchosen.value < self.window)
        perplexities = [perplexity(one, self.codebook_size) for one in of_book]
        return {
            "codebook_used": used,
            "codebook_dead": (1 - used) * self.codebook_size,
            "codebook_perplexity": jnp.mean(jnp.stack(perplexities)),
        }


def perplexity(codes: Int[Array, " n"], size: int) -> Scalar:
    """Returns e to the entropy of codes: 1 to `size`."""
    shares = jnp.bincount(codes, length=size) / codes.size
    return jnp.exp(-jnp.sum(jnp.where(shares > 0, shares * jnp.log(jnp.where(shares > 0, shares, 1)), 0)))

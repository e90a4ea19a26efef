"""VQ-VAE-2 (Razavi et al. 2019, arXiv 1906.00446): codes at two sizes; the finer ones see the coarser."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.autoencoders.quantise import (
    AnyQuantiser,
    Codes,
    EMACodebook,
    Quantised,
    ShapesCodes,
    Vectors,
    another,
)
from imagegen_jax.autoencoders.quantise.code_use import CodeUse
from imagegen_jax.autoencoders.tokenizer import ResidualDecoder, ResidualEncoder, divided
from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.model import Image, PRNGKey, Scalar
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.strided import Double


class TwoLevelTokenizer(nn.Module):
    """A tokenizer with a coarse grid of codes, "top", and one of twice its height and width, "bottom".

    The networks are those of github.com/rosinality/vq-vae-2-pytorch, as the authors' code was never released. Codes are
    flat: all of the top, then all of the bottom, each row by row; each level has a book of `quantiser`'s kind.
    """

    width: Count = 128
    halvings: Count = 2  # from the image to the bottom's grid; one more to the top's
    blocks: Count = 2
    hidden: Count = 32
    quantiser: AnyQuantiser = EMACodebook(codebook_size=512, dim=64, restart_below=0.0)
    use_window: Count = 50_000  # images: a code that none of so many chose is not in use
    dtype: Dtype = "auto"

    @property
    def codebook_size(self) -> int:
        """The number of codes of a level: they are integers from 0 to below it."""
        return self.quantiser.codebook_size

    def code_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Returns the number of an image's codes, of both levels.

        Raises ValueError for images that it does not take, and for a quantiser whose codes are no grid.
        """
        height, width = divided(image_shape, 2 ** (self.halvings + 1))
        if height != width:
            raise ValueError(
                f"model.image_shape={image_shape}: a TwoLevelTokenizer takes square images, such as "
                f"{image_shape[0]}x{image_shape[0]}"
            )
        if isinstance(self.quantiser, ShapesCodes):
            raise ValueError(
                f"model.network.quantiser={type(self.quantiser).__name__}: a TwoLevelTokenizer has one code for each "
                "vector of its two grids: use EMACodebook, Codebook, GumbelCodebook, FSQ or LFQ"
            )
        top, bottom = self.grids(image_shape)
        return (math.prod(top) + math.prod(bottom),)

    def grids(self, image_shape: tuple[int, int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Returns height and width of the top's and of the bottom's codes."""
        height, width, _ = image_shape
        fine = 2**self.halvings
        return (height // fine // 2, width // fine // 2), (height // fine, width // fine)

    def setup(self) -> None:
        sizes = {"width": self.width, "blocks": self.blocks, "hidden": self.hidden, "dtype": self.dtype}
        self.encode_bottom = ResidualEncoder(halvings=self.halvings, **sizes)
        self.encode_top = ResidualEncoder(halvings=1, **sizes)
        self.pre_top, self.pre_bottom = self._pointwise(), self._pointwise()
        self.top, self.bottom = (another(self.quantiser) for _ in range(2))
        self.decode_top = ResidualDecoder(halvings=1, **sizes)
        self.enlarge = Double(self.quantiser.dim, dtype=self.dtype)
        self.decode_both = ResidualDecoder(halvings=self.halvings, **sizes)
        self.use_top, self.use_bottom = (CodeUse(self.codebook_size, 1, self.use_window) for _ in range(2))

    def __call__(self, x: Image, key: PRNGKey | None = None) -> tuple[Float[Array, "b h w c"], Quantised]:
        """Reconstructs images: [B H W C] -> [B H W C], not clipped, and their codes; with a key as in training"""
        top, bottom = self._levels(x, key)
        return self._decode(top.vectors, bottom.vectors, x.shape[-1]), self._joined(top, bottom, key)

    def quantise(self, x: Image, key: PRNGKey | None = None) -> Quantised:
        """Encodes and quantises images: [B H W C] -> codes [B N], vectors [B N D], top before bottom"""
        return self._joined(*self._levels(x, key), key)

    def decode(self, codes: Codes, channels: int) -> Float[Array, "b h w c"]:
        """Decodes codes of square images: [B N] -> [B H W channels], not clipped"""
        side = math.isqrt(codes.shape[1] // 5)  # the bottom has four times as many codes as the top
        top, bottom = codes[:, : side**2], codes[:, side**2 :]
        of_top = self.top.lookup(top.reshape(-1, side, side))
        return self._decode(of_top, self.bottom.lookup(bottom.reshape(-1, 2 * side, 2 * side)), channels)

    def _levels(self, x: Image, key: PRNGKey | None) -> tuple[Quantised, Quantised]:
        keys = (None, None) if key is None else jax.random.split(key)
        fine = self.encode_bottom(x)
        top = self.top(self.pre_top(self.encode_top(fine)), keys[0])
        told = self.decode_top(top.vectors, self.quantiser.dim)
        bottom = self.bottom(self.pre_bottom(jnp.concatenate([told, fine], axis=-1)), keys[1])
        return top, bottom

    def _decode(self, top: Vectors, bottom: Vectors, channels: int) -> Float[Array, "b h w c"]:
        enlarged = self.enlarge(top, bottom.shape[1:3])
        return self.decode_both(jnp.concatenate([enlarged, bottom], axis=-1), channels)

    def _joined(self, top: Quantised, bottom: Quantised, key: PRNGKey | None) -> Quantised:
        """Joins both levels to one: codes and vectors flat, losses added, metrics by level."""
        metrics: dict[str, Scalar] = {}
        for name, level, use in (("top", top, self.use_top), ("bottom", bottom, self.use_bottom)):
            found = use(level.codes) if key is not None or self.is_initializing() else {}
            metrics |= {f"{name}/{metric}": value for metric, value in (level.metrics | found).items()}
        vectors, codes = (
            jnp.concatenate([level.reshape(len(level), -1, *rest) for level in levels], axis=1)
            for levels, rest in (
                ((top.vectors, bottom.vectors), (self.quantiser.dim,)),
                ((top.codes, bottom.codes), ()),
            )
        )
        return Quantised(vectors, codes, top.loss + bottom.loss, metrics)

    def _pointwise(self) -> nn.Conv:
        return nn.Conv(self.quantiser.dim, (1, 1), dtype=compute_dtype(self.dtype))

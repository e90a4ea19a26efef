"""The network of every model that turns images into codes: an encoder, a quantiser and a decoder as one."""

from __future__ import annotations

from typing import Annotated, Any, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.autoencoders.quantise import (
    AnyQuantiser,
    ByScale,
    Codes,
    EMACodebook,
    Quantised,
    Vectors,
    books_of,
    code_shape_of,
)
from imagegen_jax.autoencoders.quantise.code_use import CodeUse
from imagegen_jax.core.config.bounds import Count
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import Image, PRNGKey, Scalar, Variables
from imagegen_jax.nn.module import Module
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.strided import Double, Halve


class PatchEncoder(Module, Protocol):
    """Maps images to a grid of vectors."""

    @property
    def factor(self) -> int:
        """How many pixels of an image's side are one of the grid's."""
        ...

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww f"]:
        """Encodes images: [B H W C] -> [B H/factor W/factor F]"""
        ...


class PatchDecoder(Module, Protocol):
    """Maps a grid of vectors to images."""

    def __call__(self, z: Float[Array, "b hh ww d"], channels: int) -> Float[Array, "b h w c"]:
        """Decodes vectors: [B H/factor W/factor D] -> [B H W channels]"""
        ...


class TokenizerNetwork(Module, Protocol):
    """An encoder, a quantiser and a decoder as one network, however they are joined."""

    @property
    def codebook_size(self) -> int:
        """The number of codes: they are integers from 0 to below it."""
        ...

    def code_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Returns the shape of an image's codes. Raises ValueError for images that it does not take."""
        ...

    def __call__(self, x: Image, key: PRNGKey | None = None) -> tuple[Float[Array, "b h w c"], Quantised]:
        """Reconstructs images, and returns their codes with them; with a key as in training."""
        ...

    def quantise(self, x: Image, key: PRNGKey | None = None) -> Quantised:
        """Encodes and quantises images."""
        ...

    def decode(self, codes: Codes, channels: int) -> Float[Array, "b h w c"]:
        """Decodes codes."""
        ...


@runtime_checkable
class TokenizerNetworkByScale(TokenizerNetwork, Protocol):
    """A network that may have codes at several scales: see `capabilities.TokenizingByScale`."""

    @property
    def code_sizes(self) -> tuple[int, ...]:
        """The height and width of each grid of codes, from coarse to fine; () where there is a single one."""
        ...

    @property
    def code_dim(self) -> int:
        """The number of values in the vector that a code stands for."""
        ...

    def next_inputs(self, codes: Codes) -> Float[Array, "b m d"]:
        """Returns what the grids so far tell of each next one, at its size."""
        ...

    def for_images(self, image_shape: tuple[int, int, int]) -> Any:
        """Returns this network for images of another shape."""
        ...


AnyTokenizer = Annotated[
    TokenizerNetwork,
    Choices("imagegen_jax.autoencoders.tokenizer:Tokenizer", "imagegen_jax.autoencoders.vqvae2:TwoLevelTokenizer"),
]
AnyPatchEncoder = Annotated[
    PatchEncoder,
    Choices(
        "imagegen_jax.autoencoders.tokenizer:ResidualEncoder",
        "imagegen_jax.nn.backbones.autoencoder:ConvEncoder",
        "imagegen_jax.nn.backbones.pooled_autoencoder:PooledEncoder",
        "imagegen_jax.nn.backbones.tiny_autoencoder:TinyEncoder",
    ),
]
AnyPatchDecoder = Annotated[
    PatchDecoder,
    Choices(
        "imagegen_jax.autoencoders.tokenizer:ResidualDecoder",
        "imagegen_jax.nn.backbones.autoencoder:ConvDecoder",
        "imagegen_jax.nn.backbones.pooled_autoencoder:PooledDecoder",
        "imagegen_jax.nn.backbones.tiny_autoencoder:TinyDecoder",
    ),
]


class ResidualStack(nn.Module):
    """Residual blocks relu, 3x3, relu, 1x1, and a last relu (van den Oord et al. 2017, section 4.1)."""

    blocks: Count
    hidden: Count
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Applies the blocks: [B H W C] -> [B H W C]"""
        dtype = compute_dtype(self.dtype)
        for _ in range(self.blocks):
            y = nn.Conv(self.hidden, (3, 3), dtype=dtype)(nn.relu(x))
            x = x + nn.Conv(x.shape[-1], (1, 1), dtype=dtype)(nn.relu(y))
        return nn.relu(x)


class ResidualEncoder(nn.Module):
    """Strided convolutions, then residual blocks (van den Oord et al. 2017, section 4.1; sizes of Sonnet's example)."""

    width: Count = 128
    halvings: Count = 2
    blocks: Count = 2
    hidden: Count = 32
    dtype: Dtype = "auto"

    @property
    def factor(self) -> int:
        """How many pixels of an image's side are one of the grid's."""
        return 2**self.halvings

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww f"]:
        """Encodes images: [B H W C] -> [B H/factor W/factor width]"""
        for level in range(self.halvings):
            x = nn.relu(Halve(self.width if level else self.width // 2, dtype=self.dtype)(x))
        x = nn.Conv(self.width, (3, 3), dtype=compute_dtype(self.dtype))(x)
        return ResidualStack(self.blocks, self.hidden, self.dtype)(x)


class ResidualDecoder(nn.Module):
    """Residual blocks, then transposed convolutions: the mirror of `ResidualEncoder`."""

    width: Count = 128
    halvings: Count = 2
    blocks: Count = 2
    hidden: Count = 32
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, z: Float[Array, "b hh ww d"], channels: int) -> Float[Array, "b h w c"]:
        """Decodes vectors: [B H W D] -> [B factor*H factor*W channels]"""
        x = nn.Conv(self.width, (3, 3), dtype=compute_dtype(self.dtype))(z)
        x = ResidualStack(self.blocks, self.hidden, self.dtype)(x)
        for level in range(self.halvings):
            last = level == self.halvings - 1
            size = 2 * x.shape[1], 2 * x.shape[2]
            x = Double(channels if last else self.width // 2, dtype=self.dtype)(x, size)
            x = x if last else nn.relu(x)
        return x.astype(jnp.float32)


class Tokenizer(nn.Module):
    """Encoder, 1x1 convolution to the quantiser's vectors, quantiser, and decoder.

    With `post_features` a convolution to so many features comes before the decoder, as in VQGAN.
    """

    encoder: AnyPatchEncoder = ResidualEncoder()
    quantiser: AnyQuantiser = EMACodebook()
    decoder: AnyPatchDecoder = ResidualDecoder()
    post_features: Count | None = None
    joint: Count = 1  # height and width of the convolutions before and after the quantiser; VAR's are of 3x3
    use_window: Count = 50_000  # images: a code that none of so many chose is not in use
    dtype: Dtype = "auto"

    @property
    def codebook_size(self) -> int:
        """The number of codes: they are integers from 0 to below it."""
        return self.quantiser.codebook_size

    def code_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Returns the shape of an image's codes. Raises ValueError for images that it does not take."""
        return code_shape_of(self.quantiser, grid_shape(self, image_shape))

    @property
    def code_sizes(self) -> tuple[int, ...]:
        """The height and width of each grid of codes, from coarse to fine; () where there is a single one."""
        return self.quantiser.sizes if isinstance(self.quantiser, ByScale) else ()

    @property
    def code_dim(self) -> int:
        """The number of values in the vector that a code stands for."""
        return self.quantiser.dim

    @nn.nowrap
    def for_images(self, image_shape: tuple[int, int, int]) -> Tokenizer:
        """Returns this network for images of another shape: sizes of grids follow it. Raises ValueError as they do."""
        if not isinstance(self.quantiser, ByScale):
            return self
        found: Tokenizer = self.clone(quantiser=self.quantiser.for_grid(grid_shape(self, image_shape)))
        return found

    def setup(self) -> None:
        self.use = CodeUse(self.codebook_size, books_of(self.quantiser), self.use_window)
        self.pre = self._joint(self.quantiser.dim)
        self.post = self._joint(self.post_features) if self.post_features else None

    def __call__(self, x: Image, key: PRNGKey | None = None) -> tuple[Float[Array, "b h w c"], Quantised]:
        """Reconstructs images: [B H W C] -> [B H W C], not clipped, and their codes; with a key as in training"""
        quantised = self.quantise(x, key)
        return self.decode_vectors(quantised.vectors, x.shape[-1]), quantised

    def quantise(self, x: Image, key: PRNGKey | None = None) -> Quantised:
        """Encodes and quantises images: [B H W C] -> codes [B *code_shape] with their vectors

        With a key, as in training, the metrics say how much of the codebook is in use.
        """
        quantised = self.quantiser(self.vectors(x), key)
        use = self.use(quantised.codes) if key is not None or self.is_initializing() else {}
        return quantised._replace(metrics={**quantised.metrics, **use})

    def vectors(self, x: Image) -> Vectors:
        """Encodes images as what the quantiser is given: [B H W C] -> [B H/factor W/factor D]"""
        return self.pre(self.encoder(x))

    def decode_vectors(self, vectors: Vectors, channels: int) -> Float[Array, "b h w c"]:
        """Decodes the vectors of codes: [B H/factor W/factor D] -> [B H W channels], not clipped"""
        return self.decoder(vectors if self.post is None else self.post(vectors), channels)

    def decode(self, codes: Codes, channels: int) -> Float[Array, "b h w c"]:
        """Decodes codes: [B *code_shape] -> [B H W channels], not clipped"""
        return self.decode_vectors(self.quantiser.lookup(codes), channels)

    def next_inputs(self, codes: Codes) -> Float[Array, "b m d"]:
        """Returns what the grids so far tell of each next one: [B M] -> [B M' D]. Raises TypeError where none is."""
        if not isinstance(self.quantiser, ByScale):
            raise TypeError(f"a {type(self.quantiser).__name__} has a single grid of codes: there is no next one")
        return self.quantiser.next_inputs(codes)

    def _joint(self, features: int) -> nn.Conv:
        return nn.Conv(features, (self.joint, self.joint), dtype=compute_dtype(self.dtype))


def grid_shape(network: Tokenizer, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Returns the height and width of an image's codes. Raises ValueError where the encoder does not divide its sides.

    The error names the nearest sizes that it does divide.
    """
    return divided(image_shape, network.encoder.factor)


def divided(image_shape: tuple[int, int, int], factor: int) -> tuple[int, int]:
    """Returns an image's height and width over `factor`. Raises ValueError, naming the nearest sizes, for others."""
    height, width, _ = image_shape
    if height % factor or width % factor:
        uneven = [side for side in (height, width) if side % factor]
        near = {max(factor, side // factor * factor + more) for side in uneven for more in (0, factor)}
        raise ValueError(
            f"model.image_shape={height}x{width}: this encoder makes one code of {factor}x{factor} pixels, so both "
            f"sides must be multiples of {factor}, such as {' or '.join(map(str, sorted(near)))}; or change the "
            "encoder's halvings"
        )
    return height // factor, width // factor


def psnr(x: Image, y: Float[Array, "b h w c"]) -> Scalar:
    """Returns the mean over rows of the peak signal-to-noise ratio, in dB, of images in [-1, 1] and reconstructions."""
    error = jnp.mean((jnp.clip(y, -1, 1) - x) ** 2, axis=(1, 2, 3))
    return jnp.mean(10 * jnp.log10(4 / jnp.maximum(error, 1e-10)))


def trained_call(
    network: TokenizerNetwork, variables: Variables, x: Image, key: PRNGKey
) -> tuple[Any, Quantised, Variables]:
    """Reconstructs images as in training: [B H W C] -> reconstructions, what the quantiser made, new collections"""
    (y, quantised), stats = network.apply(variables, x, key, mutable=["codebook"])
    return y, quantised, stats

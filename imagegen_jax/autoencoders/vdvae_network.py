"""The network of the very deep VAE (Child 2020, arXiv 2011.10650, section 3): latents from coarse to fine.

On the way up, residual blocks see the image at one size after another. On the way down, each block draws a grid of
latents from the prior that follows from all latents before it; in training, from a posterior that sees the way up at
its size too. `levels` has a row a size, from the image's to 1 pixel, with the authors' block strings so:

    enc_blocks  "32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3"      dec_blocks  "1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21"

    size   blocks up                blocks down
    32     12  (32x11,32d2)         22  (32m16,32x21)
    16     7   (16x6,16d2)          11  (16m8,16x10)
    8      7   (8x6,8d2)            6   (8m4,8x5)
    4      4   (4x3,4d4)            3   (4m1,4x2)
    1      3   (1x3)                1   (1x1)

The last block up of a size shrinks the image to the next; what posteriors see is before it. Before the first block down
of a size, the size below is enlarged to it.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count, Positive
from imagegen_jax.nn.init import fan_in_uniform
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.resample import upsample_nearest

Map = Float[Array, "b s s c"]
Level = tuple[Count, Count, Count]  # height and width, blocks up, blocks down


class Terms(NamedTuple):
    """What latents cost, in nats a row; zeros where they are drawn from the prior."""

    kl: Float[Array, " b"]  # KL(q(z|x) || p(z)), of a block given the latents before it, summed over blocks
    log_ratio: Float[Array, " b"]  # log q(z|x) - log p(z) at the latents that were drawn


class Bottleneck(nn.Module):
    """Four convolutions, each after a GELU: to `middle` channels, two among these, and to `features`.

    Windows are of 3 pixels, at sizes up to 2 of one. The last kernel starts smaller by the root of `depth`, or at 0.
    """

    middle: int
    features: int
    depth: int = 1  # 0: the last kernel starts at 0
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Returns [B S S features]."""
        window = 3 if x.shape[1] > 2 else 1
        for i, size in enumerate((1, window, window)):
            x = conv(nn.gelu(x, approximate=False), self.middle, size, self.dtype, f"conv_{i}")
        return conv(nn.gelu(x, approximate=False), self.features, 1, self.dtype, "out", self.depth)


class Drawing(nn.Module):
    """A block down: draws latents, adds what they tell to the features, and what the prior tells."""

    middle: int
    latent_channels: int
    depth: int  # blocks down, of all sizes
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Map, seen: Map | None, noise: Float[Array, "b s s d"]) -> tuple[Map, Terms]:
        """Returns new features, and the terms of this block: [B S S C], [B S S C] or None, [B S S D] -> [B S S C].

        z = mu + sigma * noise, of the posterior where it is given what the way up has `seen`, or else of the prior.
        """
        d, width = self.latent_channels, x.shape[-1]
        prior = Bottleneck(self.middle, 2 * d + width, 0, self.dtype, name="prior")(x).astype(jnp.float32)
        mu, log_sigma, more = jnp.split(prior, (d, 2 * d), axis=-1)
        if seen is None:
            terms = Terms(*jnp.zeros((2, len(x))))
            z = mu + jnp.exp(log_sigma) * noise
        else:
            both = jnp.concatenate([x, seen], axis=-1)
            posterior = Bottleneck(self.middle, 2 * d, 1, self.dtype, name="posterior")(both).astype(jnp.float32)
            mu_q, log_q = jnp.split(posterior, 2, axis=-1)
            z = mu_q + jnp.exp(log_q) * noise
            terms = compared(z, noise, mu_q, log_q, mu, log_sigma)
        x = x + more + conv(z, width, 1, self.dtype, "told", self.depth)
        return x + Bottleneck(self.middle, width, self.depth, self.dtype, name="residual")(x), terms


class TopDownNetwork(nn.Module):
    """The ways up and down, between images and what a distribution of pixels wants; the defaults are CIFAR-10's."""

    levels: tuple[Level, ...] = ((32, 12, 22), (16, 7, 11), (8, 7, 6), (4, 4, 3), (1, 3, 1))  # from fine to coarse
    width: Count = 384
    latent_channels: Count = 16
    bottleneck: Positive = 0.25  # of the width: channels inside of blocks
    largest_constant: Count = 64  # sizes up to it begin with learned features, larger ones with zeros
    dtype: Dtype = "auto"

    @property
    def latent_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Gives the height, width and channels of each block's latents, as they are drawn one after another."""
        return tuple((size, size, self.latent_channels) for size, _, down in self.levels[::-1] for _ in range(down))

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raises ValueError where the levels are not those of images of that shape."""
        sizes = [size for size, _, _ in self.levels]
        if not sizes or image_shape[:2] != (sizes[0], sizes[0]):
            raise ValueError(
                f"network.levels begin with {sizes[:1]}: must be the side of square images, not {image_shape}"
            )
        for fine, coarse in zip(sizes, sizes[1:], strict=False):
            if fine <= coarse or fine % coarse:
                raise ValueError(f"network.levels of sizes {sizes}: {fine} is no multiple of {coarse}, or not larger")

    @nn.compact
    def __call__(
        self, noise: tuple[Float[Array, "b s s d"], ...], outputs: int, x: Float[Array, "b h w c"] | None = None
    ) -> tuple[Float[Array, "b h w o"], Terms]:
        """Returns `outputs` numbers a pixel, float32, with latents of the posterior of `x`, or without it of the prior.

        `noise` has a standard normal array a block, of `latent_shapes`; smaller ones draw at a lower temperature.
        """
        seen = {} if x is None else self._up(x)
        rows, noises = len(noise[0]), iter(noise)
        depth, kl, log_ratio = len(self.latent_shapes), [], []
        h = None
        for size, _, down in self.levels[::-1]:
            h = self._enlarged(h, size, rows)
            for i in range(down):
                block = Drawing(self._middle, self.latent_channels, depth, self.dtype, name=f"down_{size}_{i}")
                h, terms = block(h, seen.get(size), next(noises))
                kl.append(terms.kl)
                log_ratio.append(terms.log_ratio)
        gain = self.param("gain", nn.initializers.ones_init(), (self.width,))
        h = h * gain + self.param("bias", nn.initializers.zeros_init(), (self.width,))
        return conv(h, outputs, 1, "float32", "out"), Terms(sum(kl), sum(log_ratio))

    def _up(self, x: Float[Array, "b h w c"]) -> dict[int, Map]:
        """Returns what is seen of images at each size."""
        h, seen = conv(x, self.width, 3, self.dtype, "in").astype(jnp.float32), {}
        depth = sum(up for _, up, _ in self.levels)
        coarser = [size for size, _, _ in self.levels[1:]]
        for (size, up, _), below in zip(self.levels, [*coarser, None], strict=True):
            seen[size] = h
            for i in range(up):
                h = h + Bottleneck(self._middle, self.width, depth, self.dtype, name=f"up_{size}_{i}")(h)
                if below is None or i < up - 1:
                    seen[size] = h
            h = h if below is None else pooled(h, size // below)
        return seen

    def _enlarged(self, below: Map | None, size: int, rows: int) -> Map:
        """Returns the features that a size begins with: those of the size below, and learned ones."""
        h = jnp.zeros((rows, size, size, self.width))
        if size <= self.largest_constant:
            h = h + self.param(f"constant_{size}", nn.initializers.zeros_init(), (size, size, self.width))
        return h if below is None else h + upsample_nearest(below, size // below.shape[1])

    @property
    def _middle(self) -> int:
        return max(1, int(self.width * self.bottleneck))


def conv(x: Map, features: int, window: int, dtype: Dtype, name: str, depth: int = 1) -> Map:
    """Convolves; the kernel starts as torch's over the root of `depth`, or at 0 for a `depth` of 0, the bias at 0."""
    start = fan_in_uniform(window**2 * x.shape[-1] * depth)["kernel_init"] if depth else nn.initializers.zeros_init()
    return nn.Conv(features, (window, window), dtype=compute_dtype(dtype), kernel_init=start, name=name)(x)


def pooled(x: Map, factor: int) -> Map:
    """Returns the means of squares of `factor` pixels' side."""
    return nn.avg_pool(x, (factor, factor), strides=(factor, factor))


def compared(z: Map, noise: Map, mu_q: Map, log_q: Map, mu_p: Map, log_p: Map) -> Terms:
    """Returns the terms of normal latents of q beside p, `log_q` and `log_p` being logarithms of deviations.

    KL(q || p) = log sigma_p / sigma_q + (sigma_q^2 + (mu_q - mu_p)^2) / (2 sigma_p^2) - 1/2, summed over a row.
    """
    axes = tuple(range(1, z.ndim))
    ratio, shift = jnp.exp(2 * (log_q - log_p)), (mu_q - mu_p) * jnp.exp(-log_p)
    kl = log_p - log_q + 0.5 * (ratio + shift**2 - 1)
    log_ratio = log_p - log_q + 0.5 * (((z - mu_p) * jnp.exp(-log_p)) ** 2 - noise**2)
    return Terms(jnp.sum(kl, axes), jnp.sum(log_ratio, axes))

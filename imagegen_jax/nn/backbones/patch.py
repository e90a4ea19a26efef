"""PatchGAN (Isola et al. 2017, arXiv 1611.07004, section 3.2.2): a discriminator that judges patches of an image."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count, Natural, NonNegative
from imagegen_jax.nn.norm import BatchNorm, Norm, instance_norm
from imagegen_jax.nn.precision import Dtype, compute_dtype

weight_init = nn.initializers.normal(0.02)


class PatchDiscriminator(nn.Module):
    """Convolutions alone: each output sees 70x70 pixels, with 2 halvings 34x34, with 1 16x16 (appendix 6.1.2).

    The layout is that of the authors' code: the first layer has no norm, and layers before a batch norm have no bias.
    An instance norm has no weights and cancels the biases before it, but published parameter counts include these.
    """

    width: Count = 64  # channels of the first layer; they double with each further one, up to 8 times as many
    halvings: Natural = 3
    norm: Norm = "batch"
    slope: NonNegative = 0.2  # of the leaky rectifier
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = True) -> Float[Array, "b hh ww"]:
        """Judges patches of images: [B H W C] in [-1, 1] -> [B H' W'] logits, high for real

        Raises ValueError where the image is too small for that many halvings.
        """
        check_patches(x.shape[1], x.shape[2], self.halvings)
        for layer in range(self.halvings + 1):
            bias = layer == 0 or self.norm == "instance"
            x = self._convolve(x, self.width * min(2**layer, 8), 2 if layer < self.halvings else 1, bias)
            if layer > 0 and self.norm == "batch":
                x = BatchNorm(self.dtype)(x, train)
            elif layer > 0:
                x = instance_norm(self.dtype)(x)
            x = nn.leaky_relu(x, self.slope)
        return self._convolve(x, 1, 1, bias=True)[..., 0].astype("float32")

    def _convolve(self, x: Float[Array, "b h w c"], features: int, stride: int, bias: bool) -> Float[Array, "b h w d"]:
        return nn.Conv(
            features,
            (4, 4),
            (stride, stride),
            padding=((1, 1), (1, 1)),
            use_bias=bias,
            kernel_init=weight_init,
            dtype=compute_dtype(self.dtype),
        )(x)


def check_patches(height: int, width: int, halvings: int) -> None:
    """Raises ValueError where an image has no patch left after `halvings` and two layers that take a row each."""
    side = min(height, width)
    most = max((n for n in range(side.bit_length()) if side // 2**n >= 3), default=-1)
    if halvings < 0 or halvings > most:
        remedy = f"use at most {most}" if most >= 0 else "use larger images"
        raise ValueError(f"halvings={halvings} of a discriminator of patches, for images of {height}x{width}: {remedy}")

"""The discriminator of MaskGIT's tokenizer: StyleGAN2's residual one (Karras et al. 2020, arXiv 1912.04958), plain.

Its rates are not equalised, it looks at no deviation within the batch, and its blurs come after its convolutions.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count, NonNegative
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.upfirdn import downsample

SMALLEST = 4  # height and width that images are halved to
xavier = nn.initializers.xavier_uniform()


class BlurredDiscriminator(nn.Module):
    """Judges images as a whole: residual blocks blur and halve them, down to 4x4.

    Channels double with each halving from `width` to at most `widest`; the defaults are those for 256x256.
    """

    width: Count = 64
    widest: Count = 512
    slope: NonNegative = 0.2  # of the leaky rectifier
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = True) -> Float[Array, " b"]:
        """Judges images: [B H W C] in [-1, 1] -> [B] logits, high for real

        Raises ValueError for images that cannot be halved to a shorter side of 4.
        """
        halvings = _halvings(x.shape[1], x.shape[2])
        x = self._activate(self._conv(self.width, "conv_in")(x))
        for level in range(1, halvings + 1):
            x = self._halve(x, min(self.width * 2**level, self.widest), level)
        x = self._activate(self._conv(self.widest, "conv_out")(x)).reshape(len(x), -1)
        x = self._activate(nn.Dense(self.widest, dtype=compute_dtype(self.dtype), kernel_init=xavier, name="dense")(x))
        return nn.Dense(1, dtype=jnp.float32, kernel_init=xavier, name="logit")(x)[:, 0]

    def _halve(self, x: Float[Array, "b h w c"], features: int, level: int) -> Float[Array, "b h//2 w//2 d"]:
        h = downsample(self._activate(self._conv(x.shape[-1], f"conv_{level}_0")(x)))
        around = self._conv(features, f"skip_{level}", side=1, bias=False)(downsample(x))
        return (around + self._activate(self._conv(features, f"conv_{level}_1")(h))) / math.sqrt(2)

    def _conv(self, features: int, name: str, side: int = 3, bias: bool = True) -> nn.Conv:
        dtype = compute_dtype(self.dtype)
        return nn.Conv(features, (side, side), use_bias=bias, kernel_init=xavier, dtype=dtype, name=name)

    def _activate(self, x: Array) -> Array:
        return nn.leaky_relu(x, self.slope)


def _halvings(height: int, width: int) -> int:
    """Returns how often an image is halved. Raises ValueError where a side becomes odd on the way."""
    count = int(math.log2(min(height, width) / SMALLEST)) if min(height, width) >= SMALLEST else 0
    if min(height, width) != SMALLEST * 2**count or height % 2**count or width % 2**count:
        raise ValueError(
            f"images of {height}x{width}: a BlurredDiscriminator halves them until the shorter side is {SMALLEST}: use "
            "sides such as 64, 128 or 256, or a PatchDiscriminator"
        )
    return count

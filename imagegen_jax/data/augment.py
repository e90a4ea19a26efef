"""Random changes of images and of their sources inside `jit`, the same for both where they are pairs."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import fold_rows
from imagegen_jax.core.config.bounds import Positive, Share
from imagegen_jax.core.model import Batch, PRNGKey, PRNGKeys


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Random jitter (Isola et al. 2017, arXiv 1611.07004, section 6.2): images are enlarged, cropped and mirrored.

    Images of 256 pixels grow to 286, and a window of the old size is cut out at a random place. The key of the row
    decides; an image and its source get the same jitter, or each its own where they are not `together`. With a `scale`
    of 1 they are only mirrored.
    """

    scale: Positive = 286 / 256
    flip: Share = 0.5  # probability of mirroring left to right
    together: bool = True

    def __post_init__(self) -> None:
        if self.scale < 1 or not 0 <= self.flip <= 1:
            raise ValueError(f"scale={self.scale}, flip={self.flip}: must be at least 1, and from 0 to 1")

    def __call__(self, batch: Batch, keys: PRNGKeys) -> Batch:
        changed = dict(batch)
        for index, name in enumerate(name for name in ("image", "source") if name in batch):
            own = keys if self.together else fold_rows(keys, index)
            changed[name] = jax.vmap(self._one)(batch[name], own)
        return changed

    def _one(self, image: Float[Array, "h w c"], key: PRNGKey) -> Float[Array, "h w c"]:
        height, width, channels = image.shape
        grown = (round(height * self.scale), round(width * self.scale))
        top_key, left_key, flip_key = jax.random.split(key, 3)
        top = jax.random.randint(top_key, (), 0, grown[0] - height + 1)
        left = jax.random.randint(left_key, (), 0, grown[1] - width + 1)
        large = jax.image.resize(image, (*grown, channels), "bilinear")
        window = jax.lax.dynamic_slice(large, (top, left, 0), image.shape)
        return jnp.where(jax.random.bernoulli(flip_key, self.flip), window[:, ::-1], window)

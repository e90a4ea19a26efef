"""The U-Net of latent diffusion by a class: its embedding is the only token (Rombach et al. 2022, arXiv 2112.10752)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from imagegen_jax.core.config.bounds import Count
from imagegen_jax.nn.backbones.conditioning import NOTHING, Conditioning, check_seen
from imagegen_jax.nn.backbones.latent_unet import LatentUNet


class ClassTokens(nn.Module):
    """A network that attends to one token, the embedding of the image's class; the defaults are those of LDM-4.

    With `dropped` there is a further embedding, the last, for a label that is dropped, as guidance needs.
    """

    network: LatentUNet = LatentUNet(192, (1, 2, 3, 5), 2, (0, 1, 1, 1), heads=1)
    features: Count = 512  # of the embedding
    dropped: bool = True

    @property
    def needed(self) -> tuple[str, ...]:
        """The labels."""
        return ("labels",)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Num[Array, " b"], conditioning: Conditioning = NOTHING
    ) -> Float[Array, "b h w c"]:
        """Predicts for `x` at times `t` of 0 to 999: [B H W C], [B] -> [B H W C] in float32.

        Raises ValueError where labels are missing, and as the `network` does.
        """
        check_seen(self, conditioning, "source", needed=self.needed)
        labels = jnp.asarray(conditioning.labels)
        if self.dropped:
            labels = jnp.concatenate([labels, 1 - labels.sum(axis=1, keepdims=True)], axis=1)
        table = self.param("class", nn.initializers.normal(1.0), (labels.shape[1], self.features))
        token = jnp.matmul(labels, table, precision=jax.lax.Precision.HIGHEST)
        return self.network(x, t, conditioning._replace(labels=None, tokens=token[:, None]))

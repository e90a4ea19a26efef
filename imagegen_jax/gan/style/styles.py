"""Styles in training: two latents' mixed in one image, and the moving mean of all."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.core.model import PRNGKey, PRNGKeys

Style = Float[Array, "b d"]


def mix(first: Style, second: Style, keys: PRNGKeys, share: float, layers: int) -> Float[Array, "b l d"]:
    """Returns a style for each layer; in a `share` of the images, those from a random layer on are the second.

    Elsewhere the first is in all layers.

    The random layer is any but the first, all equally likely (Karras et al. 2019, arXiv 1812.04948, section 3.1).
    """

    def cut(key: PRNGKey) -> Float[Array, ""]:
        at_key, chance_key = jax.random.split(key)
        at = jax.random.randint(at_key, (), 1, layers)
        return jnp.where(jax.random.bernoulli(chance_key, share), at, layers)

    swapped = jnp.arange(layers) >= jax.vmap(cut)(keys)[:, None]
    return jnp.where(swapped[..., None], second[:, None], first[:, None])


def follow(mean: Float[Array, " d"], styles: Style, decay: float) -> Float[Array, " d"]:
    """Returns the moving mean of styles after a batch of them."""
    return decay * mean + (1 - decay) * jnp.mean(styles, axis=0)


def truncate(styles: Style, mean: Float[Array, " d"], psi: float | Float[Array, " n"]) -> Style:
    """w' = mean + psi (w - mean), one psi for all or one a row (Karras et al. 2019, arXiv 1812.04948, appendix B)."""
    return mean + jnp.reshape(jnp.asarray(psi), (-1, 1)) * (styles - mean)

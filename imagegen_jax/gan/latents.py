"""What a trained style-based generator does with its styles: grids of mixed styles, and of truncation."""

from __future__ import annotations

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.model import Image, Nets, PRNGKeys

Latents = Float[Array, "n z"]


class StyleBased(Protocol):
    """A model whose images are made of styles, one for each layer."""

    @property
    def layers(self) -> int:
        """How many styles an image has."""
        ...

    def styles(
        self,
        nets: Nets,
        z: Latents,
        label: Int[Array, " n"] | None = None,
        truncation: float | Float[Array, " n"] = 1.0,
    ) -> Float[Array, "n l d"]:
        """The styles of latents."""
        ...

    def synthesise(self, nets: Nets, w: Float[Array, "n l d"], keys: PRNGKeys | None = None) -> Image:
        """Images of styles; without keys, with the constant noise."""
        ...


def mixing_grid(
    model: StyleBased, nets: Nets, rows: Latents, columns: Latents, start: int, end: int, truncation: float = 1.0
) -> Float[Array, "r c h w k"]:
    """Image (r, c) has the styles of row r, but in layers `start` to `end` - 1 those of column c.

    As Figure 3 of Karras et al. 2019 (arXiv 1812.04948): the first 4 layers are coarse, the next 4 middle. Raises
    ValueError where there are no such layers.
    """
    if not 0 <= start < end <= model.layers:
        raise ValueError(f"layers {start} to {end - 1}: this model has layers 0 to {model.layers - 1}")
    of_rows, of_columns = (model.styles(nets, z, truncation=truncation) for z in (rows, columns))
    layer = jnp.arange(model.layers)[:, None]
    w = jnp.where((start <= layer) & (layer < end), of_columns[None], of_rows[:, None])
    return _images(model, nets, w)


def truncation_sweep(
    model: StyleBased, nets: Nets, z: Latents, psis: Float[Array, " p"], label: Int[Array, " n"] | None = None
) -> Float[Array, "n p h w k"]:
    """Image (n, p) is of latent n, truncated to `psis`[p]; below 0 are its opposites (arXiv 1812.04948, Figure 8)."""
    w = model.styles(nets, z, label)[:, None]
    mean = model.styles(nets, z, label, truncation=0.0)[:, None]
    return _images(model, nets, mean + psis[:, None, None] * (w - mean))


def _images(model: StyleBased, nets: Nets, w: Float[Array, "n m l d"]) -> Float[Array, "n m h w k"]:
    images = model.synthesise(nets, w.reshape(-1, *w.shape[2:]))
    return jnp.clip(images, -1, 1).reshape(*w.shape[:2], *images.shape[1:])

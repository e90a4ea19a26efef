"""Images of given latents and styles: rendered in batches, or as grids of mixed and truncated styles.

Every model that is `core.capabilities.FromLatents` makes images from latents z, rows of a standard normal; a
style-based one first maps them to styles w, one for each layer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays import shard
from imagegen_jax.core.capabilities import DrawsLatents, FromLatents, Latents, StyleBased, Styles
from imagegen_jax.core.config.given import check_integer
from imagegen_jax.core.drawing.finite import check_finite_images, to_bytes
from imagegen_jax.core.model import Batch, Nets, PRNGKey


def latent_model(model: object) -> FromLatents:
    """Returns `model` itself. Raises TypeError where its images are not made from latents."""
    if not isinstance(model, FromLatents):
        raise TypeError(
            f"a {type(model).__name__} does not make its images of latents alone: this is for models with "
            "`generate`, such as DCGAN, BigGAN, StyleGAN2 and VAE"
        )
    return model


def style_model(model: object) -> StyleBased:
    """Returns `model` itself. Raises TypeError where its images are not made from styles."""
    if not isinstance(model, StyleBased):
        able = "; interpolation in z and directions work with it" if isinstance(model, FromLatents) else ""
        raise TypeError(f"a {type(model).__name__} has no styles: this is for models like StyleGAN2{able}")
    return model


def draw(model: FromLatents, key: PRNGKey, n: int, conditions: Batch) -> Latents:
    """Draws `n` latents as `sample` does."""
    if isinstance(model, DrawsLatents):
        return model.latents(key, n, conditions)
    return jax.random.normal(key, (n, model.latent_dim))


def check_layers(start: int, end: int, layers: int) -> None:
    """Raises ValueError unless `start` to `end` - 1 are some of `layers` layers."""
    if not 0 <= start < end <= layers:
        raise ValueError(f"layers {start} to {end - 1}: this model has layers 0 to {layers - 1}")


# --- images ----------------------------------------------------------------------------------------------------------


def render(
    model: FromLatents, nets: Nets, rows: Mapping[str, Array | np.ndarray], chunk: int = 64
) -> Iterator[UInt8[np.ndarray, "m h w c"]]:
    """Makes the images of rows of styles "w", or else of latents "z".

    Latents come with conditions, which are rows too, or scalars.

    Images are made in order, `chunk` at a time, by one compiled program on the devices that hold the networks. Raises
    NonFiniteError where an image is not finite.
    """
    mesh, n = shard.mesh_of(nets), len(rows["w" if "w" in rows else "z"])
    size = -(-min(check_integer(chunk, "chunk"), n) // mesh.size) * mesh.size  # a whole number of rows on each device
    make = compiling.jit(functools.partial(_images, model), out_shardings=shard.batch_sharding(mesh))
    host = {name: np.asarray(values) for name, values in rows.items()}
    for start in range(0, n, size):
        index = np.minimum(np.arange(start, start + size), n - 1)
        part = {name: values[index] if values.ndim else values for name, values in host.items()}
        images, finite = (np.asarray(values)[: n - start] for values in make(nets, part))
        check_finite_images(finite, nets)
        yield images


def _images(model: FromLatents, nets: Nets, rows: Batch) -> tuple[UInt8[Array, "n h w c"], Bool[Array, " n"]]:
    if "w" in rows:
        return to_bytes(style_model(model).synthesise(nets, rows["w"]))
    return to_bytes(model.generate(nets, rows["z"], rows))


# --- grids -----------------------------------------------------------------------------------------------------------


def mixed(of_rows: Float[Array, "r l d"], of_columns: Float[Array, "c l d"], start: int, end: int) -> Array:
    """Mixes styles: the rows', but the columns' in layers `start` to `end` - 1: [R L D], [C L D] -> [R C L D].

    Raises ValueError where there are no such layers.
    """
    check_layers(start, end, of_rows.shape[1])
    layer = jnp.arange(of_rows.shape[1])[:, None]
    return jnp.where((start <= layer) & (layer < end), of_columns[None], of_rows[:, None])


def truncated(w: Styles, mean: Styles, psis: Float[Array, " p"]) -> Float[Array, "n p l d"]:
    """Returns mean + psi (w - mean) for each of `psis`, which may be any numbers; those below 0 make opposites."""
    return mean[:, None] + psis[:, None, None] * (w - mean)[:, None]


def mixing_grid(
    model: StyleBased, nets: Nets, rows: Latents, columns: Latents, start: int, end: int, truncation: float = 1.0
) -> Float[Array, "r c h w k"]:
    """Makes a grid: image (r, c) has the styles of row r, but those of column c in layers `start` to `end` - 1.

    It is like Figure 3 of Karras et al. 2019 (arXiv 1812.04948): the first 4 layers are coarse, the next 4 middle.
    Raises ValueError where there are no such layers.
    """
    of_rows, of_columns = (model.styles(nets, z, truncation=truncation) for z in (rows, columns))
    return _grid(model, nets, mixed(of_rows, of_columns, start, end))


def truncation_sweep(
    model: StyleBased, nets: Nets, z: Latents, psis: Float[Array, " p"], label: Int[Array, " n"] | None = None
) -> Float[Array, "n p h w k"]:
    """Makes a grid: image (n, p) is of latent n, truncated to `psis[p]` (arXiv 1812.04948, Figure 8).

    Values below 0 make opposites.
    """
    w, mean = (model.styles(nets, z, label, truncation) for truncation in (1.0, 0.0))
    return _grid(model, nets, truncated(w, mean, psis))


def _grid(model: StyleBased, nets: Nets, w: Float[Array, "n m l d"]) -> Float[Array, "n m h w k"]:
    images = model.synthesise(nets, w.reshape(-1, *w.shape[2:]))
    return jnp.clip(images, -1, 1).reshape(*w.shape[:2], *images.shape[1:])

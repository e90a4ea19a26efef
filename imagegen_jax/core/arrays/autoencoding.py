"""Images as the latents of a frozen autoencoder, for every model that works in their space.

A model in such a space is one of latents: its losses and its `init` see batches of these alone. Where data are images,
they are encoded here, once a step, before any phase, and each latent is drawn from its posterior. Data may be latents
as well (`data.Latents`, which `imagegen encode` makes), which costs less.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import normal_rows
from imagegen_jax.core.arrays.space import AUTOENCODER, OfImages, autoencoder_of, check_space, space_of
from imagegen_jax.core.capabilities import EncodesLatents, Moments
from imagegen_jax.core.model import Batch, Image, Nets, PRNGKey, PRNGKeys, Variables


def drawn_latents(model: object, nets: Nets, batch: Batch, keys: PRNGKeys, parts: int = 1) -> Batch:
    """Returns a batch with draws of latents in the place of "image": of those of its images, or of given moments.

    Data with a "std" are moments of latents, whatever the model knows of their autoencoder. Of a model without one,
    all other batches stay as they are. Images are encoded in so many `parts`, one after the other, to save memory.
    """
    autoencoder = autoencoder_of(model)
    if "image" not in batch or (autoencoder is None and "std" not in batch):
        return batch
    mean, std = batch["image"], batch.get("std")
    if autoencoder is not None and _are_images(autoencoder, batch):
        mean, std = _encoded(autoencoder, nets, mean, parts)
    drawn = mean if std is None else mean + std * normal_rows(keys, mean.shape[1:])
    return _without_moments(batch, stop_gradient(drawn))


def init(model: object, key: PRNGKey, nets: Nets) -> dict[str, Variables]:
    """Returns the networks of a model with that of its space's autoencoder, made afresh, where there is one."""
    autoencoder = autoencoder_of(model)
    fresh = {} if autoencoder is None else {AUTOENCODER: autoencoder.init_autoencoder(jax.random.fold_in(key, 1))}
    return {**nets, **fresh}


def example(model: OfImages, batch: Batch) -> Batch:
    """Returns a batch with zeros of the shape of latents in the place of "image", for a model's `init`.

    Raises ValueError where it holds neither images nor latents of the autoencoder, or the model is of other ones.
    """
    autoencoder = autoencoder_of(model)
    if autoencoder is None or "image" not in batch:
        return batch
    check_space(model)
    given, shape = tuple(batch["image"].shape[1:]), tuple(autoencoder.latent_shape)
    if given != shape and not _are_images(autoencoder, batch):
        raise ValueError(
            f"the data are of {_text(given)} (height x width x channels), but model.space.autoencoder, a "
            f"{type(autoencoder).__name__}, has images of {_text(autoencoder.image_shape)} and latents of "
            f"{_text(shape)}: change the data's size and channels, or the autoencoder"
        )
    return _without_moments(batch, jnp.zeros((len(batch["image"]), *shape)))


def into_space(model: object, nets: Nets, image: Image) -> Float[Array, "b h w c"]:
    """Encodes images into the space that a model denoises in: by the means of their latents, if it has latents.

    Of a model of latents without an autoencoder `image` are latents.
    """
    autoencoder = autoencoder_of(model)
    return space_of(model).encode(image if autoencoder is None else autoencoder.encode(nets, image).mean)


def _encoded(autoencoder: EncodesLatents, nets: Nets, image: Image, parts: int) -> Moments:
    """Encodes images in parts whose rows are interleaved, as those of microbatches: each device keeps its own."""
    if parts == 1:
        return autoencoder.encode(nets, image)
    rows = image.reshape(-1, parts, *image.shape[1:]).swapaxes(0, 1)
    found = jax.lax.map(functools.partial(autoencoder.encode, nets), rows)
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), found)


def _are_images(autoencoder: EncodesLatents, batch: Batch) -> bool:
    """Tells images from latents, by their shape; where both have the same one, they are images without a "std"."""
    return "std" not in batch and batch["image"].shape[1:] == tuple(autoencoder.image_shape)


def _without_moments(batch: Batch, latents: Float[Array, "b h w c"]) -> Mapping[str, Array]:
    return {**{name: leaf for name, leaf in batch.items() if name != "std"}, "image": latents}


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))

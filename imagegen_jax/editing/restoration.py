"""Whole edits of images by a model that denoises: the programs that `imagegen edit` compiles.

Each is a function (model, nets, given, key) -> images [B H W C]; its settings, given by name, shape the program. All
that may change from call to call is in `given`, as arrays: "image" [B ...] in [-1, 1], "conditions" as `sample` takes
them, and others that an edit names below. One `program` thus serves every seed, label and strength of guidance. With a
model of latents whose space has their autoencoder, images given are encoded and those made are decoded; what is said of
pixels themselves, such as their means, cannot be asked of it. Without an autoencoder, the images given and made are
latents, and known values are encoded like them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.autoencoding import into_space
from imagegen_jax.core.arrays.space import Space, autoencoder_of, sample_shape, space_of
from imagegen_jax.core.capabilities import Denoising
from imagegen_jax.core.model import Generative, Image, Nets, PRNGKey
from imagegen_jax.core.platform.target import cached_by_platform
from imagegen_jax.diffusion.process.denoiser import clipped
from imagegen_jax.diffusion.sampling.multistep import Euler
from imagegen_jax.diffusion.sampling.solver import Solver
from imagegen_jax.editing import denoiser as editing
from imagegen_jax.editing import inverse_problems as inverse

Given = Mapping[str, Any]
Edit = Callable[..., Image]

NOISE = {  # methods that solve y = A x, with the deviation of y's noise that each assumes by default
    "pigdm": 2 / 255 / 12**0.5,  # of rounding to 8 bits
    "dps": 0.2,  # with less it may overshoot and diverge, since it ignores how unsure the estimates are
}


@cached_by_platform
def program(edit: Edit, model: Denoising, **settings: Any) -> Callable[[Nets, Given, PRNGKey], Image]:
    """Returns `edit` by `model` with its settings, compiled at the first call; equal arguments give one object."""
    return compiling.jit(functools.partial(edit, model, **settings))


def inpainted(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, solver: Solver) -> Image:
    """Draws anew all that is not "known" [H W 1], by `denoiser.inpaint`."""
    denoise, image, known = model.denoiser(nets, given["conditions"]), given["image"], given["known"]
    x_0, known_in_space = image, known
    if autoencoder_of(model) is not None:  # which would see some of what is hidden
        x_0, known_in_space = jnp.where(known, image, _mean_known(image, known)), _whole_cells(model, known)
    x_0 = into_space(model, nets, x_0)
    found = editing.inpaint(solver, denoise, model.path.sigmas, x_0, known_in_space, key)
    return jnp.where(known, image, space_of(model).decode(found, nets))


def _mean_known(image: Image, known: Any) -> Image:
    """Returns the mean of the known pixels of each image: [B 1 1 C]"""
    shares = jnp.broadcast_to(known, (*image.shape[:3], 1)).astype(image.dtype)
    return jnp.sum(image * shares, axis=(1, 2), keepdims=True) / jnp.sum(shares, axis=(1, 2), keepdims=True)


def _whole_cells(model: Denoising, known: Any) -> Any:
    """Tells for each latent whether all of its pixels are known: [H W 1] -> [h w 1]"""
    (height, width, _), (rows, columns, _) = sample_shape(model), model.image_shape
    cells = jnp.reshape(known, (rows, height // rows, columns, width // columns, 1))
    return jnp.all(cells, axis=(1, 3))


def completed(model: Generative, nets: Nets, given: Given, key: PRNGKey) -> Image:
    """Draws anew all that is not "known" [H W 1], by a model that does so itself: see `capabilities.completes`."""
    image = given["image"]
    known = jnp.broadcast_to(given["known"], (*image.shape[:3], 1))
    return model.sample(nets, key, len(image), {**given["conditions"], "image": image, "known": known})


def filled(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, method: str) -> Image:
    """Does what `inpainted` does, by a `method` of `NOISE`."""
    image, known = given["image"], given["known"]
    operator = inverse.masked(known)
    found = _solved(model, nets, {**given, "image": operator.forward(image)}, key, operator, method)
    return jnp.where(known, image, found)


def redrawn(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, strength: float) -> Image:
    """Adds noise to the images and removes it again, by `denoiser.sdedit`."""
    denoise, x_0 = model.denoiser(nets, given["conditions"]), into_space(model, nets, given["image"])
    found = editing.sdedit(model.path.solver, denoise, model.path.sigmas, x_0, strength, key)
    return space_of(model).decode(found, nets)


def resembling(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, factor: int) -> Image:
    """Draws other images with the same means of `factor` x `factor` pixels.

    It uses `inverse_problems.refined` at levels above "low". Raises ValueError as `check_of_pixels` does.
    """
    check_of_pixels(model, "means of pixels")
    space, (noise_key, draw_key) = space_of(model), jax.random.split(key)
    noise = jax.random.normal(noise_key, given["image"].shape)
    denoise, x_0 = model.denoiser(nets, given["conditions"]), space.encode(given["image"])
    denoise = inverse.refined(denoise, x_0, inverse.pooled(factor), noise, given["low"])
    return space.decode(model.path.draw(denoise, noise.shape, draw_key), nets)


def enlarged(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, factor: int, method: str) -> Image:
    """Draws images whose means of `factor` x `factor` pixels are given, with noise of the deviation "noise"."""
    return _solved(model, nets, given, key, inverse.pooled(factor), method)


def coloured(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, method: str) -> Image:
    """Draws images whose means over channels [B H W 1] are given, with noise of the deviation "noise".

    Raises ValueError for latents whose space scales each channel by its own number.
    """
    return _solved(model, nets, given, key, inverse.grey(model.image_shape[2]), method)


def deblurred(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, method: str) -> Image:
    """Draws images that are given blurred by the "kernel" [k l], of sum 1, with noise of the deviation "noise"."""
    return _solved(model, nets, given, key, inverse.blurred(given["kernel"]), method)


def _solved(model: Denoising, nets: Nets, given: Given, key: PRNGKey, operator: inverse.Linear, method: str) -> Image:
    """Draws images that `operator` maps to what is given; an operator must leave constant images constant.

    Raises ValueError as `check_of_pixels` does.
    """
    check_of_pixels(model, f"what method {method!r} is told of pixels")
    denoise, space = model.denoiser(nets, given["conditions"]), space_of(model)
    y, deviation = _encoded(space, given["image"], given["noise"])
    if method == "dps":
        guided = inverse.dps(denoise, y, operator.forward, deviation)
    else:
        guided = inverse.pigdm(denoise, y, operator, deviation)
    if space.clips:
        # Near pure noise, where flows begin, sigma^2 times a gradient magnifies the errors of the network's slope.
        guided = clipped(guided)
    return space.decode(model.path.draw(guided, (len(y), *model.image_shape), key), nets)


def check_of_pixels(model: Denoising, what: str) -> None:
    """Raises ValueError for a model of an autoencoder's latents, by which what is asked cannot be followed."""
    if autoencoder_of(model) is not None:
        raise ValueError(
            f"a {type(model).__name__} of an autoencoder's latents cannot follow {what}: use a run of a model of "
            "pixels; redraw, morph, reclass and inpaint (--method repaint or replacement) work with this one"
        )


def _encoded(space: Space, y: Image, deviation: Any) -> tuple[Image, Any]:
    """Encodes what is known of images, and the deviation of its noise, into the space that is denoised."""
    encoded, ends = space.encode(y), jnp.zeros((2, 1, 1, y.shape[-1])).at[1].set(1)
    if encoded.shape != y.shape:
        raise ValueError(f"{space}: grey is of images whose channels are alike: give numbers for all channels")
    return encoded, deviation * jnp.diff(space.encode(ends), axis=0)[0]


def inverted(model: Denoising, nets: Nets, given: Given, key: PRNGKey) -> Image:
    """Finds the noise that leads to the images, in the space that is denoised, by `denoiser.invert`; uses no key."""
    x_0 = into_space(model, nets, given["image"])
    return editing.invert(model.denoiser(nets, given["conditions"]), model.path.sigmas, x_0)


def morphed(model: Denoising, nets: Nets, given: Given, key: PRNGKey) -> Image:
    """Makes images from between the noises "image" and "other", at the "share" [B] of the second.

    It goes the way of `inverted` back.
    """
    x = editing.interpolate(given["image"], given["other"], given["share"])
    drawn = Euler()(model.denoiser(nets, given["conditions"]), model.path.sigmas, x, key)
    return space_of(model).decode(drawn, nets)


def bridged(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, strength: float) -> Image:
    """Takes images from the conditions "source" to the "conditions", by `denoiser.bridge`; uses no key."""
    source, target = (model.denoiser(nets, given[name]) for name in ("source", "conditions"))
    found = editing.bridge(source, target, model.path.sigmas, into_space(model, nets, given["image"]), strength)
    return space_of(model).decode(found, nets)

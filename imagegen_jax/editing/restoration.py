"""Whole edits of images by a model that denoises: the programs that `imagegen edit` compiles.

Each is a function (model, nets, given, key) -> images [B H W C]; its settings, given by name, shape the program. All
that may change from call to call is in `given`, as arrays: "image" [B ...] in [-1, 1], "conditions" as `sample` takes
them, and others that an edit names below. One `program` thus serves every seed, label and strength of guidance. With a
model of latents, the images given and made are latents, and known values are encoded like them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.space import Space, space_of
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
    denoise, space = model.denoiser(nets, given["conditions"]), space_of(model)
    found = editing.inpaint(solver, denoise, model.path.sigmas, space.encode(given["image"]), given["known"], key)
    return jnp.where(given["known"], given["image"], space.decode(found, nets))


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
    denoise, space = model.denoiser(nets, given["conditions"]), space_of(model)
    x_0 = space.encode(given["image"])
    return space.decode(editing.sdedit(model.path.solver, denoise, model.path.sigmas, x_0, strength, key), nets)


def resembling(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, factor: int) -> Image:
    """Draws other images with the same means of `factor` x `factor` pixels.

    It uses `inverse_problems.refined` at levels above "low".
    """
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
    """Draws images that `operator` maps to what is given; an operator must leave constant images constant."""
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


def _encoded(space: Space, y: Image, deviation: Any) -> tuple[Image, Any]:
    """Encodes what is known of images, and the deviation of its noise, into the space that is denoised."""
    encoded, ends = space.encode(y), jnp.zeros((2, 1, 1, y.shape[-1])).at[1].set(1)
    if encoded.shape != y.shape:
        raise ValueError(f"{space}: grey is of images whose channels are alike: give numbers for all channels")
    return encoded, deviation * jnp.diff(space.encode(ends), axis=0)[0]


def inverted(model: Denoising, nets: Nets, given: Given, key: PRNGKey) -> Image:
    """Finds the noise that leads to the images, in the space that is denoised, by `denoiser.invert`; uses no key."""
    x_0 = space_of(model).encode(given["image"])
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
    space = space_of(model)
    found = editing.bridge(source, target, model.path.sigmas, space.encode(given["image"]), strength)
    return space.decode(found, nets)

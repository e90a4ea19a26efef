"""Edits of images by a model that denoises, whole: what `imagegen edit` compiles.

Each is a function (model, nets, given, key) -> images [B H W C], with settings that shape the program by name. All that
may change from call to call is in `given`, as arrays: "image" [B ...] in [-1, 1], "conditions" as `sample` takes them,
and what else an edit names below. So one `program` serves every seed, label and strength of guidance.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.capabilities import Denoising
from imagegen_jax.core.model import Image, Nets, PRNGKey
from imagegen_jax.diffusion import editing, inverse
from imagegen_jax.diffusion.denoiser import clipped
from imagegen_jax.diffusion.multistep import Euler
from imagegen_jax.diffusion.solver import Solver

Given = Mapping[str, Any]
Edit = Callable[..., Image]

NOISE = {  # methods that solve y = A x, and the deviation of y's noise that each takes where none is given
    "pigdm": 2 / 255 / 12**0.5,  # of rounding to 8 bits
    "dps": 0.2,  # with less it may overshoot and diverge, as it leaves out how unsure the estimates are
}


@functools.lru_cache(maxsize=32)
def program(edit: Edit, model: Denoising, **settings: Any) -> Callable[[Nets, Given, PRNGKey], Image]:
    """`edit` by `model` with its settings, to be compiled at the first call; the same object for the same arguments."""
    return compiling.jit(functools.partial(edit, model, **settings))


def inpainted(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, solver: Solver) -> Image:
    """What is not "known" [H W 1] is drawn anew, by `editing.inpaint`."""
    denoise = model.denoiser(nets, given["conditions"])
    return editing.inpaint(solver, denoise, model.path.sigmas, given["image"], given["known"], key)


def filled(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, method: str) -> Image:
    """As `inpainted`, by a `method` of `NOISE`."""
    image, known = given["image"], given["known"]
    operator = inverse.masked(known)
    found = _solved(model, nets, {**given, "image": operator.forward(image)}, key, operator, method)
    return jnp.where(known, image, found)


def redrawn(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, strength: float) -> Image:
    """By `editing.sdedit`."""
    denoise = model.denoiser(nets, given["conditions"])
    return editing.sdedit(model.path.solver, denoise, model.path.sigmas, given["image"], strength, key)


def resembling(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, factor: int) -> Image:
    """Other images with the same means of `factor` x `factor` pixels: `inverse.refined` at levels above "low"."""
    noise_key, draw_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, given["image"].shape)
    denoise = model.denoiser(nets, given["conditions"])
    denoise = inverse.refined(denoise, given["image"], inverse.pooled(factor), noise, given["low"])
    return model.path.draw(denoise, noise.shape, draw_key)


def enlarged(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, factor: int, method: str) -> Image:
    """Images whose means of `factor` x `factor` pixels are given, with noise of the deviation "noise"."""
    return _solved(model, nets, given, key, inverse.pooled(factor), method)


def coloured(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, method: str) -> Image:
    """Images whose means over channels [B H W 1] are given, with noise of the deviation "noise"."""
    return _solved(model, nets, given, key, inverse.grey(model.image_shape[2]), method)


def deblurred(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, method: str) -> Image:
    """Images that are given blurred with the "kernel" [k l], with noise of the deviation "noise"."""
    return _solved(model, nets, given, key, inverse.blurred(given["kernel"]), method)


def _solved(model: Denoising, nets: Nets, given: Given, key: PRNGKey, operator: inverse.Linear, method: str) -> Image:
    denoise, y = model.denoiser(nets, given["conditions"]), given["image"]
    if method == "dps":
        guided = inverse.dps(denoise, y, operator.forward, given["noise"])
    else:
        guided = inverse.pigdm(denoise, y, operator, given["noise"])
    # Near pure noise, as where flows begin, sigma^2 times a gradient multiplies the errors of the network's slope.
    return model.path.draw(clipped(guided), (len(y), *model.image_shape), key)


def inverted(model: Denoising, nets: Nets, given: Given, key: PRNGKey) -> Image:
    """The noise that leads to the images, by `editing.invert`; it has no use for the key."""
    return editing.invert(model.denoiser(nets, given["conditions"]), model.path.sigmas, given["image"])


def morphed(model: Denoising, nets: Nets, given: Given, key: PRNGKey) -> Image:
    """The way back from `inverted`, from between the noises "image" and "other" at the "share" [B] of the second."""
    x = editing.interpolate(given["image"], given["other"], given["share"])
    return Euler()(model.denoiser(nets, given["conditions"]), model.path.sigmas, x, key)


def bridged(model: Denoising, nets: Nets, given: Given, key: PRNGKey, *, strength: float) -> Image:
    """From the conditions "source" to the "conditions", by `editing.bridge`; it has no use for the key."""
    source, target = (model.denoiser(nets, given[name]) for name in ("source", "conditions"))
    return editing.bridge(source, target, model.path.sigmas, given["image"], strength)

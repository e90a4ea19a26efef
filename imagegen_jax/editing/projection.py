"""Projection of images to styles (Karras et al. 2020, arXiv 1912.04958, appendix D): the w that makes an image.

Each image is optimised by itself, with one style for all layers. The noise maps stay constant. The paper optimises them
too, which its regularisation of the noise serves; here there is none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.capabilities import Latents, StyleBased, Styles
from imagegen_jax.core.model import Image, Nets, PRNGKey, Scalar
from imagegen_jax.core.reporting.progress import Progress
from imagegen_jax.editing.latents import draw

Distance = Callable[[Image, Image], Float[Array, " n"]]  # row by row, differentiable in the first

MEAN_SAMPLES = 10_000  # latents behind the mean and the spread of w
NOISE = 0.05  # of w at the start, in sigma_w
NOISE_SHARE, UP_SHARE, DOWN_SHARE = 0.75, 0.05, 0.25  # of the steps: with noise, the rate rising, and falling
REPORT_EVERY = 50  # steps between two looks at the distance; each look waits for the device

_adam = optax.scale_by_adam()


class Projected(NamedTuple):
    """The style found for each image, and how near it comes."""

    w: Styles
    image: Image  # of w, clipped
    distance: Float[Array, " n"]  # from that image to the target
    start: Float[Array, " n"]  # the same for the mean style, where the search began


def project(
    model: StyleBased,
    nets: Nets,
    target: Image,
    distance: Distance,
    key: PRNGKey,
    label: int | None = None,
    steps: int = 1000,
    rate: float = 0.1,
    quiet: bool = False,
) -> Projected:
    """Finds the styles of the images nearest to each of `target`, in [-1, 1], by `steps` of Adam from the mean style.

    `distance` is a function, or a `jax.tree_util.Partial` that binds its weights, which are then not compiled in.
    `label` is the class of the mean style to begin with, `rate` the largest learning rate (lambda_max); `key` draws the
    latents for the mean and the noise on w. Raises ValueError for targets without the shape of the model's images,
    fewer than one step, or a rate that is not above 0.
    """
    if steps < 1 or not 0 < rate < math.inf:
        raise ValueError(f"steps={steps}, rate={rate}: at least one step, and a rate above 0")
    if target.ndim != 4 or not len(target) or tuple(target.shape[1:]) != tuple(model.image_shape):
        raise ValueError(f"target of shape {tuple(target.shape)}: must be [n, *{tuple(model.image_shape)}], n above 0")
    of_mean, of_noise = jax.random.split(key)
    mean, sigma = style_statistics(model, nets, of_mean, label)
    w = jnp.repeat(mean[None], len(target), axis=0)
    distance = distance if isinstance(distance, Partial) else Partial(distance)
    look, step = (compiling.jit(functools.partial(function, model)) for function in (_look, _step))
    _, start = look(nets, w, target, distance)
    adam = _adam.init(w)
    with Progress("projection", steps, "steps", quiet=quiet) as shown:
        for i in range(steps):
            scales = rate * learning_rate(i / steps), sigma * noise_strength(i / steps)
            w, adam, found = step(nets, w, adam, target, distance, jax.random.fold_in(of_noise, i), *scales)
            if i % REPORT_EVERY == 0:
                shown.also(distance=f"{float(found.mean()):.4g}")
            shown.add()
    image, end = look(nets, w, target, distance)
    return Projected(_of_all_layers(model, w), image, end, start)


def style_statistics(
    model: StyleBased, nets: Nets, key: PRNGKey, label: int | None = None
) -> tuple[Float[Array, " d"], Scalar]:
    """Estimates mu_w = E[f(z)] and sigma_w = E[|f(z) - mu_w|^2]^(1/2), from 10,000 latents (of a given class)."""

    @compiling.jit
    def statistics(nets: Nets, z: Latents) -> tuple[Array, Scalar]:
        labels = None if label is None else jnp.full(len(z), label)
        w = model.styles(nets, z, labels)[:, 0]
        mean = jnp.mean(w, axis=0)
        return mean, jnp.sqrt(jnp.mean(jnp.sum((w - mean) ** 2, axis=1)))

    return statistics(nets, draw(model, key, MEAN_SAMPLES, {}))


def learning_rate(t: float) -> float:
    """Returns the rate at share `t` of the steps, relative to the largest.

    It goes up along a line, stays at its largest, and comes down along half a cosine.
    """
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / DOWN_SHARE))
    return down * min(1.0, t / UP_SHARE)


def noise_strength(t: float) -> float:
    """Returns the deviation of the noise on w, in sigma_w, at share `t` of the steps.

    It is 0.05 t'^2, where t' falls from 1 to 0 over the first three quarters.
    """
    return NOISE * max(0.0, 1 - t / NOISE_SHARE) ** 2


def _step(
    model: StyleBased,
    nets: Nets,
    w: Float[Array, "n d"],
    adam: optax.OptState,
    target: Image,
    distance: Distance,
    key: PRNGKey,
    rate: Scalar,
    noise: Scalar,
) -> tuple[Float[Array, "n d"], optax.OptState, Float[Array, " n"]]:
    """Takes a step; returns w and Adam's state after it, and the distances before."""
    blurred = w + noise * jax.random.normal(key, w.shape)

    def loss(w: Float[Array, "n d"]) -> tuple[Scalar, Float[Array, " n"]]:
        found = distance(model.synthesise(nets, _of_all_layers(model, w)), target)
        return jnp.sum(found), found

    gradient, found = jax.grad(loss, has_aux=True)(blurred)
    update, adam = _adam.update(gradient, adam)
    return w - rate * update, adam, found


def _look(
    model: StyleBased, nets: Nets, w: Float[Array, "n d"], target: Image, distance: Distance
) -> tuple[Image, Float[Array, " n"]]:
    """Returns the images of w, clipped, and their distances."""
    image = jnp.clip(model.synthesise(nets, _of_all_layers(model, w)), -1, 1)
    return image, distance(image, target)


def _of_all_layers(model: StyleBased, w: Float[Array, "n d"]) -> Styles:
    return jnp.repeat(w[:, None], model.layers, axis=1)

"""Style transfer: an image with the content of one picture and the style of another, by MobileNetV1's features.

The style is the distribution of features at all places of a layer, compared by sliced Wasserstein distances (Heitz et
al. 2021, arXiv 2006.07229) or by Gram matrices (Gatys et al. 2016, CVPR); the content is where a deeper layer has which
features. The image is a sum of levels of a pyramid, so that large and small structures move alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.model import PRNGKey, Scalar
from imagegen_jax.core.platform.target import cached_by_platform
from imagegen_jax.metrics.scores.textures import gram
from imagegen_jax.nn.backbones.mobilenet import before_relu6

Picture = Float[Array, "h w 3"]  # in [-1, 1]
Weights = Mapping[str, Array]
Pyramid = tuple[Float[Array, "h w 3"], ...]

LAYERS = (0, 1, 3, 5)  # of the style: conv1, conv_pw_1, conv_pw_3, conv_pw_5
CONTENT_LAYER = 5
OTHER_LAYERS = (2, 4, 6, 8)  # which no loss looks at, to judge by
LEVELS = (1, 2, 4, 8)  # parts of the image's size
EDGE = 0.98  # pixels begin no nearer to black and white, where tanh has no slope
LEAST = 32  # pixels of a side, of which CONTENT_LAYER leaves 4


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What is minimised, and how."""

    steps: int = 100
    content_weight: float = 0.3
    loss: Literal["wasserstein", "gram"] = "wasserstein"
    smoothness: float = 0.02  # weight of the squared differences of neighbouring pixels
    rate: float = 0.02  # of Adam at the start; it falls to a tenth along half a cosine
    directions: int = 32  # that features are projected to in each step
    side: int = 64  # rows and columns of places, at most, that one-dimensional distributions are compared at


class Target(NamedTuple):
    """What an image is compared with: features of the style, Gram matrices or vectors; features of the content."""

    style: tuple[Array, ...]  # one for each of LAYERS
    content: Picture


class Step(NamedTuple):
    """The image after a step, and the loss before it."""

    image: Picture
    loss: Scalar


def transferred(weights: Weights, content: Picture, style: Picture, transfer: Transfer, key: PRNGKey) -> Iterator[Step]:
    """Yields the image after each of `transfer.steps` steps that give `content` the style of `style`.

    `weights` are MobileNetV1's; the images may have different sizes. Raises ValueError for one below 32 pixels.
    """
    for name, picture in (("content", content), ("style", style)):
        if min(picture.shape[:2]) < LEAST:
            raise ValueError(
                f"the {name} has {picture.shape[0]}x{picture.shape[1]} pixels: features need {LEAST} or more: "
                "give a larger picture"
            )
    target, step = Target(_style_of(weights, style, transfer), content), _step_of(transfer)
    height, width = content.shape[:2]
    pyramid: Pyramid = tuple(jnp.zeros((-(-height // part), -(-width // part), 3)) for part in LEVELS)
    adam = _optimiser(transfer).init(pyramid)
    for i in range(transfer.steps):
        pyramid, adam, found = step(weights, target, pyramid, adam, jax.random.fold_in(key, i))
        yield found


def _style_of(weights: Weights, style: Picture, transfer: Transfer) -> tuple[Array, ...]:
    @compiling.jit
    def features(weights: Weights, style: Picture) -> tuple[Array, ...]:
        layers = before_relu6(weights, style[None], max(LAYERS))
        if transfer.loss == "gram":
            return tuple(gram(layers[layer]) for layer in LAYERS)
        return tuple(_places(layers[layer], transfer.side) for layer in LAYERS)

    found: tuple[Array, ...] = features(weights, style)
    return found


def _optimiser(transfer: Transfer) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(transfer.rate, transfer.steps, 0.1))


@cached_by_platform
def _step_of(transfer: Transfer):  # type: ignore[no-untyped-def]
    optimiser = _optimiser(transfer)

    def step(
        weights: Weights, target: Target, pyramid: Pyramid, adam: optax.OptState, key: PRNGKey
    ) -> tuple[Pyramid, optax.OptState, Step]:
        value, gradient = jax.value_and_grad(_loss, argnums=1)(transfer, pyramid, weights, target, key)
        update, adam = optimiser.update(gradient, adam)
        pyramid = optax.apply_updates(pyramid, update)
        return pyramid, adam, Step(_image_of(pyramid, target.content), value)

    return compiling.jit(step)


def _loss(transfer: Transfer, pyramid: Pyramid, weights: Weights, target: Target, key: PRNGKey) -> Scalar:
    """Sums up the distances of style, of content and between neighbours, the image moved by up to 3 pixels."""
    of_shift, of_directions = jax.random.split(key)
    image = _image_of(pyramid, target.content)
    shift = jax.random.randint(of_shift, (2,), 0, 4)  # layers with strides see one phase of the pixels otherwise
    image, content = (jnp.roll(x, shift, (0, 1)) for x in (image, target.content))
    deepest = max(*LAYERS, CONTENT_LAYER)
    layers = before_relu6(weights, image[None], deepest)
    wanted = before_relu6(weights, content[None], CONTENT_LAYER)[CONTENT_LAYER]
    loss = transfer.content_weight * jnp.mean((layers[CONTENT_LAYER] - wanted) ** 2) / jnp.mean(wanted**2)
    for layer, style in zip(LAYERS, target.style, strict=True):
        if transfer.loss == "gram":
            loss += jnp.sum((gram(layers[layer]) - style) ** 2) / jnp.sum(style**2)
        else:
            places = _places(layers[layer], transfer.side)
            loss += sliced_wasserstein(places, style, jax.random.fold_in(of_directions, layer), transfer.directions)
    down, right = image[1:] - image[:-1], image[:, 1:] - image[:, :-1]
    return loss + transfer.smoothness * (jnp.mean(down**2) + jnp.mean(right**2))


def _image_of(pyramid: Pyramid, content: Picture) -> Picture:
    start = jnp.arctanh(jnp.clip(content, -EDGE, EDGE))
    return jnp.tanh(start + sum(jax.image.resize(level, content.shape, "cubic") for level in pyramid))


def _places(features: Float[Array, "1 h w c"], side: int) -> Float[Array, "n c"]:
    """Takes vectors of features at a grid of at most about `side` x `side` places."""
    every = tuple(max(1, size // side) for size in features.shape[1:3])
    return features[0, :: every[0], :: every[1]].reshape(-1, features.shape[-1])


def sliced_wasserstein(a: Float[Array, "n c"], b: Float[Array, "m c"], key: PRNGKey, directions: int = 32) -> Scalar:
    """Estimates the squared sliced Wasserstein distance of two sets of vectors, by random `directions`.

    In one dimension the distance is that of sorted values (Eq. 3 of arXiv 2006.07229); where the sets differ in size,
    the second's are interpolated at the quantiles of the first.
    """
    axes = jax.random.normal(key, (a.shape[-1], directions))
    axes /= jnp.linalg.norm(axes, axis=0)
    wanted = _quantiles(jnp.sort((b @ axes).T, axis=1), len(a))
    return _sorted_distance((a @ axes).T, jax.lax.stop_gradient(wanted))


def _quantiles(values: Float[Array, "k m"], n: int) -> Float[Array, "k n"]:
    m = values.shape[1]
    if m == n:
        return values
    at = jnp.clip((jnp.arange(n) + 0.5) * m / n - 0.5, 0, m - 1)
    low = jnp.floor(at).astype(int)
    share = at - low
    return values[:, low] * (1 - share) + values[:, jnp.minimum(low + 1, m - 1)] * share


@jax.custom_vjp
def _sorted_distance(values: Float[Array, "k n"], wanted: Float[Array, "k n"]) -> Scalar:
    return jnp.mean((jnp.sort(values, axis=1) - wanted) ** 2)


def _forward(values: Array, wanted: Array) -> tuple[Scalar, tuple[Array, Array]]:
    order = jnp.argsort(values, axis=1)
    difference = jnp.take_along_axis(values, order, 1) - wanted
    return jnp.mean(difference**2), (order, difference)


def _backward(kept: tuple[Array, Array], slope: Scalar) -> tuple[Array, Array]:
    order, difference = kept
    rows = jnp.arange(len(order))[:, None]
    gradient = jnp.zeros_like(difference).at[rows, order].set(difference, unique_indices=True)
    scaled = slope * 2 * gradient / difference.size
    return scaled, jnp.zeros_like(scaled)


_sorted_distance.defvjp(_forward, _backward)

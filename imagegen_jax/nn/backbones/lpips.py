"""LPIPS's network (Zhang et al. 2018, arXiv 1801.03924): AlexNet or VGG-16, and what it makes of two images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Weights = Mapping[str, Array | np.ndarray]

SHIFT = (-0.030, -0.088, -0.188)  # ImageNet's mean and deviation, for images in [-1, 1]
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10
SMALLEST = {"alex": 31, "vgg": 16}  # smallest height and width that leave the last layer a position


class Layer(NamedTuple):
    """A convolution and the ReLU after it."""

    number: int  # in torchvision's `features`
    features: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0  # size of the maximum with stride 2 before it
    tap: bool = False  # whether its output is compared


TOWERS: dict[str, tuple[Layer, ...]] = {
    "alex": (
        Layer(0, 64, 11, 4, 2, tap=True),
        Layer(3, 192, 5, 1, 2, pool=3, tap=True),
        Layer(6, 384, pool=3, tap=True),
        Layer(8, 256, tap=True),
        Layer(10, 256, tap=True),
    ),
    "vgg": (
        *(Layer(0, 64), Layer(2, 64, tap=True)),
        *(Layer(5, 128, pool=2), Layer(7, 128, tap=True)),
        *(Layer(10, 256, pool=2), Layer(12, 256), Layer(14, 256, tap=True)),
        *(Layer(17, 512, pool=2), Layer(19, 512), Layer(21, 512, tap=True)),
        *(Layer(24, 512, pool=2), Layer(26, 512), Layer(28, 512, tap=True)),
    ),
}


def shapes(tower: str) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each weight by its name, in torch's layout [out in height width]."""
    found: dict[str, tuple[int, ...]] = {}
    before = 3
    for layer in TOWERS[tower]:
        found[f"features.{layer.number}.weight"] = (layer.features, before, layer.kernel, layer.kernel)
        found[f"features.{layer.number}.bias"] = (layer.features,)
        before = layer.features
    taps = [layer.features for layer in TOWERS[tower] if layer.tap]
    return found | {f"lin{i}.model.1.weight": (1, features, 1, 1) for i, features in enumerate(taps)}


def distance(
    tower: str, weights: Weights, a: Float[Array, "n h w 3"], b: Float[Array, "n h w 3"]
) -> Float[Array, " n"]:
    """d(a, b) = sum over layers l of the mean over positions of w_l . (a_l - b_l)^2   (Eq. 1)

    a_l and b_l have unit length at each position. Both images are [N H W 3] in [-1, 1]; the result is [N], and
    differentiable, for losses.
    """
    total = jnp.zeros(len(a))
    for i, (a_l, b_l) in enumerate(zip(_taps(tower, weights, a), _taps(tower, weights, b), strict=True)):
        head = weights[f"lin{i}.model.1.weight"].reshape(-1)
        total += ((unit(a_l) - unit(b_l)) ** 2 * head).sum(3).mean((1, 2))
    return total


def _taps(tower: str, weights: Weights, x: Float[Array, "n h w 3"]) -> list[Float[Array, "n hh ww c"]]:
    x = (x - jnp.array(SHIFT)) / jnp.array(SCALE)
    found = []
    for layer in TOWERS[tower]:
        if layer.pool:
            window = (1, layer.pool, layer.pool, 1)
            x = lax.reduce_window(x, -jnp.inf, lax.max, window, (1, 2, 2, 1), "VALID")
        x = lax.conv_general_dilated(
            x,
            jnp.asarray(weights[f"features.{layer.number}.weight"]),
            (layer.stride, layer.stride),
            [(layer.padding, layer.padding)] * 2,
            dimension_numbers=("NHWC", "OIHW", "NHWC"),
            precision="highest",
        )
        x = jax.nn.relu(x + weights[f"features.{layer.number}.bias"])
        if layer.tap:
            found.append(x)
    return found


def unit(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Returns x / (|x| + 1e-10) over the channels, with gradient 0 where all are 0: the norm has none there."""
    squares = (x**2).sum(3, keepdims=True)
    positive = squares > 0
    return x / (jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0) + EPSILON)

"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861) up to its twelfth block, with Keras' names and layouts."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

BLOCKS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024)  # features of conv_pw_1 .. conv_pw_12
HALVED = (2, 4, 6, 12)  # blocks whose depthwise convolution has stride 2
EPSILON = 1e-3  # Keras' batch normalisation
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def shapes(blocks: int = len(BLOCKS)) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each weight of the first `blocks` blocks by its name."""
    found: dict[str, tuple[int, ...]] = {}

    def layer(name: str, kernel: str, shape: tuple[int, ...], features: int) -> None:
        found[f"{name}/{kernel}"] = shape
        found.update({f"{name}_bn/{x}": (features,) for x in ("gamma", "beta", "moving_mean", "moving_variance")})

    before = 32
    layer("conv1", "kernel", (3, 3, 3, before), before)
    for block, features in enumerate(BLOCKS[:blocks], 1):
        layer(f"conv_dw_{block}", "depthwise_kernel", (3, 3, before, 1), before)
        layer(f"conv_pw_{block}", "kernel", (1, 1, before, features), features)
        before = features
    return found


def activations(
    weights: Mapping[str, Array], x: Float[Array, "n h w 3"], blocks: int = len(BLOCKS)
) -> list[Float[Array, "n hh ww c"]]:
    """Returns the output of each of the first `blocks` blocks, for images [N H W 3] in [-1, 1]."""
    return [jax.nn.relu6(layer) for layer in before_relu6(weights, x, blocks)[1:]]


def before_relu6(
    weights: Mapping[str, Array], x: Float[Array, "n h w 3"], blocks: int = len(BLOCKS)
) -> list[Float[Array, "n hh ww c"]]:
    """Returns conv1 and the output of each of the first `blocks` blocks before their ReLU6, for images in [-1, 1].

    ReLU6 has no slope where it saturates, so that losses are better taken before it.
    """

    def normalised(name: str, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        gamma, beta, mean, variance = (
            weights[f"{name}_bn/{key}"] for key in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) * (gamma * lax.rsqrt(variance + EPSILON)) + beta

    found = [normalised("conv1", _conv(x, weights["conv1/kernel"], 2))]
    for block in range(1, blocks + 1):
        kernel = weights[f"conv_dw_{block}/depthwise_kernel"][..., 0]
        x = _depthwise(jax.nn.relu6(found[-1]), kernel, 2 if block in HALVED else 1)
        x = jax.nn.relu6(normalised(f"conv_dw_{block}", x))
        found.append(normalised(f"conv_pw_{block}", _conv(x, weights[f"conv_pw_{block}/kernel"], 1)))
    return found


def _conv(x: Float[Array, "n h w c"], kernel: Float[Array, "a b c o"], stride: int) -> Float[Array, "n hh ww o"]:
    # in full float32, since the errors of TF32 would enter the distance
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=DIMENSIONS, precision="highest"
    )


def _depthwise(x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c"], stride: int) -> Float[Array, "n hh ww c"]:
    """Convolves each channel with its own kernel, by nine shifts.

    XLA's grouped convolution takes 50 times as long on a CPU.
    """
    (top, bottom), (left, right) = lax.padtype_to_pads(x.shape[1:3], (3, 3), (stride, stride), "SAME")
    padded = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    h, w = (stride * (-(-size // stride) - 1) + 1 for size in x.shape[1:3])
    found = jnp.zeros(())
    for i in range(3):
        for j in range(3):
            found += padded[:, i : i + h : stride, j : j + w : stride] * kernel[i, j]
    return found

"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861) as a feature extractor: small, with free weights.

Distances between its features are named FD-MobileNet: they are not FID, and compare only with each other.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from imagegen_jax.metrics.features.extractor import Features, Network
from imagegen_jax.metrics.features.weights import read_weights, select

BLOCKS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024)  # features of conv_pw_1 .. conv_pw_12
HALVED = (2, 4, 6, 12)  # blocks whose depthwise convolution has stride 2
EPSILON = 1e-3  # Keras' batch normalisation
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def mobilenet(path: str | pathlib.Path, resize: str = "clean", size: int = 224) -> Network:
    """Makes MobileNetV1 up to its twelfth block, averaged over all positions: {"features": float32 [N 1024]}.

    Args:
      path: an `.npz` of Keras' weights of width 1.0, "conv1/kernel", "conv1_bn/gamma" ...,
        in Keras' layouts, or a folder with one such file. Weights beyond the twelfth block are not used.
      resize: one of `imagegen_jax.metrics.features.resize.KINDS`.
      size: height and width of the network's input; it was trained at 224.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is truncated, or weights are missing or have another shape; the `resize` is unknown.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.npz"))
        if len(files) != 1:
            raise FileNotFoundError(f"{path} holds {len(files)} .npz files: name the one with MobileNetV1's weights")
        path = files[0]
    return Network("FD-MobileNet", size, select(read_weights(path), shapes()), forward, resize=resize)


def shapes() -> dict[str, tuple[int, ...]]:
    """Returns the shape of each weight by its name."""
    found: dict[str, tuple[int, ...]] = {}

    def layer(name: str, kernel: str, shape: tuple[int, ...], features: int) -> None:
        found[f"{name}/{kernel}"] = shape
        found.update({f"{name}_bn/{x}": (features,) for x in ("gamma", "beta", "moving_mean", "moving_variance")})

    before = 32
    layer("conv1", "kernel", (3, 3, 3, before), before)
    for block, features in enumerate(BLOCKS, 1):
        layer(f"conv_dw_{block}", "depthwise_kernel", (3, 3, before, 1), before)
        layer(f"conv_pw_{block}", "kernel", (1, 1, before, features), features)
        before = features
    return found


def forward(weights: Mapping[str, Array], x: Float[Array, "n h w 3"]) -> Features:
    """Extracts features: [N H W 3] in [-1, 1] -> {"features": [N 1024]}"""

    def normalised(name: str, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        gamma, beta, mean, variance = (
            weights[f"{name}_bn/{key}"] for key in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return jax.nn.relu6((x - mean) * (gamma * lax.rsqrt(variance + EPSILON)) + beta)

    x = normalised("conv1", _conv(x, weights["conv1/kernel"], 2))
    for block in range(1, len(BLOCKS) + 1):
        kernel = weights[f"conv_dw_{block}/depthwise_kernel"][..., 0]
        x = normalised(f"conv_dw_{block}", _depthwise(x, kernel, 2 if block in HALVED else 1))
        x = normalised(f"conv_pw_{block}", _conv(x, weights[f"conv_pw_{block}/kernel"], 1))
    return {"features": x.mean((1, 2))}


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

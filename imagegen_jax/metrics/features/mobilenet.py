"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861) as a feature extractor: small, with free weights.

Distances between its features are named FD-MobileNet: they are not FID, and compare only with each other.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from jaxtyping import Array, Float

from imagegen_jax.metrics.features.extractor import Features, Network
from imagegen_jax.metrics.features.weights import read_weights, select
from imagegen_jax.nn.backbones.mobilenet import activations, shapes


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


def forward(weights: Mapping[str, Array], x: Float[Array, "n h w 3"]) -> Features:
    """Extracts features: [N H W 3] in [-1, 1] -> {"features": [N 1024]}"""
    return {"features": activations(weights, x)[-1].mean((1, 2))}

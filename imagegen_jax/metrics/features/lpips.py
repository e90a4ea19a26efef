"""LPIPS (Zhang et al. 2018, arXiv 1801.03924): a learned perceptual distance of two images, on AlexNet or VGG-16."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from imagegen_jax.core.arrays.image import to_float
from imagegen_jax.core.compile import jit
from imagegen_jax.metrics.features.weights import read_weights, select
from imagegen_jax.nn.backbones.lpips import SMALLEST, TOWERS, Weights, distance, shapes

Images = UInt8[np.ndarray | Array, "n h w 3"] | Float[np.ndarray | Array, "n h w 3"]


@dataclasses.dataclass(frozen=True, eq=False)
class LPIPS:
    """The distance with fixed weights, as `load` makes it."""

    tower: str
    weights: Weights

    def __call__(self, a: Images, b: Images) -> Float[Array, " n"]:
        """Measures pairs of colour images [N H W 3], uint8 or float in [-1, 1] -> distances, float32 [N], from 0 on.

        Raises ValueError for images of another or of unequal shape, too small ones (`SMALLEST`), and for NaN.
        """
        if min(a.shape[1:3], default=0) < SMALLEST[self.tower]:
            raise ValueError(
                f"images {list(a.shape)}: tower {self.tower!r} takes {SMALLEST[self.tower]} pixels or more"
            )
        for images in (a, b):
            if images.ndim != 4 or images.shape[3] != 3 or images.shape != a.shape:
                raise ValueError(f"images {list(a.shape)} and {list(b.shape)}: must be the same [n h w 3]")
            if np.issubdtype(images.dtype, np.floating) and bool(jnp.isnan(images).any()):
                raise ValueError("the images hold NaN")
        a, b = (to_float(jnp.asarray(x)) if x.dtype == np.uint8 else jnp.asarray(x, jnp.float32) for x in (a, b))
        return self._compiled(self._on_device, a, b)

    @functools.cached_property
    def _on_device(self) -> Weights:
        return jax.device_put(dict(self.weights))

    @functools.cached_property
    def _compiled(self) -> Callable[[Weights, Array, Array], Float[Array, " n"]]:
        return jit(functools.partial(distance, self.tower))


def load(tower: Literal["alex", "vgg"], tower_path: str | pathlib.Path, heads_path: str | pathlib.Path) -> LPIPS:
    """Makes LPIPS from files, each an `.npz` or a state dict of torch's.

    Args:
      tower: "alex", the paper's choice for evaluation, or "vgg", the better loss.
      tower_path: torchvision's AlexNet or VGG-16 ("features.0.weight", ...).
      heads_path: version 0.1's linear heads ("lin0.model.1.weight", ...), from richzhang/PerceptualSimilarity.

    Raises:
      FileNotFoundError: a file is missing; it says which.
      ValueError: the tower is unknown, or a file is truncated or has other weights.
    """
    if tower not in TOWERS:
        raise ValueError(f"tower {tower!r}: must be one of {', '.join(TOWERS)}")
    found = {name: array for path in (tower_path, heads_path) for name, array in read_weights(path).items()}
    return LPIPS(tower, select(found, shapes(tower)))
